"""Every registered segmenter exports: labels, confidence and latent as in torch. A new one is tested by its registry line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from roadworthy.export.onnx import export_network
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.normalisation import normalise

# Deeper encoders of the same kind are made of the same operators as the ResNet-18 ones, and take minutes.
DEEPER = ("resnet50", "resnet101")


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith(DEEPER)])
def test_every_segmenter_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_model(name, len(CAMVID))
    multiple = network.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (64, 96))
    blocks = np.random.default_rng(0).integers(0, 256, (2, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    frames = np.ascontiguousarray(blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width])  # [2, H, W, 3]
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(frames)))  # real statistics in the norms
    metadata = ModelMetadata.of(CAMVID, ignore_id=255, height=height, width=width, architecture=name)
    report = export_network(network.eval(), metadata, tmp_path / "m.onnx", frames)
    assert report.parity is not None
    assert report.parity.agreement is not None
    assert report.parity.agreement > 0.999
    assert report.parity.worst_latent_error is not None
    assert report.parity.worst_latent_error < 1e-4
