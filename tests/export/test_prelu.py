"""Split PReLUs become one operator again, and nothing else does."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from roadworthy.export.onnx_model import load_model
from roadworthy.export.prelu import merge_prelu
from roadworthy.export.report import ExportReport


def test_the_merged_model_computes_the_same(exported: tuple[ExportReport, Path], frames: np.ndarray, tmp_path: Path) -> None:
    model = load_model(exported[1])
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert merge_prelu(model) == 1  # the other one has a single slope, and is a LeakyRelu
    assert sum(node.op_type == "Conv" for node in model.graph.node) == convolutions - 2
    slope = next(node.input[1] for node in model.graph.node if node.op_type == "PRelu")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_allclose(stored[slope].ravel(), np.linspace(-0.3, 0.9, 8), atol=1e-6)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "merged.onnx"))
    before, after = (
        onnxruntime.InferenceSession(path).run(None, {"frames": frames}) for path in (exported[1], tmp_path / "merged.onnx")
    )
    for expected, actual in zip(before, after, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_two_scalings_that_are_no_prelu_stay(exported: tuple[ExportReport, Path]) -> None:
    model = load_model(exported[1])
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [8, 1, 1, 1]:
            values = onnx.numpy_helper.to_array(tensor) * 1.5  # no longer a and 1 - a
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert merge_prelu(model) == 0
