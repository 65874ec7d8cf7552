"""The JSON file beside a model that cannot carry our facts itself: `model.engine.json` beside `model.engine`.

Engines and OpenVINO files stay plain files that other people's tools load; what their label ids mean, and the sha256 that
says whether the file is whole and the one that was written, stand in the sidecar. The check is one of integrity, not of
authenticity: whoever can replace an engine can replace its sidecar too, and an engine is code that runs on the GPU. Load
engines only from people you trust.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.runtime.metadata import ModelMetadata

FORMATS = ("tensorrt", "tensorrt-rtx", "openvino")


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says about the model file it stands beside."""

    format: str  # of FORMATS: which library reads the model file
    engine_sha256: str  # of the model file, hexadecimal
    source_sha256: str  # of the ONNX file it was built from
    metadata: ModelMetadata  # the same facts as in that ONNX file
    weights_sha256: str | None = None  # of an OpenVINO model's `.bin`; None for an engine
    built_with: Mapping[str, str] = field(default_factory=dict)  # e.g. tensorrt version, targets; for people to read


def sidecar_path(model: Path) -> Path:
    """Return where the sidecar of `model` is: its whole name with `.json` behind it."""
    return model.with_name(f"{model.name}.json")


def sha256(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sidecar(
    model: Path, format: str, source: Path, metadata: ModelMetadata, built_with: Mapping[str, str] | None = None
) -> Path:
    """Write the sidecar of the finished `model` file, built from the ONNX file `source`; returns its path."""
    if format not in FORMATS:
        raise BadInput(f"unknown model format {format!r}; expected one of {', '.join(FORMATS)}")
    weights = model.with_suffix(".bin")
    content = {
        "format": format,
        "engine_sha256": sha256(model),
        "source_sha256": sha256(source),
        "weights_sha256": sha256(weights) if format == "openvino" else None,
        "metadata": metadata.to_props(),
        "built_with": dict(built_with or {}),
    }
    path = sidecar_path(model)
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def read_sidecar(model: Path) -> Sidecar:
    """Read the sidecar of `model`. Raises `BadInput` when either is missing, or the sidecar is broken."""
    if not model.is_file():
        raise BadInput(f"{model}: no such model file; 'roadworthy export' writes one")
    path = sidecar_path(model)
    if not path.is_file():
        raise BadInput(
            f"{model}: its sidecar {path.name} is missing, so its label ids mean nothing; copy both files, or build it again "
            "with 'roadworthy export model.onnx --format tensorrt'"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error}); copy it again, or build the model again") from error
    if not isinstance(content, dict) or not isinstance(content.get("metadata"), dict):
        raise BadInput(f"{path}: expected an object with 'metadata'; build the model again")
    for key in ("format", "engine_sha256", "source_sha256"):
        if not isinstance(content.get(key), str):
            raise BadInput(f"{path}: {key!r} is {content.get(key)!r}, expected a string; build the model again")
    if content["format"] not in FORMATS:
        raise BadInput(f"{path}: unknown format {content['format']!r}; known: {', '.join(FORMATS)}")
    props = {str(key): str(value) for key, value in content["metadata"].items()}
    weights, built_with = content.get("weights_sha256"), content.get("built_with")
    return Sidecar(
        format=content["format"],
        engine_sha256=content["engine_sha256"],
        source_sha256=content["source_sha256"],
        metadata=ModelMetadata.from_props(props, str(path)),
        weights_sha256=weights if isinstance(weights, str) else None,
        built_with={str(key): str(value) for key, value in built_with.items()} if isinstance(built_with, dict) else {},
    )


def read_verified(path: Path, expected_sha256: str) -> bytes:
    """Read a whole file and return it if its sha256 is the expected one, else raise `RoadworthyError`.

    The bytes that were checked are the bytes that are returned: nobody can swap the file in between.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256.lower():
        raise RoadworthyError(
            f"{path}: its sha256 is {found[:12]}..., expected {expected_sha256[:12]}... as its sidecar says: it was changed, "
            "or not copied whole. It is not loaded; copy both files again, or build the model again"
        )
    return content
