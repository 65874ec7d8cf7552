"""pix2pix from label maps to frames (Isola et al., arXiv 1611.07004): a U-Net paints, a PatchGAN judges frame with labels.

Published: l1 times 100 + binary cross-entropy, Adam 2e-4 with 0.5 and 0.999, one frame per update, 200 epochs, the critic's
loss halved. With one frame the batch statistics are the frame's own, when painting too; and dropout stays on then.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.train.checkpoint import taxonomy_facts, taxonomy_of
from roadworthy.train.data import list_dataset
from roadworthy.train.data.frames import Frames, read_checked
from roadworthy.train.duel import (
    Duel,
    Progress,
    batch_places,
    check_folder,
    load_generator,
    run_duel,
    seeded,
    torch_threads,
)
from roadworthy.train.layout_space import LayoutSpace, grid
from roadworthy.train.models.convolution import crop
from roadworthy.train.models.layouts import discriminator_loss
from roadworthy.train.models.patchgan import PatchGan
from roadworthy.train.models.unet import UNetBody

DEPTH = 8  # down-sampling blocks of the generator for 256 pixels ("U-Net 256"), fewer for smaller frames
ENCODER_SLOPE, DROPPED_BLOCKS = 0.2, 3  # of the U-Net, appendix 6.1.1
SMALLEST_SIDE = 32  # [pixels]; PatchGAN needs 24
READING_SHARE = 0.05  # of the progress bar
SHOWN = 4  # frames in the picture of a training: labels, painted, real
KIND = "frames"  # what a generator's facts call it


@dataclass(frozen=True)
class TranslatorConfig:
    """What pairs to learn painting from, and how. The defaults are pix2pix's but for the number of updates."""

    data: str  # KIND:PATH, see train.data.open_dataset; its split "train" is learnt from
    size: tuple[int, int] = (128, 256)  # (height, width) [pixels]; pix2pix: 256x256
    width: int = 64  # channels of the U-Net's first block
    l1_weight: float = 100.0  # of the mean absolute difference beside the adversarial loss
    learning_rate: float = 2e-4  # of both players
    steps: int = 20_000  # updates of both players, one frame each
    seed: int = 0  # of weights, dropout and order
    threads: int | None = None  # of torch; None = its choice
    checkpoint_every: int = 500  # updates between resumable checkpoints
    tensorboard: bool = True  # write loss curves and pictures

    def __post_init__(self) -> None:
        """Check what can be checked without the data; raises `BadInput` naming the field."""
        for name in ("width", "steps", "checkpoint_every", "threads"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        for name in ("l1_weight", "learning_rate"):
            value = getattr(self, name)
            _require(self, name, math.isfinite(value) and value > 0, "a number above 0")
        _require(self, "seed", self.seed >= 0, "at least 0")
        _require(self, "size", min(self.size) >= SMALLEST_SIDE, f"sides of at least {SMALLEST_SIDE}")


class Translator(nn.Module):
    """Paint one-hot label maps `[B, K, H, W]`: frames `[B, 3, H, W]` from -1 to 1."""

    def __init__(self, channels: int, size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.depth = min(DEPTH, max(size).bit_length() - 1)  # the innermost map of a smaller frame is one pixel as well
        self.body = UNetBody(channels, 3, self.depth, width=width, slope=ENCODER_SLOPE, dropout=DROPPED_BLOCKS)

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, K, H, W]` -> `[B, 3, H, W]`."""
        hidden = self.body.expand(self.body.contract(maps, self.depth))  # [B, 2 * width, H/2, W/2]
        return torch.tanh(crop(self.body.last(hidden), *maps.shape[2:]))  # [B, 3, H, W]


class TranslationDuel(Duel):
    """Translator and PatchGAN."""

    def __init__(self, config: TranslatorConfig, frames: Frames) -> None:
        self.config, self.frames = config, frames
        self.space = LayoutSpace(frames.dataset.taxonomy, void=True)  # whatever the pairs have: a layout may have void
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            generator = Translator(self.space.channels, config.size, config.width)
            critic = PatchGan(3 + self.space.channels)
        own = {"data": config.data, "size": list(config.size), "width": config.width, "seed": config.seed}
        facts = {"kind": KIND, **own, **taxonomy_facts(self.space.taxonomy)}
        super().__init__(generator, critic, config.learning_rate, facts)

    def update(self, number: int) -> dict[str, Tensor]:
        """Update the critic, then the translator, on the frame of this update; returns the losses."""
        (place,) = batch_places(len(self.frames), 1, self.config.seed, number)
        maps, real = self._pair(int(place))
        with torch.random.fork_rng():
            torch.manual_seed(seeded(self.config.seed, 1, number).initial_seed())  # of dropout
            fake = self.generator(maps)  # [1, 3, H, W]
        judged = 0.5 * discriminator_loss(self._judge(real, maps), self._judge(fake.detach(), maps))
        self.learn("critic", judged)
        with self.frozen_critic():
            logits = self._judge(fake, maps)  # [1, h, w]
            fooled = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
            distance = F.l1_loss(fake, real)
            self.learn("generator", fooled + self.config.l1_weight * distance)
        return {"critic": judged, "generator": fooled, "l1": distance}

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return labels, painted and real frames side by side."""
        shown = []
        for place in np.linspace(0, len(self.frames) - 1, min(SHOWN, len(self.frames))).astype(int):
            sample = self.frames[int(place)]
            painted = paint(self.generator, self.space, sample.labels, 0)
            shown += [self.space.taxonomy.colourise(sample.labels), painted, sample.image]
        return grid(np.stack(shown), columns=3)

    def _judge(self, frames: Tensor, maps: Tensor) -> Tensor:
        logits: Tensor = self.critic(torch.cat((frames, maps), 1))  # [B, 3 + K, H, W] -> [B, h, w]
        return logits

    def _pair(self, place: int) -> tuple[Tensor, Tensor]:
        sample = self.frames[place]
        real = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 127.5 - 1  # [H, W, 3] -> [1, 3, H, W]
        return self.space.encode(sample.labels[None]), real


def paint(translator: nn.Module, space: LayoutSpace, labels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Paint a frame `uint8 [H, W, 3]` onto labels `uint8 [H, W]` (255 = void), with the frame's own statistics and dropout.

    The translator is left as it was: its running statistics are put back.
    """
    kept = {name: value.clone() for name, value in translator.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        frame: Tensor = translator(space.encode(labels[None]))[0]  # [1, K, H, W] -> [3, H, W]
        for name, value in translator.named_buffers():
            value.copy_(kept[name])
    values = ((frame.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)  # [3, H, W] -> [H, W, 3]
    return values.to(torch.uint8).numpy()


def train_translator(config: TranslatorConfig, output: Path, *, progress: Progress | None = None, resume: bool = False) -> Path:
    """Train as `config` says and return the run folder `output`; resumable as `train_layouts` is, and with its errors."""
    plain = dataclasses.asdict(config) | {"size": list(config.size)}
    if check_folder(output, plain, resume=resume):
        return output
    report: Progress = progress if progress is not None else lambda text, fraction: None
    dataset = list_dataset(config.data, "train")
    (frames,) = read_checked([dataset], config.size, lambda text, done: report(text, READING_SHARE * done))
    with torch_threads(config.threads):
        run_duel(
            TranslationDuel(config, frames),
            output,
            plain,
            steps=config.steps,
            checkpoint_every=config.checkpoint_every,
            tensorboard=config.tensorboard,
            progress=lambda text, done: report(text, READING_SHARE + (1 - READING_SHARE) * done),
        )
    return output


@dataclass(frozen=True)
class TranslatorModel:
    """A trained translator on the CPU."""

    translator: Translator
    space: LayoutSpace
    size: tuple[int, int]  # (height, width) [pixels]


def load_translator(run: Path) -> TranslatorModel:
    """Load the translator of a finished run. Raises `BadInput` when it is not one."""
    built: list[TranslatorModel] = []

    def build(facts: Mapping[str, Any]) -> nn.Module:
        if facts["kind"] != KIND:
            raise BadInput(f"{run}: a generator of {facts['kind']}, expected one of {KIND}")
        space = LayoutSpace(taxonomy_of(facts), void=True)
        height, width = (int(side) for side in facts["size"])
        config = TranslatorConfig(str(facts["data"]), (height, width), int(facts["width"]))
        translator = Translator(space.channels, config.size, config.width)
        built.append(TranslatorModel(translator, space, config.size))
        return translator

    load_generator(run, build)
    return built[0]


def _require(config: TranslatorConfig, name: str, condition: bool, expected: str) -> None:
    if not condition:
        raise BadInput(f"translator option {name} is {getattr(config, name)!r}, expected {expected}")
