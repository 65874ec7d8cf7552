"""Convolutions that read enlarged maps read the small ones instead: an exact rewriting that saves a fifth of a PSPNet.

Where a network enlarges a small map, joins it with others and convolves them (the pyramid of a PSPNet, the decoder of a
DeepLabV3+), most products are of interpolated values. Enlarging and convolving are both linear, so they can change places:

    conv([a, enlarge(b)]) = conv_a(a) + R · (every tap of conv_b on the small b) · C

with R `[H, kh·h]` and C `[kw·w, W]` the enlargement of rows and of columns as seen through each tap of the kernel, its zero
padding included. A level of 6x6 cells then costs 36 products per weight instead of one per pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.export.onnx_model import constants, consumers, import_onnx, opset_of, producers, remove_nodes

MOST_OF_COST = (
    0.5  # of the products that it replaces: small matrices are multiplied less efficiently than large ones are convolved
)
PLAIN = {  # attributes of a Resize that treats every axis for itself, whatever the size of the others
    "antialias": (0,),
    "keep_aspect_ratio_policy": (b"stretch",),
    "coordinate_transformation_mode": (b"half_pixel", b"pytorch_half_pixel", b"align_corners", b"asymmetric"),
    "axes": (),
}
ALMOST = 1e-4  # places
MIN_OPSET = 13  # since which Resize and Reshape take what is written here

Matrix = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int | None, ...]]


class _Axis(NamedTuple):
    """One axis of a convolution: what a place of its output sees."""

    length: int  # of the map it reads
    out: int  # of the map it writes
    kernel: int
    stride: int
    dilation: int
    pad: int  # before the first place

    def seen(self, enlarge: Matrix) -> Matrix:
        """From `[length, small]`, how the map is enlarged, to `[out, kernel · small]`: what each tap sees of the small map."""
        taps = np.zeros((self.out, self.kernel, enlarge.shape[1]), np.float32)
        for tap in range(self.kernel):
            places = np.arange(self.out) * self.stride + tap * self.dilation - self.pad
            inside = (places >= 0) & (places < self.length)  # outside is the zero padding
            taps[inside, tap] = enlarge[places[inside]]
        return taps.reshape(self.out, -1)


class _Enlarged(NamedTuple):
    """An input of a Concat that Resize made of a smaller map."""

    place: int  # among the inputs of the Concat
    small: str  # the tensor before Resize
    channels: slice  # in the joined map
    rows: Matrix  # [H, h]
    columns: Matrix  # [W, w]


class _Match(NamedTuple):
    """A convolution with what it reads."""

    conv: Any
    concat: Any
    weights: npt.NDArray[np.float32]  # [O, I, kh, kw]
    axes: tuple[_Axis, _Axis]  # rows, columns
    enlarged: list[_Enlarged]


def fold_enlarged_maps(model: Any) -> int:
    """Rewrite every convolution of `model` for which it pays, in place, and return how many there were."""
    if opset_of(model) < MIN_OPSET:
        return 0
    onnx = import_onnx("rewriting a model")
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    found = [match for node in model.graph.node if (match := _match(model.graph, node, shapes, opset_of(model)))]
    for match in found:
        _rewrite(model.graph, match)
    if found:
        del model.graph.value_info[:]  # inferred for nodes that are gone
        remove_nodes(model.graph, _unused(model.graph))
    return len(found)


def _shapes(graph: Any) -> Shapes:
    """Return the shape of every tensor that has one; None stands for an open axis."""
    known: dict[str, tuple[int | None, ...]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            known[value.name] = tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)
    return known


def _match(graph: Any, conv: Any, shapes: Shapes, opset: int) -> _Match | None:
    """Recognise a convolution that reads a Concat with enlarged maps worth folding; None for any other node."""
    stored, made = constants(graph), producers(graph)
    concat = made.get(conv.input[0]) if conv.op_type == "Conv" and conv.input[1] in stored else None
    if concat is None or concat.op_type != "Concat" or len(consumers(graph)[concat.output[0]]) != 1:
        return None
    onnx = import_onnx("rewriting a model")
    weights = onnx.numpy_helper.to_array(stored[conv.input[1]])
    if weights.dtype != np.float32:
        return None
    facts = _attributes(conv)
    joined, written = shapes.get(concat.output[0], ()), shapes.get(conv.output[0], ())
    parts = [shapes.get(name, ()) for name in concat.input]
    if len(joined) != 4 or len(written) != 4 or any(len(part) != 4 or None in part[1:] for part in (*parts, joined, written)):
        return None
    if (
        facts.get("group", 1) != 1
        or facts.get("auto_pad", b"NOTSET") != b"NOTSET"
        or _attributes(concat)["axis"] not in (1, -3)
    ):
        return None
    pads, strides, dilations = facts.get("pads", [0] * 4), facts.get("strides", [1] * 2), facts.get("dilations", [1] * 2)
    rows, columns = (
        _Axis(int(joined[2 + i] or 0), int(written[2 + i] or 0), weights.shape[2 + i], strides[i], dilations[i], pads[i])
        for i in range(2)
    )
    enlarged, first = [], 0
    for place, (name, part) in enumerate(zip(concat.input, parts, strict=True)):
        channels = slice(first, first + int(part[1] or 0))
        first = channels.stop
        resize = made.get(name)
        small = shapes.get(resize.input[0], ()) if resize is not None and resize.op_type == "Resize" else ()
        if resize is None or len(small) != 4 or None in small[1:] or small[1] != part[1]:
            continue
        if not _pays((int(small[2] or 0), int(small[3] or 0)), channels.stop - channels.start, rows, columns):
            continue
        matrices = [_enlargement(resize, stored, axis, int(small[axis] or 0), int(part[axis] or 0), opset) for axis in (2, 3)]
        if matrices[0] is not None and matrices[1] is not None:
            enlarged.append(_Enlarged(place, resize.input[0], channels, matrices[0], matrices[1]))
    if not enlarged or len(enlarged) == len(concat.input):
        return None
    return _Match(conv, concat, weights, (rows, columns), enlarged)


def _pays(small: tuple[int, int], channels: int, rows: _Axis, columns: _Axis) -> bool:
    """Tell whether the products per output channel become so much fewer that it pays."""
    taps = rows.kernel * columns.kernel
    before = taps * channels * rows.out * columns.out
    on_small = taps * channels * small[0] * small[1]
    enlarging = rows.kernel * small[0] * columns.out * (columns.kernel * small[1] + rows.out)
    return on_small + enlarging < MOST_OF_COST * before


def _enlargement(resize: Any, stored: Mapping[str, Any], axis: int, small: int, large: int, opset: int) -> Matrix | None:
    """Return how Resize makes `large` values of `small` ones along one axis, `[large, small]`: what it makes of unit vectors.

    None for a Resize that is more than that. Its axes are independent, so one can be looked at alone.
    """
    onnx = import_onnx("rewriting a model")
    if any(name in PLAIN and value not in PLAIN[name] for name, value in _attributes(resize).items()):
        return None
    names = [*resize.input, "", "", ""][:4]
    if names[2] and names[2] not in stored:  # scales that are computed
        return None
    alone = onnx.NodeProto()
    alone.CopyFrom(resize)
    del alone.input[:], alone.output[:]
    alone.output.append("large")
    shape = [small, 1, large, 1]
    feeds = {"small": np.eye(small, dtype=np.float32).reshape(small, 1, small, 1)}
    if names[2]:
        scale = onnx.numpy_helper.to_array(stored[names[2]])[axis]
        if (
            _attributes(resize).get("coordinate_transformation_mode") == b"align_corners"
            and abs(scale * small - large) > ALMOST
        ):
            return None  # backends disagree on where the last corner is when the scale does not give a whole number
        alone.input.extend(["small", "", "scales"])
        feeds["scales"] = np.asarray([1, 1, scale, 1], np.float32)
    else:
        alone.input.extend(["small", "", "", "sizes"])
        feeds["sizes"] = np.asarray(shape, np.int64)
    value = onnx.helper.make_tensor_value_info
    types = {"small": onnx.TensorProto.FLOAT, "scales": onnx.TensorProto.FLOAT, "sizes": onnx.TensorProto.INT64}
    graph = onnx.helper.make_graph(
        [alone],
        "resize",
        [value(name, types[name], list(array.shape)) for name, array in feeds.items()],
        [value("large", onnx.TensorProto.FLOAT, shape)],
    )
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    (result,) = onnx.reference.ReferenceEvaluator(single).run(None, feeds)
    made: Matrix = np.ascontiguousarray(result.reshape(small, large).T.astype(np.float32))
    return made


def _rewrite(graph: Any, match: _Match) -> None:
    """Put the small maps' part beside the convolution of the others, and add both."""
    onnx = import_onnx("rewriting a model")
    conv, (rows, columns), name = match.conv, match.axes, match.conv.name or match.conv.output[0]
    channels_out = match.weights.shape[0]
    nodes: list[Any] = []

    def add(operator: str, inputs: Sequence[str], label: str, **attributes: Any) -> str:
        output = f"{name}/{label}"
        nodes.append(onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(label: str, values: npt.NDArray[Any]) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), f"{name}/{label}"))
        return f"{name}/{label}"

    strips = []
    for one in match.enlarged:
        label, (high, wide) = f"level{one.place}", (one.rows.shape[1], one.columns.shape[1])
        # A 1x1 convolution per tap: [O, c, kh, kw] -> [O kh kw, c, 1, 1]
        taps = match.weights[:, one.channels].transpose(0, 2, 3, 1).reshape(-1, one.channels.stop - one.channels.start, 1, 1)
        strip = add("Conv", [one.small, constant(f"{label}_weights", taps)], f"{label}_taps", kernel_shape=[1, 1])
        if rows.kernel * columns.kernel > 1:
            split = np.asarray([0, channels_out, rows.kernel, columns.kernel, high, wide], np.int64)
            strip = add("Reshape", [strip, constant(f"{label}_split", split)], f"{label}_by_tap")  # -> [B, O, kh, kw, h, w]
            strip = add("Transpose", [strip], f"{label}_turned", perm=[0, 1, 2, 4, 3, 5])  # -> [B, O, kh, h, kw, w]
            flat = np.asarray([0, channels_out, rows.kernel * high, columns.kernel * wide], np.int64)
            strip = add("Reshape", [strip, constant(f"{label}_flat", flat)], f"{label}_plane")  # -> [B, O, kh h, kw w]
        seen = constant(f"{label}_columns", columns.seen(one.columns).T)  # [kw w, W]
        strips.append(add("MatMul", [strip, seen], f"{label}_wide"))  # -> [B, O, kh h, W]
    strip = strips[0] if len(strips) == 1 else add("Concat", strips, "levels", axis=2)
    seen = constant("rows", np.concatenate([rows.seen(one.rows) for one in match.enlarged], 1))  # [H, sum of kh h]
    levels = add("MatMul", [seen, strip], "enlarged")  # -> [B, O, H, W]

    folded = {one.place: one.channels for one in match.enlarged}
    kept = [place for place in range(len(match.concat.input)) if place not in folded]
    rest = [match.concat.input[place] for place in kept]
    remaining = np.delete(match.weights, np.concatenate([np.r_[channels] for channels in folded.values()]), 1)
    data = rest[0] if len(rest) == 1 else add("Concat", rest, "rest", axis=1)
    inputs = [data, constant("rest_weights", remaining), *conv.input[2:]]
    main = add("Conv", inputs, "rest_conv", **_attributes(conv))
    nodes.append(onnx.helper.make_node("Add", [main, levels], [conv.output[0]], name=f"{name}/sum"))

    everything = list(graph.node)
    place = next(index for index, node in enumerate(everything) if node is conv)
    del graph.node[:]
    graph.node.extend([*everything[:place], *nodes, *everything[place + 1 :]])


def _attributes(node: Any) -> dict[str, Any]:
    onnx = import_onnx("rewriting a model")
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _unused(graph: Any) -> list[Any]:
    """Return the nodes whose outputs nothing needs, directly or through one another."""
    needed = {output.name for output in graph.output} | _read_inside(graph)
    unused = []
    for node in reversed(graph.node):  # which are in order: a reader comes after what it reads
        if needed.isdisjoint(node.output):
            unused.append(node)
        else:
            needed.update(node.input)
    return unused


def _read_inside(graph: Any) -> set[str]:
    """Return what the branches of If and the bodies of Loop read: they see the tensors around them by name."""
    onnx = import_onnx("rewriting a model")
    bodies = [value.g for node in graph.node for value in node.attribute if value.type == onnx.AttributeProto.GRAPH]
    return {name for body in bodies for node in body.node for name in node.input}.union(
        *(_read_inside(body) for body in bodies)
    )
