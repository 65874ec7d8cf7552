"""A model repository for NVIDIA Triton: `config.pbtxt`, a version folder, class names. Needs no torch.

    REPOSITORY/NAME/config.pbtxt
    REPOSITORY/NAME/labels.txt          class names, one per line, in the order of the ids
    REPOSITORY/NAME/metadata.json       what our metadata says, for clients
    REPOSITORY/NAME/1/model.onnx        or model.plan, a TensorRT engine

`tritonserver --model-repository REPOSITORY` serves it. The fields are those of Triton's `model_config.proto`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from roadworthy.export.batch import Batch, parse_batch
from roadworthy.export.onnx_model import import_onnx
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.sidecar import read_sidecar

QUEUE_DELAY_US = 1000  # [us] that a request waits for others to share its batch
INSTANCES = 1  # copies that run side by side; per GPU, or on the CPU
VERSION = "1"
# Kind of model file -> Triton's backend and the name that it looks for.
BACKENDS = {".onnx": ("onnxruntime", "model.onnx"), ".engine": ("tensorrt", "model.plan"), ".plan": ("tensorrt", "model.plan")}
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64"}


class TensorSpec(NamedTuple):
    """One input or output of a graph."""

    name: str
    dtype: str  # numpy name
    shape: tuple[int, ...]  # without the batch axis
    batch: int | None = None  # frames that a graph of fixed batch takes; None: any number


def write_repository(
    model: Path,
    repository: Path,
    name: str,
    metadata: ModelMetadata,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    batch: Batch,
    kind: str,
) -> Path:
    """Write the folder of one model into `repository` and return it; a model of that name is replaced as a whole.

    `batch.most` frames at most are served together. `kind` is where Triton runs it: KIND_AUTO, KIND_GPU or KIND_CPU.
    """
    if model.suffix not in BACKENDS:
        raise BadInput(f"{model}: Triton serves {', '.join(BACKENDS)} files")
    if not name or not all(character.isalnum() or character in "_-." for character in name):
        raise BadInput(f"{name!r} is no name for a Triton model; use letters, digits, '_', '-' and '.'")
    backend, file_name = BACKENDS[model.suffix]
    folder = repository / name
    part = repository / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / VERSION).mkdir(parents=True)
    shutil.copyfile(model, part / VERSION / file_name)
    write_text(part / "labels.txt", "\n".join(metadata.class_names) + "\n")
    write_text(part / "metadata.json", json.dumps(metadata.to_props(), indent=2) + "\n")
    write_text(part / "config.pbtxt", config_text(name, backend, inputs, outputs, batch, kind))
    replace_folder(part, folder)
    return folder


def engine_repository(engine: Path, repository: Path) -> Path:
    """Write the repository of a TensorRT engine of ours; all facts are in its sidecar, so that no GPU is needed.

    Raises `BadInput` when the sidecar is missing, or the engine was not built by `roadworthy export`.
    """
    sidecar = read_sidecar(engine)
    if sidecar.format != "tensorrt":
        raise BadInput(f"{engine}: is a {sidecar.format} engine, and Triton runs only those of --format tensorrt")
    try:
        inputs, outputs = (
            [TensorSpec(name, dtype, tuple(shape), batch) for name, dtype, shape, batch in json.loads(sidecar.built_with[key])]
            for key in ("inputs", "outputs")
        )
        batch = parse_batch(sidecar.built_with["batch"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{engine}: its sidecar does not tell its signature ({error!r}); build the engine again") from error
    repository.mkdir(parents=True, exist_ok=True)
    return write_repository(engine, repository, model_name(engine), sidecar.metadata, inputs, outputs, batch, "KIND_GPU")


def replace_folder(part: Path, folder: Path) -> None:
    """Move the finished folder `part` to `folder`, in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(part, folder)


def model_name(source: Path) -> str:
    """Return the name that a model made from the file `source` is served under."""
    return "".join(character if character.isalnum() or character in "_-" else "_" for character in source.stem)


def signature(model: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return the inputs and outputs of an ONNX graph (`ModelProto`)."""
    onnx = import_onnx("reading a model's signature")

    def spec(value: Any) -> TensorSpec:
        kind = value.type.tensor_type
        dims = [int(axis.dim_value) if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        return TensorSpec(value.name, dtype, tuple(dims[1:]), None if dims[0] < 0 else dims[0])

    return [spec(value) for value in model.graph.input], [spec(value) for value in model.graph.output]


def config_text(
    name: str,
    backend: str,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    batch: Batch,
    kind: str,
) -> str:
    """Return `config.pbtxt`: signature, dynamic batching, instances and a warm-up request per batch size of interest."""
    closed = any(tensor.batch is not None for tensor in inputs)  # Triton adds no batch axis to such a graph
    preferred = [] if closed else sorted({batch.usual, batch.most} - {1})
    lines = [
        f'name: "{name}"',
        f'backend: "{backend}"',
        f"max_batch_size: {0 if closed else batch.most}",
        *_tensors("input", inputs),
        *_tensors("output", outputs),
        f"instance_group [ {{ count: {INSTANCES} kind: {kind} }} ]",
    ]
    if preferred:
        lines += [
            "dynamic_batching {",
            f"  preferred_batch_size: [ {', '.join(map(str, preferred))} ]",
            f"  max_queue_delay_microseconds: {QUEUE_DELAY_US}",
            "}",
        ]
    for size in [0] if closed else sorted({batch.least, batch.usual, batch.most}):
        lines += ["model_warmup {", f'  name: "{size or batch.most} frames"', f"  batch_size: {size}"]
        for tensor in inputs:
            kind, dims = _TYPES[tensor.dtype], _dims(tensor)
            lines.append(f'  inputs {{ key: "{tensor.name}" value {{ data_type: {kind} dims: [ {dims} ] zero_data: true }} }}')
        lines.append("}")
    return "\n".join(lines) + "\n"


def _tensors(field: str, tensors: list[TensorSpec]) -> list[str]:
    """Write the inputs or the outputs; labels get the file that names them."""
    lines = []
    for tensor in tensors:
        if tensor.dtype not in _TYPES:
            raise BadInput(f"tensor {tensor.name} is {tensor.dtype}, which is not in our Triton export; export it again")
        names = ' label_filename: "labels.txt"' if tensor.name == "labels" else ""
        dims = _dims(tensor)
        lines.append(f'{field} {{ name: "{tensor.name}" data_type: {_TYPES[tensor.dtype]} dims: [ {dims} ]{names} }}')
    return lines


def _dims(tensor: TensorSpec) -> str:
    return ", ".join(map(str, tensor.shape if tensor.batch is None else (tensor.batch, *tensor.shape)))
