"""Whether the town's picture is learnable, and not by colour alone: two figures on a town that was not trained in. Prints JSON.

    python scripts/bench_learnability.py                                # record, then ten minutes of processor time to learn
    python scripts/bench_learnability.py --minutes 3 --data /tmp/frames --pictures /tmp/looks

Frames come from the recorder through CARLA's client, in random weather, from training towns and from a held-out one.
A look-up from colour (16 levels a channel) to the commonest class there shows how much colour gives away; a U-Net of 0.4
million parameters shows how much there is to learn. Both learn on the training towns and are scored on the held-out town.

mIoU is of the whole test set (one confusion matrix, not a mean over pictures), void left out. `miou` is the mean over the
classes of the taxonomy "town" that fill at least 0.1 % of the test pixels; `miou_all` over every class that occurs there.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from roadworthy.agent.recorder import RecordConfig, record
from roadworthy.agent.weather import HELD_OUT_WEATHERS, TRAINING_WEATHERS
from roadworthy.runtime.machine import describe
from roadworthy.runtime.scores import confusion, iou
from roadworthy.runtime.taxonomy import IGNORE, TOWN

COMMON = 0.001  # share of the test pixels from which a class counts in `miou`
LEVELS = 16  # per colour channel of the look-up
BATCH = 8
LEARNING_RATE = 2e-3
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """Pictures and their labels."""

    rgb: Bytes  # [B, H, W, 3]
    labels: Bytes  # [B, H, W] train ids of the taxonomy "town"


class SmallUNet(nn.Module):
    """A U-Net (arXiv 1505.04597) of 0.4 million parameters that works at half the picture's resolution and below."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (24, 48, 72, 96)) -> None:
        super().__init__()
        self.stem = _convolve(3, widths[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_convolve(a, b, stride=2), _convolve(b, b)) for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(_convolve(b + a, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, N, H, W]` of images `float32 [B, 3, H, W]`, 0 to 1."""
        kept = [self.stem(images * 4.0 - 2.0)]  # [B, 24, H/2, W/2]
        for step in self.down:
            kept.append(step(kept[-1]))  # ... [B, 96, H/16, W/16]
        x = kept.pop()
        for step in reversed(self.up):
            beside = kept.pop()
            x = step(torch.cat([functional.interpolate(x, size=beside.shape[-2:], mode="nearest"), beside], 1))
        logits: Tensor = functional.interpolate(self.head(x), size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits


def _convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )  # fmt: skip


def load(folder: Path) -> Frames:
    """Read a recording."""
    lines = [json.loads(line) for line in (folder / "meta.jsonl").read_text(encoding="utf-8").splitlines()]
    rgb = np.stack([np.asarray(Image.open(folder / line["rgb"]).convert("RGB")) for line in lines])
    tags = np.stack([np.asarray(Image.open(folder / line["semantic"])) for line in lines])
    return Frames(rgb, TOWN.fold(tags, str(folder)))


def look_up(train: Frames, test: Frames) -> npt.NDArray[np.int64]:
    """Confusion `[N, N]` on `test` of the commonest class of each colour in `train`; unseen colours get the commonest class."""
    valid = train.labels != IGNORE
    cells = np.bincount(
        _cells(train.rgb)[valid] * len(TOWN) + train.labels[valid], minlength=LEVELS**3 * len(TOWN)
    ).reshape(-1, len(TOWN))  # fmt: skip
    best = cells.argmax(1)
    best[cells.sum(1) == 0] = cells.sum(0).argmax()
    return confusion(best[_cells(test.rgb)], test.labels, len(TOWN))


def _cells(rgb: Bytes) -> npt.NDArray[np.int64]:
    r, g, b = (rgb[..., e].astype(np.int64) * LEVELS // 256 for e in range(3))
    return (r * LEVELS + g) * LEVELS + b


def learn(train: Frames, minutes: float, seed: int) -> tuple[SmallUNet, int]:
    """Train for so many minutes of processor time (of all threads together); returns the net and the steps it made."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = SmallUNet(len(TOWN)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    counts = np.bincount(train.labels[train.labels != IGNORE], minlength=len(TOWN))
    weights = torch.tensor(1.0 / np.log(1.05 + counts / counts.sum()), dtype=torch.float32)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    budget, started, steps, spent = minutes * 60.0, time.process_time(), 0, 0.0
    while spent < budget:
        share = spent / budget
        rate = LEARNING_RATE * min(1.0, share / 0.03 + 0.05) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, labels = _batch(train, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        loss = functional.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORE)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        steps += 1
        spent = time.process_time() - started
    return net, steps


def _batch(train: Frames, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random frames, half of them mirrored, each with a brightness, contrast and colour cast of its own."""
    chosen = rng.integers(len(train.rgb), size=BATCH)
    images = torch.from_numpy(train.rgb[chosen]).permute(0, 3, 1, 2).float() / 255.0  # [B, 3, H, W]
    labels = torch.from_numpy(train.labels[chosen]).long()  # [B, H, W]
    gain = torch.from_numpy(rng.uniform(0.75, 1.3, (BATCH, 1, 1, 1)) * rng.uniform(0.92, 1.08, (BATCH, 3, 1, 1))).float()
    lift = torch.from_numpy(rng.uniform(-0.06, 0.06, (BATCH, 1, 1, 1))).float()
    images = (images * gain + lift).clamp(0.0, 1.0)
    mirrored = torch.from_numpy(rng.random(BATCH) < 0.5)
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    labels = torch.where(mirrored[:, None, None], labels.flip(-1), labels)
    return images.contiguous(memory_format=torch.channels_last), labels


@torch.inference_mode()
def predict(net: SmallUNet, frames: Frames) -> npt.NDArray[np.int64]:
    """Train ids `[B, H, W]`."""
    net.eval()
    found = []
    for first in range(0, len(frames.rgb), BATCH):
        images = torch.from_numpy(frames.rgb[first : first + BATCH]).permute(0, 3, 1, 2).float() / 255.0
        found.append(net(images.contiguous(memory_format=torch.channels_last)).argmax(1).numpy())
    result: npt.NDArray[np.int64] = np.concatenate(found)
    return result


def scores(matrix: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The figures of one confusion matrix."""
    share = matrix.sum(1) / matrix.sum()
    per_class = iou(matrix)
    common, present = share >= COMMON, share > 0
    return {
        "miou": round(float(per_class[common].mean()), 4),
        "miou_all": round(float(per_class[present].mean()), 4),
        "classes": int(common.sum()),
        "classes_all": int(present.sum()),
        "iou": {name: round(float(per_class[k]), 3) for k, name in enumerate(TOWN.classes) if present[k]},
    }


def save_pictures(folder: Path, frames: Frames, found: npt.NDArray[np.int64], count: int = 12) -> None:
    """Frame, truth and prediction side by side, for a look."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in np.linspace(0, len(frames.rgb) - 1, count).astype(int):
        picture = np.concatenate([frames.rgb[k], TOWN.colourise(frames.labels[k]), TOWN.colourise(found[k])], axis=1)
        Image.fromarray(picture).save(folder / f"{k:05d}.png")


def _note(text: str, share: float) -> None:
    click.echo(f"{100 * share:5.1f} % {text}", err=True)


@click.command(context_settings={"show_default": True}, help=__doc__)
@click.option("--train-town", "train_towns", multiple=True, default=("Grid01", "Grid02"), help="town to learn in")
@click.option("--test-town", "test_towns", multiple=True, default=("Crooked01",), help="held-out town")
@click.option("--train-frames", default=600, help="frames to learn from")
@click.option("--test-frames", default=200, help="frames to score on")
@click.option("--minutes", default=10.0, help="processor time to learn for, all threads together")
@click.option("--seed", default=0)
@click.option("--workers", default=2, help="towns that record at a time")
@click.option("--data", type=click.Path(path_type=Path), default=Path("runs/learnability"), help="the recordings' folder, kept")
@click.option("--pictures", type=click.Path(path_type=Path), help="save some predictions there")
@click.option("--output", type=click.Path(path_type=Path), help="write the JSON there too")
def main(
    train_towns: tuple[str, ...], test_towns: tuple[str, ...], train_frames: int, test_frames: int, minutes: float, seed: int,
    workers: int, data: Path, pictures: Path | None, output: Path | None,
) -> None:  # fmt: skip
    """Record, look up, learn, and print the figures."""
    frames: dict[str, Frames] = {}
    per_episode = 12  # few, so that places and weathers are many
    for name, towns, count, first in (
        ("train", train_towns, train_frames, seed),
        ("test", test_towns, test_frames, seed + 1000),
    ):
        config = RecordConfig(
            towns=towns, episodes=math.ceil(count / per_episode), frames=per_episode, seed=first, spacing_m=6.0, max_standing=1,
            weathers=TRAINING_WEATHERS + HELD_OUT_WEATHERS, vehicles=25, walkers=40,
        )  # fmt: skip
        record(config, data / name, _note, workers=workers)
        frames[name] = load(data / name)
    train, test = frames["train"], frames["test"]
    net, steps = learn(train, minutes, seed)
    found = predict(net, test)
    if pictures:
        save_pictures(pictures, test, found)
    report = {
        "machine": describe().to_dict(),
        "train": {"towns": train_towns, "frames": len(train.rgb)},
        "test": {"towns": test_towns, "frames": len(test.rgb)},
        "size": list(test.rgb.shape[2:0:-1]),
        "convention": f"whole test set, void left out; miou over classes with at least {COMMON:.1%} of the test pixels",
        "share": {
            name: round(float((test.labels == k).mean()), 5) for k, name in enumerate(TOWN.classes) if (test.labels == k).any()
        },
        "colour_look_up": scores(look_up(train, test)),
        "u_net": {
            "parameters": sum(p.numel() for p in net.parameters()),
            "minutes": minutes,
            "steps": steps,
            "images": steps * BATCH,
            **scores(confusion(found, test.labels, len(TOWN))),
        },
    }
    text = json.dumps(report, indent=2)
    click.echo(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
