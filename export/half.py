"""fp16: the network in half precision between borders of float32. Needs no torch.

The frame's normalisation and everything behind the logits (argmax, confidence) stay in float32: a half holds whole numbers
only up to 2048 and eleven bits of a probability. Inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from roadworthy.export.onnx_model import constants, consumers, copy_of, import_onnx, producers
from roadworthy.runtime.errors import BadInput

# What may stand between the frames and the network, and between the logits and the outputs.
_BEFORE = frozenset({"Cast", "Transpose", "Mul", "Sub", "Add", "Div"})
_BEHIND = frozenset(
    {
        "ArgMax",
        "Cast",
        "Div",
        "Exp",
        "Reciprocal",
        "ReduceMax",
        "ReduceSum",
        "Reshape",
        "Softmax",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    }
)
_FLOAT_INPUTS = {"Resize": (1, 2)}  # inputs that ONNX wants in float32 whatever the data are: roi and scales
_LARGEST_HALF = 65504.0


def to_half(model: Any) -> Any:
    """Return a copy of `model` that computes its network in float16; its input and outputs are as before.

    onnxruntime's converter was tried first: it casts around every node that is to stay in float32, which rounds what passes
    between two of them, and leaves the nodes in an order that ONNX does not allow.
    Raises `BadInput` for a graph with branches or loops, and for a model that is in half precision already.
    """
    onnx = import_onnx("exporting in fp16")
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    model = onnx.shape_inference.infer_shapes(copy_of(model))
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        raise BadInput("the graph has branches or loops, which the fp16 export cannot follow; export it in fp32")
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    if half in kinds.values():
        raise BadInput("the model has tensors in half precision already; start from its fp32 export")
    outside, weights = border_nodes(graph), constants(graph)
    nodes: list[Any] = []
    halved: dict[str, str] = {}  # float32 tensor -> its name in half
    restored: dict[str, str] = {}  # tensor computed in half -> its name in float32
    made_half = {name for node in graph.node if node.name not in outside for name in node.output if kinds.get(name) == single}

    def cast(name: str, other: str, kind: int) -> str:
        nodes.append(onnx.helper.make_node("Cast", [name], [other], name=f"cast_{other}", to=kind))
        return other

    def in_half(name: str) -> str:
        if name in made_half or kinds.get(name) != single:
            return name
        if name not in halved:
            halved[name] = f"{name}_half"
            if name in weights:
                values = np.clip(onnx.numpy_helper.to_array(weights[name]), -_LARGEST_HALF, _LARGEST_HALF)
                graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), halved[name]))
            else:
                cast(name, halved[name], half)
        return halved[name]

    def in_single(name: str) -> str:
        if name not in made_half:
            return name
        if name not in restored:
            restored[name] = cast(name, f"{name}_single", single)
        return restored[name]

    for node in graph.node:
        if node.name in outside:
            node.input[:] = [in_single(name) for name in node.input]
        else:
            keep = _FLOAT_INPUTS.get(node.op_type, ())
            node.input[:] = [name if place in keep else in_half(name) for place, name in enumerate(node.input)]
            _make_half(node, onnx)
        nodes.append(node)
    for output in graph.output:  # a tensor that leaves the graph keeps its name and gets its type back
        if output.name in made_half:
            inner = f"{output.name}_in_half"
            for node in nodes:
                node.input[:] = [inner if name == output.name else name for name in node.input]
                node.output[:] = [inner if name == output.name else name for name in node.output]
            cast(inner, output.name, single)
    used = {name for node in nodes for name in node.input}
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    return model


def _make_half(node: Any, onnx: Any) -> None:
    """Turn what a node itself says about float32 into float16: the target of a cast, the value of a constant."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
            attribute.i = onnx.TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(values, attribute.t.name))


def border_nodes(graph: Any) -> set[str]:
    """Return the names of the nodes outside the network: before its first layer, and behind its logits."""
    made, reads = producers(graph), consumers(graph)

    def before(node: Any) -> list[Any]:
        return [made[name] for name in node.input if name in made]

    def behind(node: Any) -> list[Any]:
        return [reader for name in node.output for reader in reads.get(name, [])]

    frames = graph.input[0].name
    first = _closed(list(graph.node), _BEFORE, before)
    from_frames = _reached(reads.get(frames, []), behind, first)
    last = _closed(list(graph.node)[::-1], _BEHIND, behind)
    return from_frames | last


def _closed(nodes: list[Any], operators: frozenset[str], neighbours: Callable[[Any], list[Any]]) -> set[str]:
    """Return the names of the nodes of such operators whose neighbours are all in the set too; `nodes` in order."""
    inside: set[str] = set()
    for node in nodes:
        if node.op_type in operators and all(other.name in inside for other in neighbours(node)):
            inside.add(node.name)
    return inside


def _reached(start: list[Any], neighbours: Callable[[Any], list[Any]], allowed: set[str]) -> set[str]:
    """Return the names of allowed nodes that a walk from `start` reaches through allowed nodes."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node.name in allowed and node.name not in found:
            found.add(node.name)
            waiting += neighbours(node)
    return found
