"""The rewriting of convolutions that read enlarged maps: ONNX Runtime must get the same from both graphs."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from roadworthy.export.enlarged import fold_enlarged_maps

HEIGHT, WIDTH, CHANNELS = 24, 31, 16


def joined(
    smalls: list[tuple[int, int]],
    *,
    kernel: int = 3,
    convolution: dict[str, Any] | None = None,
    resize: dict[str, Any] | None = None,
    scales: bool = False,
    opset: int = 20,
    read_twice: bool = False,
    dtype: Any = np.float32,
) -> onnx.ModelProto:
    """Return a graph that joins a map of 24x31 with enlarged ones of the sizes `smalls`, and convolves them."""
    draw = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    resize = resize or {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes, names = [], ["full"]
    stored = [numpy_helper.from_array(draw.normal(size=(7, CHANNELS * (1 + len(smalls)), kernel, kernel)).astype(dtype), "w")]
    stored.append(numpy_helper.from_array(draw.normal(size=7).astype(dtype), "bias"))
    inputs = [helper.make_tensor_value_info("full", kind, ["batch", CHANNELS, HEIGHT, WIDTH])]
    for place, (height, width) in enumerate(smalls):
        inputs.append(helper.make_tensor_value_info(f"small{place}", kind, ["batch", CHANNELS, height, width]))
        if scales:
            values = np.asarray([1, 1, HEIGHT / height, (WIDTH + 0.5) / width], np.float32)
            stored.append(numpy_helper.from_array(values, f"how{place}"))
            stored.append(numpy_helper.from_array(np.zeros(0, np.float32), f"region{place}"))
            wanted = [f"small{place}", f"region{place}", f"how{place}"]
        else:  # as torch writes it: the batch axis is read from the tensor
            stored.append(numpy_helper.from_array(np.asarray([CHANNELS, HEIGHT, WIDTH], np.int64), f"rest{place}"))
            nodes.append(helper.make_node("Shape", [f"small{place}"], [f"batch{place}"], start=0, end=1))
            nodes.append(helper.make_node("Concat", [f"batch{place}", f"rest{place}"], [f"how{place}"], axis=0))
            wanted = [f"small{place}", "", "", f"how{place}"]
        nodes.append(helper.make_node("Resize", wanted, [f"large{place}"], **resize))
        names.insert(place, f"large{place}")  # the full map stands last: its channels are not the first ones
    nodes.append(helper.make_node("Concat", names, ["joined"], axis=1))
    nodes.append(helper.make_node("Conv", ["joined", "w", "bias"], ["seen"], name="conv", **(convolution or {"pads": [1] * 4})))
    nodes.append(helper.make_node("Relu", ["seen"], ["result"]))
    outputs = [helper.make_tensor_value_info("result", kind, list("bchw"))]
    if read_twice:
        nodes.append(helper.make_node("Relu", ["joined"], ["again"]))
        outputs.append(helper.make_tensor_value_info("again", kind, list("bchw")))
    graph = helper.make_graph(nodes, "joined", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int = 2) -> np.ndarray:
    """Return what ONNX Runtime makes of random maps."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(1)
    feeds = {one.name: draw.normal(size=(batch, *one.shape[1:])).astype(np.float32) for one in session.get_inputs()}
    result: np.ndarray = session.run(["result"], feeds)[0]
    return result


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators of a graph."""
    return [node.op_type for node in model.graph.node]


def test_a_pyramid_becomes_products_of_small_maps() -> None:
    model = joined([(1, 1), (2, 2), (3, 3), (6, 6)])
    before = run(model)
    assert fold_enlarged_maps(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "Resize" not in operators(model)
    assert "Shape" not in operators(model)  # what nobody reads any more is gone
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-4)
    assert fold_enlarged_maps(model) == 0  # there is nothing left to do


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    kernel=st.sampled_from([1, 2, 3, 5]),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    mode=st.sampled_from(["linear", "nearest", "cubic"]),
    cells=st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
    scales=st.booleans(),
)
def test_every_convolution_of_every_enlargement(
    height: int,
    width: int,
    kernel: int,
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    mode: str,
    cells: str,
    scales: bool,
) -> None:
    convolution = {"strides": strides, "dilations": dilations, "pads": pads}
    resize = {"mode": mode, "coordinate_transformation_mode": cells}
    model = joined([(height, width), (2, 2)], kernel=kernel, convolution=convolution, resize=resize, scales=scales)
    before = run(model)
    fold_enlarged_maps(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model), before, rtol=1e-3, atol=1e-3)


def test_a_map_that_is_hardly_smaller_stays() -> None:
    model = joined([(20, 26), (3, 3)])
    before = run(model)
    assert fold_enlarged_maps(model) == 1
    assert operators(model).count("Resize") == 1
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param({"convolution": {"auto_pad": "SAME_UPPER"}}, id="padding that is worked out"),
        pytest.param({"convolution": {"pads": [1] * 4, "group": 1}, "read_twice": True}, id="the joined map is read elsewhere"),
        pytest.param({"resize": {"mode": "linear", "antialias": 1}}, id="an antialiased Resize"),
        pytest.param({"dtype": np.float16}, id="half precision"),
        pytest.param({"opset": 11, "scales": True}, id="an old opset"),
    ],
)
def test_what_is_left_alone(graph: dict[str, Any]) -> None:
    model = joined([(3, 3)], **graph)
    before = model.SerializeToString()
    assert fold_enlarged_maps(model) == 0
    assert model.SerializeToString() == before
