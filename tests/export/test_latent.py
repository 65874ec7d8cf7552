"""The encoder cut out of a model file computes the latent of the whole."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from roadworthy.export.latent import cut_latent
from roadworthy.export.report import ExportReport
from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput


def test_the_cut_model_gives_the_same_latent(exported: tuple[ExportReport, Path], frames: np.ndarray, tmp_path: Path) -> None:
    whole = load(exported[1])
    cut_latent(exported[1], tmp_path / "encoder.onnx")
    encoder = load(tmp_path / "encoder.onnx")
    assert encoder.outputs == ("latent",)
    assert encoder.metadata == whole.metadata
    assert encoder.latent_shape == whole.latent_shape
    assert encoder(frames).latent == pytest.approx(whole(frames).latent, abs=1e-5)
    graph = onnx.load(str(tmp_path / "encoder.onnx")).graph
    assert "ConvTranspose" not in [node.op_type for node in graph.node]
    assert sum(weight.dims[0] == 12 for weight in graph.initializer) == 0  # none of the decoder's weights


def test_what_cannot_be_cut(exported: tuple[ExportReport, Path], tmp_path: Path) -> None:
    cut_latent(exported[1], tmp_path / "encoder.onnx")
    model = onnx.load(str(exported[1]))
    del model.graph.output[2]
    onnx.save(model, str(tmp_path / "labels.onnx"))
    with pytest.raises(BadInput, match="expected latent among them"):
        cut_latent(tmp_path / "labels.onnx", tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="expected a new name"):
        cut_latent(exported[1], exported[1])
    with pytest.raises(BadInput, match="no such model file"):
        cut_latent(tmp_path / "gone.onnx", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
