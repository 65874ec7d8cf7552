"""SemGAN: label maps from noise ("Adversarial pixel-level generation of semantic images"), and the plain GAN beside it.

The generator ends in a softmax over the classes, the discriminator sees one-hot maps of real layouts and those probabilities;
the generator matches the discriminator's features, the discriminator learns by binary cross-entropy (appendix B). With `rgb`
the very same networks make pictures in the classes' colours: the paper's baseline.
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
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.checkpoint import taxonomy_facts, taxonomy_of
from roadworthy.train.data import list_dataset
from roadworthy.train.data.colored_shapes import COLORED_SHAPES, SIDE, draw_colored_shapes
from roadworthy.train.data.dataset import Dataset
from roadworthy.train.data.frames import read_checked
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
from roadworthy.train.models.layouts import (
    WIDTH,
    LayoutCritic,
    LayoutGenerator,
    discriminator_loss,
    feature_matching_loss,
    halvings,
)

SHAPES = "colored-shapes"  # the data set that is drawn instead of read
READING_SHARE = 0.05  # of the progress bar
SHOWN = 32  # layouts in the picture of a training
SAMPLES_AT_ONCE = 64  # layouts made in one go
KIND = "layouts"  # what a generator's facts call it


@dataclass(frozen=True)
class LayoutConfig:
    """What layouts to learn, and how. The defaults are the paper's for Colored Shapes (appendix B)."""

    data: str = SHAPES  # colored-shapes, or KIND:PATH, see train.data.open_dataset; its split "train" is learnt from
    rgb: bool = False  # colours instead of classes: the plain GAN
    size: tuple[int, int] = (SIDE, SIDE)  # (height, width) [pixels]
    latent: int = 100  # dimensions of the noise; 128 or 300 for street scenes
    kernel: int = 11  # of all convolutions [pixels], odd; 7 or 11 for street scenes
    width: int = WIDTH  # channels at the largest hidden map; the paper does not say
    batch_size: int = 32
    learning_rate: float = 1e-4  # of both players; 2e-4 for street scenes
    steps: int = 50_000  # updates of both players
    seed: int = 0  # of weights, noise, order, and of the shapes
    threads: int | None = None  # of torch; None = its choice
    checkpoint_every: int = 200  # updates between resumable checkpoints
    keep_every: int | None = None  # updates between generators that are kept; None = only the last one
    tensorboard: bool = True  # write loss curves and samples

    def __post_init__(self) -> None:
        """Check what can be checked without the data; raises `BadInput` naming the field."""
        for name in ("latent", "width", "steps", "checkpoint_every", "threads", "keep_every"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        # Batch statistics, and the mean features that are matched, say nothing with one layout.
        _require(self, "batch_size", self.batch_size >= 2, "at least 2")
        _require(self, "kernel", self.kernel >= 3 and self.kernel % 2 == 1, "odd and at least 3")
        _require(self, "learning_rate", math.isfinite(self.learning_rate) and self.learning_rate > 0, "a number above 0")
        _require(self, "seed", self.seed >= 0, "at least 0")
        _require(self, "size", self.data != SHAPES or self.size == (SIDE, SIDE), f"{SIDE}x{SIDE} for {SHAPES}")
        halvings(self.size)


@dataclass(frozen=True)
class LayoutMaps:
    """Layouts to learn from: train ids `uint8 [M, H, W]` (255 = void) and their classes."""

    labels: npt.NDArray[np.uint8]
    taxonomy: Taxonomy

    @property
    def void(self) -> bool:
        """Tell whether any pixel has no label."""
        return bool((self.labels == IGNORE).any())


def read_layouts(data: str, size: tuple[int, int], seed: int = 0, progress: Progress | None = None) -> LayoutMaps:
    """Read the label maps of a data set's split "train" at `size` (height, width), or draw Colored Shapes.

    Raises `BadInput` naming every file that cannot be used.
    """
    if data == SHAPES:
        return LayoutMaps(draw_colored_shapes(seed), COLORED_SHAPES)
    if ":" not in data:
        raise BadInput(f"data {data!r} is neither {SHAPES} nor KIND:PATH, for instance camvid:data/camvid")
    dataset: Dataset = list_dataset(data, "train")
    (frames,) = read_checked([dataset], size, progress)
    return LayoutMaps(np.stack([frames[index].labels for index in range(len(frames))]), dataset.taxonomy)


class LayoutDuel(Duel):
    """Generator and discriminator of layouts."""

    def __init__(self, config: LayoutConfig, maps: LayoutMaps) -> None:
        self.config, self.layouts = config, maps
        self.space = LayoutSpace(maps.taxonomy, maps.void, config.rgb)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            generator = _generator(config, self.space.channels)
            critic = LayoutCritic(self.space.channels, config.size, kernel=config.kernel, width=config.width)
        super().__init__(generator, critic, config.learning_rate, _facts(config, self.space))

    def update(self, number: int) -> dict[str, Tensor]:
        """Update the discriminator, then the generator with the same noise; returns both losses."""
        config = self.config
        places = batch_places(len(self.layouts.labels), config.batch_size, config.seed, number)
        real = self.space.encode(self.layouts.labels[places]).contiguous(memory_format=torch.channels_last)  # [B, C, H, W]
        noise = torch.randn(config.batch_size, config.latent, generator=seeded(config.seed, 1, number))  # [B, L]
        fake = self.generator(noise)  # [B, C, H, W]
        with torch.random.fork_rng():
            torch.manual_seed(seeded(config.seed, 3, number).initial_seed())  # of dropout
            judged = discriminator_loss(self.critic(real), self.critic(fake.detach()))
        self.learn("critic", judged)
        with self.frozen_critic():
            with torch.no_grad():
                wanted = self.critic.features(real)  # [B, F]
            matched = feature_matching_loss(wanted, self.critic.features(fake))
            self.learn("generator", matched)
        return {"discriminator": judged, "feature_matching": matched}

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return a sheet of samples, of the same noise each time."""
        self.generator.eval()
        assert isinstance(self.generator, LayoutGenerator)
        maps = sample_maps(self.generator, SHOWN, self.config.seed)
        self.generator.train()
        return grid(self.space.pictures(maps))


def train_layouts(config: LayoutConfig, output: Path, *, progress: Progress | None = None, resume: bool = False) -> Path:
    """Train as `config` says and return the run folder `output`; see `run_duel` for what is in it.

    With `resume` an interrupted training goes on (on a CPU to the same bits as without the interruption), a finished one is
    left as it is. Raises `BadInput` before anything is written when the data, the configuration or the folder will not do.
    """
    plain = dataclasses.asdict(config) | {"size": list(config.size)}
    if check_folder(output, plain, resume=resume):
        return output
    report: Progress = progress if progress is not None else lambda text, fraction: None
    maps = read_layouts(config.data, config.size, config.seed, lambda text, done: report(text, READING_SHARE * done))
    with torch_threads(config.threads):
        run_duel(
            LayoutDuel(config, maps),
            output,
            plain,
            steps=config.steps,
            checkpoint_every=config.checkpoint_every,
            keep_every=config.keep_every,
            tensorboard=config.tensorboard,
            progress=lambda text, done: report(text, READING_SHARE + (1 - READING_SHARE) * done),
        )
    return output


@dataclass(frozen=True)
class LayoutModel:
    """A trained generator of layouts, in evaluation mode on the CPU."""

    generator: LayoutGenerator
    space: LayoutSpace
    data: str  # what it was trained on
    size: tuple[int, int]  # (height, width) [pixels]
    seed: int  # of its training

    def sample(self, count: int, seed: int = 0, first: int = 0) -> Tensor:
        """Make the layouts number `first` to `first + count - 1` of a seed, `float32 [count, C, H, W]`."""
        return sample_maps(self.generator, count, seed, first)


def load_layouts(run: Path, update: int | None = None) -> LayoutModel:
    """Load the generator of a finished run, or the one kept after `update`. Raises `BadInput` when it is not one of layouts."""
    built: list[LayoutModel] = []

    def build(facts: Mapping[str, Any]) -> torch.nn.Module:
        if facts["kind"] != KIND:
            raise BadInput(f"{run}: a generator of {facts['kind']}, expected one of {KIND}")
        space = LayoutSpace(taxonomy_of(facts), bool(facts["void"]), bool(facts["rgb"]))
        height, width = (int(side) for side in facts["size"])
        latent, kernel, channels, seed = (int(facts[name]) for name in ("latent", "kernel", "width", "seed"))
        config = LayoutConfig(
            str(facts["data"]), space.rgb, (height, width), latent=latent, kernel=kernel, width=channels, seed=seed
        )
        generator = _generator(config, space.channels).eval()
        built.append(LayoutModel(generator, space, config.data, config.size, config.seed))
        return generator

    load_generator(run, build, update)
    return built[0]


@torch.no_grad()
def sample_maps(generator: LayoutGenerator, count: int, seed: int, first: int = 0) -> Tensor:
    """Make `count` layouts `float32 [count, C, H, W]`; layout i depends on the seed and i alone."""
    made = []
    for start in range(first, first + count, SAMPLES_AT_ONCE):
        indices = range(start, min(start + SAMPLES_AT_ONCE, first + count))
        noise = torch.cat([torch.randn(1, generator.latent, generator=seeded(seed, 2, index)) for index in indices])  # [B, L]
        made.append(generator(noise).contiguous())  # [B, C, H, W]
    return torch.cat(made)


def _generator(config: LayoutConfig, channels: int) -> LayoutGenerator:
    return LayoutGenerator(
        channels, config.size, latent=config.latent, kernel=config.kernel, width=config.width, rgb=config.rgb
    )


def _facts(config: LayoutConfig, space: LayoutSpace) -> dict[str, Any]:
    kept = ("data", "rgb", "latent", "kernel", "width", "seed")
    own = {name: getattr(config, name) for name in kept}
    return {"kind": KIND, **own, "size": list(config.size), "void": space.void, **taxonomy_facts(space.taxonomy)}


def _require(config: LayoutConfig, name: str, condition: bool, expected: str) -> None:
    if not condition:
        raise BadInput(f"layout option {name} is {getattr(config, name)!r}, expected {expected}")
