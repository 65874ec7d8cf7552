"""A small segmenter of our own, quick to export, with the parts that exports get wrong: strides, norms, PReLU, upsampling."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadworthy.export.onnx import export_network
from roadworthy.export.report import ExportReport
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.models.normalisation import normalise

HEIGHT, WIDTH = 16, 32


class _Prediction(NamedTuple):
    logits: Tensor
    embedding: Tensor
    latent: Tensor


class SmallNetwork(nn.Module):
    size_multiple = 4

    def __init__(self, classes: int = len(CAMVID)) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.MaxPool2d(2)
        )
        self.decoder = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PReLU(1), nn.ConvTranspose2d(12, 12, 2, stride=2))
        self.classifier = nn.Conv2d(12, classes, 1)

    def encode(self, frames: Tensor) -> Tensor:
        latent: Tensor = self.encoder(frames)
        return latent

    def forward(self, frames: Tensor) -> _Prediction:
        latent = self.encode(frames)
        embedding = self.decoder(latent)
        logits = F.interpolate(self.classifier(embedding), scale_factor=2, mode="bilinear", align_corners=False)
        return _Prediction(logits, embedding, latent)


def _frames() -> np.ndarray:
    random = np.random.default_rng(5)
    coarse = torch.from_numpy(random.uniform(0, 255, (7, 3, 4, 8)))
    smooth = F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic", align_corners=False).clamp(0, 255).numpy()
    smooth[:, :, 4:8, 6:20] = 0  # a black box: equal values, ties in every pooling window
    return np.ascontiguousarray(smooth.transpose(0, 2, 3, 1).astype(np.uint8))


def _network() -> SmallNetwork:
    torch.manual_seed(11)
    network = SmallNetwork()
    with torch.no_grad():
        network.encoder[2].weight.copy_(torch.linspace(-0.3, 0.9, 8))
        network.classifier.weight.mul_(20)  # confident enough that confidence says something
        network.train()(normalise(torch.from_numpy(_frames())))  # real statistics in the norm
    return network.eval()


def _metadata() -> ModelMetadata:
    return ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH, objective="test", architecture="small")


@pytest.fixture
def frames() -> np.ndarray:
    """Smooth colour gradients and a few edges rather than noise: uint8 [7, 16, 32, 3]."""
    return _frames()


@pytest.fixture
def network() -> SmallNetwork:
    return _network()


@pytest.fixture
def metadata() -> ModelMetadata:
    return _metadata()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportReport, Path]:
    """The small network exported once with all outputs: the report and the file. Not to be changed."""
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    return export_network(_network(), _metadata(), path, _frames()), path
