"""Split PReLUs become one operator in OpenVINO, and nothing else does."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from roadworthy.runtime.backends.openvino_prelu import merge_prelu

SLOPES = np.asarray([0.25, -0.5, 1.0], np.float32)


def model(path: Path, rising: np.ndarray, *, relu_first: bool, turned: bool = False, other: bool = False) -> openvino.Model:
    """Write slope · x beside a branch with a ReLU, summed, as an ONNX file, and read it."""
    kernels = {"slope": SLOPES, "rising": rising.astype(np.float32)}
    stored = [numpy_helper.from_array(values.reshape(3, 1, 1, 1), name) for name, values in kernels.items()]
    start = "y" if other else "x"
    if relu_first:
        nodes = [helper.make_node("Relu", [start], ["up"]), helper.make_node("Conv", ["up", "rising"], ["high"], group=3)]
    else:
        nodes = [helper.make_node("Conv", [start, "rising"], ["up"], group=3), helper.make_node("Relu", ["up"], ["high"])]
    nodes.append(helper.make_node("Conv", ["x", "slope"], ["low"], group=3))
    nodes.append(helper.make_node("Add", ["low", "high"] if turned else ["high", "low"], ["result"]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 5]) for name in ("x", "y")[: 1 + other]]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 3, 4, 5])
    graph = helper.make_graph(nodes, "split", inputs, [result], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return openvino.Core().read_model(str(path))


@pytest.mark.parametrize("relu_first", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_it_is_the_function_that_was_split(relu_first: bool, turned: bool, tmp_path: Path) -> None:
    found = model(tmp_path / "split.onnx", 1 - SLOPES, relu_first=relu_first, turned=turned)
    assert merge_prelu(found) == 1
    kinds = [node.get_type_name() for node in found.get_ordered_ops()]
    assert "PRelu" in kinds
    assert not {"Add", "Relu", "GroupConvolution"} & set(kinds)
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    values = openvino.Core().compile_model(found, "CPU", options)(x)["result"]
    np.testing.assert_allclose(values, np.where(x > 0, x, x * SLOPES.reshape(3, 1, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("rising", "other"), [pytest.param(np.asarray([0.7, 1.5, 0.0]), False, id="other factors"), (1 - SLOPES, True)]
)
def test_sums_that_only_look_alike_stay(rising: np.ndarray, other: bool, tmp_path: Path) -> None:
    found = model(tmp_path / "alike.onnx", rising, relu_first=False, other=other)
    assert merge_prelu(found) == 0
