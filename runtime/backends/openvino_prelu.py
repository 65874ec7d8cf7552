"""PReLU back in one operator of an OpenVINO model: exports write it split, as two scalings by channel, a ReLU and a sum.

That form is the fast one in ONNX Runtime. OpenVINO fuses a PRelu into the convolution before it; an ENet takes 15 % longer
there in the split form. `roadworthy.export.prelu` does the same to ONNX files; on a vehicle there need be no `onnx` package.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Factors = npt.NDArray[np.float32]


class _Scaling(NamedTuple):
    """A depthwise 1x1 convolution: every channel of `of` times its factor."""

    of: Any  # openvino.Output
    factors: Factors  # [C]


def merge_prelu(model: Any) -> int:
    """Replace every split PReLU of the `openvino.Model` by one PRelu, in place, and return how many there were."""
    import openvino.opset13 as operators

    merged = 0
    for node in model.get_ordered_ops():
        found = _match(node) if node.get_type_name() == "Add" else None
        if found is None:
            continue
        prelu = operators.prelu(found.of, operators.constant(found.factors))
        prelu.set_friendly_name(node.get_friendly_name())
        prelu.output(0).set_names(node.output(0).get_names())
        node.output(0).replace(prelu.output(0))
        merged += 1
    return merged


def _match(add: Any) -> _Scaling | None:
    """Recognise (1 - a) relu(x) + a x, or relu((1 - a) x) + a x, by its sum: return x with a; None for any other sum."""
    branches = [add.input_value(0), add.input_value(1)]
    for rising, falling in (branches, branches[::-1]):
        slope = _scaling(falling)
        if slope is None:
            continue
        behind = _scaling(rising)  # (1 - a) relu(x)
        if behind is not None:
            source, factors = _below_relu(behind.of), behind.factors
        else:
            inner = _below_relu(rising)  # relu((1 - a) x)
            scaled = None if inner is None else _scaling(inner)
            if scaled is None:
                continue
            source, factors = scaled.of, scaled.factors
        if source == slope.of and factors.shape == slope.factors.shape and np.allclose(factors, 1 - slope.factors, atol=1e-6):
            return slope
    return None


def _scaling(value: Any) -> _Scaling | None:
    """Return what a depthwise 1x1 convolution scales, and by what; None for the output of anything else."""
    node = value.get_node()
    if node.get_type_name() != "GroupConvolution":
        return None
    weights = node.input_value(1).get_node()
    while weights.get_type_name() in ("Reshape", "Convert"):
        weights = weights.input_value(0).get_node()
    if weights.get_type_name() != "Constant" or tuple(node.input_value(1).get_shape())[1:] != (1, 1, 1, 1):
        return None
    return _Scaling(node.input_value(0), np.asarray(weights.data, np.float32).ravel())


def _below_relu(value: Any) -> Any | None:
    node = value.get_node()
    return node.input_value(0) if node.get_type_name() == "Relu" else None
