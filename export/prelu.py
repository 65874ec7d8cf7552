"""PReLU back in one operator, for graphs whose PReLUs were split for ONNX Runtime (see `activations`).

The split form is made of convolutions with one weight per channel. Rounding those to eight bits would cost accuracy, and
leaving them in floating point would put four operators between two integer convolutions, where OpenVINO fuses one PRelu into
the convolution before it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from roadworthy.export.onnx_model import constants, consumers, import_onnx, producers, remove_nodes


class _Split(NamedTuple):
    """One PReLU found in split form: (1 - a) relu(x) + a x, or relu((1 - a) x) + a x."""

    x: str  # the tensor it is applied to
    slope: Any  # float32 [C, 1, 1], the a
    add: Any  # the node whose output is the PReLU's
    nodes: list[Any]


def merge_prelu(model: Any) -> int:
    """Replace every split PReLU of `model` by one PRelu node, in place, and return how many there were."""
    onnx = import_onnx("rewriting a model")
    graph = model.graph
    made, reads, weights = producers(graph), consumers(graph), constants(graph)
    found = [split for node in graph.node if node.op_type == "Add" and (split := _match(node, made, reads, weights))]
    unwanted: list[Any] = []
    for split in found:
        name = f"{split.add.output[0]}_slope"
        graph.initializer.append(onnx.numpy_helper.from_array(split.slope, name))
        prelu = onnx.helper.make_node("PRelu", [split.x, name], [split.add.output[0]], name=f"{split.add.name}_prelu")
        split.add.CopyFrom(prelu)  # in the place of its Add, so that the order of the nodes stays valid
        unwanted += split.nodes
    remove_nodes(graph, unwanted)
    return len(found)


def _match(add: Any, made: Any, reads: Any, weights: Any) -> _Split | None:
    """Recognise a split PReLU by its Add; None for any other Add."""
    branches = [made.get(name) for name in add.input]
    for rising, falling in (branches, branches[::-1]):
        slope = _scaling(falling, weights)
        if slope is None or rising is None or len(reads[falling.output[0]]) != 1 or len(reads[rising.output[0]]) != 1:
            continue
        inner = made.get(rising.input[0])
        if inner is None or len(reads[inner.output[0]]) != 1:
            continue
        relu, scaling = (rising, inner) if rising.op_type == "Relu" else (inner, rising)
        factor = _scaling(scaling, weights)
        if relu.op_type != "Relu" or factor is None or inner.input[0] != falling.input[0]:
            continue
        if factor.shape == slope.shape and np.allclose(factor, 1 - slope, atol=1e-6):
            return _Split(falling.input[0], slope.reshape(-1, 1, 1), add, [falling, rising, inner])
    return None


def _scaling(node: Any, weights: Any) -> Any | None:
    """Return the factors `[C, 1, 1, 1]` of a convolution that only scales each channel, else None."""
    if node is None or node.op_type != "Conv" or len(node.input) != 2 or node.input[1] not in weights:
        return None
    onnx = import_onnx("rewriting a model")
    group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    shape = tuple(weights[node.input[1]].dims)
    if shape != (group, 1, 1, 1):
        return None
    return onnx.numpy_helper.to_array(weights[node.input[1]])
