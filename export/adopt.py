"""Somebody else's segmentation network becomes a model of ours: the path from frame to labels is built around it. No torch.

roadworthy adopt segformer.onnx --taxonomy cityscapes --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 -o model.onnx

    frames uint8 [B, H, W, 3] -> normalise -> its graph -> logits to full size -> labels, confidence, latent

It may take floats or bytes, channels first or last, and give logits (at any resolution) or label ids. Everything downstream
treats the result like a model that was trained here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.export.enlarged import fold_enlarged_maps
from roadworthy.export.foreign import Foreign, Signature, examine, frame_size, normalisation, open_session, run_by_hand
from roadworthy.export.frames import made_up_frames, read_frames
from roadworthy.export.latent_choice import choose_latent
from roadworthy.export.onnx_model import (
    batch_of,
    copy_of,
    import_onnx,
    load_model,
    opset_of,
    precision_of,
    save_model,
    set_props,
)
from roadworthy.export.parity import TOLERANCES, compare
from roadworthy.export.report import ExportReport
from roadworthy.export.revision import roadworthy_version, source_revision
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.machine import usable_cores, versions
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.segmenter import Segmentation, load
from roadworthy.runtime.taxonomy import IGNORE, get_taxonomy

VERIFY_FRAMES = 32
OLDEST_OPSET = 13  # what the added operators need
PREFIX = "network/"  # before every name of the foreign graph, so that none meets ours


def adopt(source: Path, output: Path, foreign: Foreign, *, verify: str | None = None) -> ExportReport:
    """Write the ONNX file `source` as a model of ours to `output`, and check it against `source` with numpy around it.

    Raises `BadInput` for what cannot be adopted, each time with the option that helps, and `RoadworthyError` when the result
    is not faithful; then nothing is written.
    """
    started = time.perf_counter()
    taxonomy = get_taxonomy(foreign.taxonomy)
    if output.suffix != ".onnx" or output.resolve() == source.resolve():
        raise BadInput(f"{output}: expected a new name that ends in .onnx")
    original = load_model(source)
    if opset_of(original) < OLDEST_OPSET:
        raise BadInput(f"{source}: uses ONNX opset {opset_of(original)}, expected {OLDEST_OPSET} or newer; export it again")
    height, width = frame_size(original, foreign, source)
    session = open_session(source)
    shape = examine(session, original, foreign, taxonomy, height, width, source)
    mean, std = normalisation(foreign, shape, source)
    metadata = ModelMetadata.of(
        taxonomy,
        ignore_id=IGNORE,
        height=height,
        width=width,
        architecture="adopted",
        revision=source_revision(),
        licence=foreign.licence,
        roadworthy_version=roadworthy_version(),
        source=source.name,
        precision=precision_of(original),
    )
    adopted, outputs = _surround(original, foreign, shape, mean, std, source)
    set_props(adopted, metadata.to_props())
    if verify is None:
        frames = made_up_frames(height, width)
    else:
        frames = read_frames(verify, "val", height, width, VERIFY_FRAMES, taxonomy)
    tolerance, batch = TOLERANCES["fp32"], batch_of(adopted)

    def by_hand(images: npt.NDArray[np.uint8]) -> Segmentation:
        return run_by_hand(session, images, foreign, shape, mean, std, batch)

    with atomic_path(output) as temporary:
        save_model(adopted, temporary)
        candidate = load(temporary, device="cpu", backend="onnxruntime", threads=usable_cores())
        parity = compare(candidate, by_hand, frames, len(taxonomy), batch)
        parity.check(tolerance, "the adopted model")
        file_bytes = temporary.stat().st_size
    report = ExportReport(
        path=output.name,
        metadata=metadata,
        outputs=outputs,
        opset=opset_of(adopted),
        file_bytes=file_bytes,
        seconds=round(time.perf_counter() - started, 3),
        parity=parity,
        tolerance=tolerance,
        frames_source=frames.source,
        versions=versions(),
        ran_on="onnxruntime",
    )
    report.write(output)
    return report


def _surround(
    original: Any,
    foreign: Foreign,
    shape: Signature,
    mean: npt.NDArray[np.float32],
    std: npt.NDArray[np.float32],
    source: Path,
) -> tuple[Any, tuple[str, ...]]:
    """Return the foreign graph with ours around it, and the names of its outputs."""
    onnx = import_onnx("adopting a model")
    model = copy_of(original)
    del model.graph.value_info[:]
    image = model.graph.input[0]
    first = 2 if foreign.layout == "NCHW" else 1
    for axis, side in ((first, shape.height), (first + 1, shape.width)):
        image.type.tensor_type.shape.dim[axis].dim_value = side
    _unname_output_shapes(model)
    latent = choose_latent(model, foreign.latent, shape.height, shape.width, source)
    model = onnx.compose.add_prefix(model, PREFIX)
    graph, opset = model.graph, opset_of(model)
    nodes: list[Any] = []

    def add(operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        nodes.append(onnx.helper.make_node(operator, list(inputs), [name], name=f"roadworthy/{name}", **attributes))
        return name

    def constant(name: str, values: npt.NDArray[Any]) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return name

    def reduced(operator: str, x: str, name: str, *, keep: int) -> str:
        if operator == "ReduceMax" and opset < 18:  # axes became an input in opset 18, those of ReduceSum in 13
            return add(operator, [x], name, axes=[1], keepdims=keep)
        return add(operator, [x, constant(f"{name}_axis", np.asarray([1], np.int64))], name, keepdims=keep)

    # From frames [B, H, W, 3] to what the network takes. The cast comes before the transposition: TensorRT wants it so.
    values = "frames"
    if not (shape.dtype == "uint8" and foreign.layout == "NHWC" and not foreign.bgr):
        values = add("Cast", [values], "frames_float", to=onnx.TensorProto.FLOAT)
        values = add("Transpose", [values], "planes", perm=[0, 3, 1, 2])  # [B, H, W, 3] -> [B, 3, H, W]
        if foreign.bgr:
            values = add("Gather", [values, constant("bgr", np.asarray([2, 1, 0], np.int64))], "planes_bgr", axis=1)
        if shape.dtype != "uint8":
            values = add("Mul", [values, constant("scale", (1 / std).reshape(3, 1, 1))], "scaled")
            values = add("Sub", [values, constant("offset", (mean / std).reshape(3, 1, 1))], "images")
        if foreign.layout == "NHWC":
            values = add("Transpose", [values], "images_nhwc", perm=[0, 2, 3, 1])  # [B, 3, H, W] -> [B, H, W, 3]
        if shape.dtype != "float32":
            values = add("Cast", [values], "images_cast", to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(shape.dtype)))
    before = list(nodes)
    nodes.clear()
    inner = graph.input[0].name
    for node in graph.node:
        node.input[:] = [values if name == inner else name for name in node.input]

    result = PREFIX + shape.output
    size = constant("full_size", np.asarray([shape.height, shape.width], np.int64))
    rows = constant("any_rows", np.asarray([0, shape.height, shape.width], np.int64))
    full = (shape.rows, shape.columns) == (shape.height, shape.width)
    outputs = [onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.UINT8, ["batch", shape.height, shape.width])]
    if shape.ids:
        ids = add("Cast", [result], "ids_float", to=onnx.TensorProto.FLOAT)
        low = constant("id_shape", np.asarray([0, 1, shape.rows, shape.columns], np.int64))
        ids = add("Reshape", [ids, low], "ids_map")  # [B, h, w] -> [B, 1, h, w]
        if not full:
            sizes = _sizes(onnx, graph, add, ids, size)
            ids = add(
                "Resize",
                [ids, "", "", sizes],
                "ids_full",
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
        ids = add("Reshape", [ids, rows], "ids_rows")  # [B, 1, H, W] -> [B, H, W]
        add("Cast", [ids], "labels", to=onnx.TensorProto.UINT8)
    else:
        logits = add("Cast", [result], "logits_float", to=onnx.TensorProto.FLOAT)
        if shape.channels_last:
            logits = add("Transpose", [logits], "logits_planes", perm=[0, 3, 1, 2])  # [B, h, w, N] -> [B, N, h, w]
        if not full:
            sizes = _sizes(onnx, graph, add, logits, size)
            logits = add(
                "Resize", [logits, "", "", sizes], "logits_full", mode="linear", coordinate_transformation_mode="half_pixel"
            )
        flat = add("Reshape", [logits, constant("flat", np.asarray([0, 0, -1], np.int64))], "logits_flat")  # -> [B, N, H W]
        best = add("ArgMax", [flat], "best", axis=1, keepdims=0)  # -> [B, H W]
        add("Cast", [add("Reshape", [best, rows], "best_rows")], "labels", to=onnx.TensorProto.UINT8)
        if _gives_probabilities(graph, result):
            likely = reduced("ReduceMax", flat, "likely", keep=0)
        else:  # the largest softmax probability, as in `graph.largest_probability`
            above = add("Sub", [flat, reduced("ReduceMax", flat, "largest", keep=1)], "above")
            likely = add("Reciprocal", [reduced("ReduceSum", add("Exp", [above], "odds"), "total", keep=0)], "likely")
        add("Reshape", [likely, rows], "confidence")  # [B, H W] -> [B, H, W]
        outputs.append(
            onnx.helper.make_tensor_value_info("confidence", onnx.TensorProto.FLOAT, ["batch", shape.height, shape.width])
        )
    add("Cast", [PREFIX + latent.name], "latent", to=onnx.TensorProto.FLOAT)
    outputs.append(onnx.helper.make_tensor_value_info("latent", onnx.TensorProto.FLOAT, ["batch", *latent.shape]))

    batch = batch_of(model)
    theirs = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *theirs, *nodes])
    frames = onnx.helper.make_tensor_value_info(
        "frames", onnx.TensorProto.UINT8, [batch or "batch", shape.height, shape.width, 3]
    )
    graph.input.append(frames)
    for value in outputs:
        if batch is not None:
            value.type.tensor_type.shape.dim[0].dim_value = batch
        graph.output.append(value)
    fold_enlarged_maps(model)
    model.producer_name, model.producer_version = "roadworthy", roadworthy_version()
    return model, tuple(value.name for value in outputs)


def _sizes(onnx: Any, graph: Any, add: Any, x: str, size: str) -> str:
    """Add what Resize wants for full height and width: [B, C, H, W] with B and C taken from the tensor itself."""
    head = add("Slice", [add("Shape", [x], f"{x}_shape"), "zero", "two"], f"{x}_head")
    if not any(tensor.name == "zero" for tensor in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([0], np.int64), "zero"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([2], np.int64), "two"))
    name: str = add("Concat", [head, size], f"{x}_sizes", axis=0)
    return name


def _gives_probabilities(graph: Any, name: str) -> bool:
    """Tell whether the network itself turns its logits into probabilities at the end."""
    return any(name in node.output and node.op_type in ("Softmax", "Sigmoid") for node in graph.node)


def _unname_output_shapes(model: Any) -> None:
    """Forget the stored shapes of the outputs: they speak of any image size."""
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
