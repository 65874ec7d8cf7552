"""A tiny labelled data set in CamVid's layout, drawn from a seed: bright boxes (cars) on a road under a sky."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from roadworthy.train.models import MODELS, Prediction, Segmenter

HEIGHT, WIDTH = 32, 64  # [pixels]
SKY, ROAD, CAR, VOID = 0, 3, 8, 11


def draw_scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    labels[HEIGHT // 2 :] = ROAD
    top, left = rng.integers(10, 18), rng.integers(4, 40)
    labels[top : top + 10, left : left + 16] = CAR
    colours = np.zeros((12, 3))
    colours[SKY], colours[ROAD], colours[CAR] = (120, 160, 220), (90, 90, 90), (200, 40, 30)
    image = colours[labels] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
    labels[:2] = VOID
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_camvid(root: Path, train: int = 8, val: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, labels = draw_scene(rng)
            Image.fromarray(image).save(root / split / f"{index:04d}.png")
            Image.fromarray(labels).save(root / f"{split}annot" / f"{index:04d}.png")
    return root


class Plain(Segmenter):
    """Three convolutions: a network that learns the tiny data set in a second, without dropout."""

    latent_channels, latent_stride, size_multiple = 24, 4, 4

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.first = nn.Sequential(nn.Conv2d(in_channels, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.classifier = nn.Conv2d(24, classes, 1)

    def encode(self, frames: Tensor) -> Tensor:
        return self.second(self.first(frames))

    def forward(self, frames: Tensor) -> Prediction:
        latent = self.encode(frames)
        logits = F.interpolate(self.classifier(latent), frames.shape[2:], mode="bilinear", align_corners=False)
        return Prediction(logits, latent, latent)


@pytest.fixture(autouse=True, scope="session")
def plain() -> Iterator[None]:
    """Make `Plain` known as the model "plain"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "plain", Plain)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tensors this small gain nothing from a second thread, and lose much on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set, shared and read-only."""
    return write_camvid(tmp_path_factory.mktemp("camvid"))


@pytest.fixture
def own_camvid(tmp_path: Path) -> Path:
    """A copy of the data set that a test may damage."""
    return write_camvid(tmp_path / "camvid", train=4, val=2)


@pytest.fixture(scope="session")
def real_camvid() -> Path:
    """The real CamVid folder, where the machine has it."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("ROADWORTHY_DATA", default)) / "camvid"
    if not root.is_dir():
        pytest.skip(f"no CamVid at {root}; set ROADWORTHY_DATA to the folder that holds camvid/")
    return root
