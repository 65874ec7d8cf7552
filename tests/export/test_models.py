"""Networks of every family as files: faithful, at sizes that nothing divides, with operators that all backends run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from roadworthy.export.graph import FrameToLabels
from roadworthy.export.onnx import export_network
from roadworthy.runtime import load
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.models import build_model
from roadworthy.train.models.normalisation import normalise

# Each kind of encoder and of decoder once, the smallest: DeepLabV3+'s decoder is lite0's, DeepLabV2 is PSPNet's encoder and
# four convolutions, FCN-8s (0.5 GB a file) has no operator that the others lack. SegNet's frames need no padding here: that
# is one even surface, in which the place of a maximum is a matter of rounding.
SIZES = {
    "lite0": (45, 77),
    "unet": (45, 77),
    "segnet": (64, 96),
    "pspnet-resnet18": (45, 77),
}
# TensorRT has none of these, or ONNX Runtime alone has.
FORBIDDEN = {"MaxUnpool", "NonZero", "ScatterND", "ScatterElements", "GatherND", "If", "Loop", "BatchNormalization", "PRelu"}


@pytest.mark.parametrize("name", SIZES)
def test_every_family_exports_faithfully_to_operators_that_run_everywhere(name: str, tmp_path: Path) -> None:
    height, width = SIZES[name]
    noise = torch.from_numpy(np.random.default_rng(5).uniform(0, 255, (3, 3, 6, 10)))
    smooth = F.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 255)
    frames = np.ascontiguousarray(smooth.numpy().transpose(0, 2, 3, 1).astype(np.uint8))
    torch.manual_seed(0)
    network = build_model(name, len(CAMVID))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of one pass, in full
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(frames)))
    metadata = ModelMetadata.of(CAMVID, ignore_id=255, height=height, width=width, objective="test", architecture=name)
    path = tmp_path / "model.onnx"
    report = export_network(network.eval(), metadata, path, frames)
    assert report.parity.agreement is not None
    assert report.parity.agreement > 0.999
    graph = onnx.load(str(path)).graph
    assert not FORBIDDEN & {node.op_type for node in graph.node}
    assert all(len(node.output) == 1 for node in graph.node)  # in particular no MaxPool that gives indices
    assert len(graph.node) < 200
    with torch.no_grad():
        labels, confidence, latent = FrameToLabels(network)(torch.from_numpy(frames))
    result = load(path, backend="openvino")(frames)
    assert result.labels is not None
    assert np.mean(result.labels == labels.numpy()) > 0.999
    assert result.confidence is not None
    assert np.quantile(np.abs(result.confidence - confidence.numpy()), 0.999) < 1e-3
    assert result.latent == pytest.approx(latent.numpy(), abs=1e-3 * float(latent.abs().max()))
