"""The latency of a study's models: one row per graph x backend x precision x batch, all of a batch size taking turns."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from roadworthy.eval.bench import BenchConfig, ProgressCallback, bench
from roadworthy.export.onnx_model import load_model
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.onnx_file import read_props

SMALL = 64  # elements of a tensor that may be a shape, axes or steps rather than weights


def measure_latency(
    models: Mapping[str, Path],
    output: Path,
    *,
    backends: tuple[str, ...] = ("auto",),
    batches: tuple[int, ...] = (1,),
    rounds: int = 150,
    warmup: int = 10,
    threads: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Time every graph among `models` and write the rows to `output` (JSON); returns what was written.

    An objective changes the weights, not the graph: models of one graph share a row, and the first of them is measured.

    Args:
        models: exported ONNX models by name; each is fed random frames of its own size.
        output: where the JSON goes.
        backends: names of `runtime.backends`, or auto.
        batches: frames per call.
        rounds: timed calls of each.
        warmup: untimed calls of each before.
        threads: CPU threads of the runtime; None = all physical cores.
        device: cpu, cuda or auto.
        seed: of the frames and the order of calls.
        progress: called with a text and the fraction done.

    Raises:
        BadInput: no models, or one that cannot be loaded.
    """
    if not models:
        raise BadInput("no models to measure; name at least one")
    shared: dict[str, list[str]] = {}
    for name, path in models.items():
        shared.setdefault(graph_digest(path), []).append(name)
    first = {names[0]: names for names in shared.values()}
    config = BenchConfig(
        backends=backends, batches=batches, rounds=rounds, warmup=warmup, threads=threads, device=device, roofline=False,
        max_seconds=None, seed=seed,
    )  # fmt: skip
    measured = bench({name: models[name] for name in first}, output, config, progress)
    facts = {name: ModelMetadata.from_props(read_props(models[name]), str(models[name])) for name in first}
    rows = [
        {key: value for key, value in row.items() if key != "samples_ms"}
        | {"models": first[row["model"]], "architecture": facts[row["model"]].architecture}
        for row in measured["rows"]
    ]
    result = {key: value for key, value in measured.items() if key != "rows"} | {"rows": rows}
    write_text(output, json.dumps(result, indent=1, allow_nan=False))
    return result


def graph_digest(path: Path) -> str:
    """Digest what decides a model's speed: operators with their attributes and wiring, shapes of weights, and frame size."""
    graph = load_model(path).graph
    metadata = ModelMetadata.from_props(read_props(path), str(path))
    number: dict[str, int] = {}  # of each value in order of appearance: what it is called does not matter
    content = {
        "size": [metadata.height, metadata.width],
        "weights": [[_number(value.name, number), *_facts(value)] for value in graph.initializer],
        "nodes": [
            [
                node.op_type,
                [_number(name, number) for name in (*node.input, *node.output)],
                sorted([attribute.name, *_value(attribute)] for attribute in node.attribute),
            ]
            for node in graph.node
        ],
        "outputs": [[value.name, _number(value.name, number)] for value in graph.output],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _number(name: str, known: dict[str, int]) -> int:
    return known.setdefault(name, len(known))


def _facts(tensor: onnx.TensorProto) -> list[Any]:
    """Return the type and shape of a tensor, and of axes, shapes and other small whole numbers the values too."""
    small = tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= SMALL
    return [tensor.data_type, list(tensor.dims), onnx.numpy_helper.to_array(tensor).tolist() if small else None]


def _value(attribute: onnx.AttributeProto) -> list[Any]:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _facts(attribute.t)
    return [attribute.SerializeToString(deterministic=True).hex()]
