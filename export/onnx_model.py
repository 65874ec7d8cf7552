"""ONNX files as editable graphs: reading, checking and writing them, and finding one's way in them. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.onnx_file import check_external_data, read_props

# Operators with weights, which is where a network's time and its rounding errors are.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def import_onnx(purpose: str) -> Any:
    """Return the `onnx` package; raises `MissingExtra` naming the extra when it is not installed."""
    try:
        import onnx
        import onnx.compose
        import onnx.reference
        import onnx.utils
    except ImportError as error:
        raise MissingExtra("onnx", "export", purpose) from error
    return onnx


def load_model(path: Path) -> Any:
    """Read the ONNX file at `path` as a `ModelProto` with its weights.

    Raises `BadInput` for a missing or broken file, and for one whose weights lie outside its own folder.
    """
    onnx = import_onnx(f"reading {path.name}")
    read_props(path)  # one clear error for what is not an ONNX file
    check_external_data(path)
    try:
        return onnx.load(str(path))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BadInput(f"{path}: cannot be read with its weights ({error}); copy the model and its data file again") from error


def save_model(model: Any, path: Path) -> None:
    """Check `model` and write it to `path` atomically. Raises `RoadworthyError` when it is not valid ONNX."""
    onnx = import_onnx(f"writing {path.name}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RoadworthyError(f"{path.name}: the graph became invalid ({reason[:200]}); please report this model") from error
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))


def copy_of(model: Any) -> Any:
    """Return a deep copy of `model`."""
    other = type(model)()
    other.CopyFrom(model)
    return other


def consumers(graph: Any) -> Mapping[str, list[Any]]:
    """Return which nodes read each tensor, by its name."""
    found: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            if name:
                found[name].append(node)
    return found


def producers(graph: Any) -> Mapping[str, Any]:
    """Return which node writes each tensor, by its name."""
    return {name: node for node in graph.node for name in node.output if name}


def constants(graph: Any) -> Mapping[str, Any]:
    """Return the stored tensors (`TensorProto`) by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def remove_nodes(graph: Any, unwanted: list[Any]) -> None:
    """Remove nodes, and the stored tensors that nothing reads any more."""
    gone = {id(node) for node in unwanted}
    kept = [node for node in graph.node if id(node) not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def fix_batch(model: Any, batch: int) -> None:
    """Make the first axis of the input and of every output of `model` exactly `batch`, in place."""
    graph = model.graph
    for value in (*graph.input, *graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        axis.dim_value = batch
    del graph.value_info[:]  # inferred for the open batch


def batch_of(model: Any) -> int | None:
    """Return the batch size that the graph takes, or None when it is open."""
    axis = model.graph.input[0].type.tensor_type.shape.dim[0]
    return int(axis.dim_value) if axis.HasField("dim_value") else None


def opset_of(model: Any) -> int:
    """Return the version of ONNX's own operator set that the model uses."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def precision_of(model: Any) -> str:
    """Return `int8`, `fp16` or `fp32`, by what the graph computes with."""
    onnx = import_onnx("reading a model's precision")
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if halves else "fp32"


def keep_outputs(model: Any, names: Sequence[str], source: str) -> Any:
    """Return the part of `model` that computes the outputs `names`. Raises `BadInput` for one that it does not have."""
    onnx = import_onnx("choosing outputs")
    present = [output.name for output in model.graph.output]
    missing = [name for name in names if name not in present]
    if missing or not names:
        raise BadInput(
            f"{source}: has the outputs {', '.join(present)}, not {', '.join(missing) or 'none'}; export the run again with "
            "--outputs"
        )
    if set(names) == set(present):
        return model
    part = onnx.utils.Extractor(model).extract_model(
        [value.name for value in model.graph.input], [name for name in present if name in names]
    )
    del part.metadata_props[:]
    part.metadata_props.extend(model.metadata_props)
    part.producer_name, part.producer_version = model.producer_name, model.producer_version
    return part


def set_props(model: Any, props: Mapping[str, str]) -> None:
    """Replace the metadata of `model` by `props`, in place."""
    onnx = import_onnx("writing metadata")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(props))
