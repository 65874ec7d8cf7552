"""Sidecars: what is written is read, and a file that is not the one they speak of is never handed to a library."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.sidecar import read_sidecar, read_verified, sidecar_path, write_sidecar

MakeModel = Callable[..., Path]


@pytest.fixture
def engine(make_model: MakeModel, metadata: ModelMetadata, tmp_path: Path) -> Path:
    """A file that is no engine, with a sidecar that says it is."""
    path = tmp_path / "model.engine"
    path.write_bytes(b"plan" * 100)
    write_sidecar(path, "tensorrt", make_model(), metadata, {"tensorrt": "10.9"})
    return path


@pytest.fixture
def ir(make_model: MakeModel, metadata: ModelMetadata, tmp_path: Path) -> Path:
    """The colour model as OpenVINO files."""
    source = make_model()
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Core().read_model(str(source)), str(path), compress_to_fp16=False)
    write_sidecar(path, "openvino", source, metadata)
    return path


def test_round_trip(engine: Path, metadata: ModelMetadata, tmp_path: Path) -> None:
    assert sidecar_path(engine).name == "model.engine.json"
    sidecar = read_sidecar(engine)
    assert sidecar.format == "tensorrt"
    assert sidecar.engine_sha256 == hashlib.sha256(b"plan" * 100).hexdigest()
    assert sidecar.source_sha256 == hashlib.sha256((tmp_path / "colours.onnx").read_bytes()).hexdigest()
    assert sidecar.metadata == metadata
    assert sidecar.built_with == {"tensorrt": "10.9"}
    assert read_verified(engine, sidecar.engine_sha256) == b"plan" * 100


def test_a_changed_engine_is_refused_before_any_library_sees_it(engine: Path) -> None:
    engine.write_bytes(b"plan" * 99 + b"evil")
    with pytest.raises(RoadworthyError, match=r"model\.engine: its sha256 is .* It is not loaded"):
        load(engine, device="cuda")


def test_openvino_files_load_and_are_checked(ir: Path, frames: np.ndarray) -> None:
    segmenter = load(ir)
    assert segmenter.backend.startswith("openvino")
    assert ".xml" in segmenter.reason
    result = segmenter(frames)
    assert result.labels is not None
    assert np.array_equal(result.labels, frames.argmax(3))
    for file in (ir, ir.with_suffix(".bin")):
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        with pytest.raises(RoadworthyError, match="sha256"):
            load(ir)
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "[]", "expected an object with 'metadata'"),
        (lambda text: json.dumps(json.loads(text) | {"engine_sha256": 7}), "'engine_sha256' is 7"),
        (lambda text: json.dumps(json.loads(text) | {"format": "tflite"}), "unknown format 'tflite'"),
        (lambda text: json.dumps(json.loads(text) | {"metadata": {}}), "lacks 'taxonomy'"),
    ],
)
def test_a_broken_sidecar_is_named(engine: Path, change: Callable[[str], str], message: str) -> None:
    path = sidecar_path(engine)
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput, match=rf"model\.engine\.json.*{message}"):
        load(engine)


def test_missing_files_are_named(engine: Path, tmp_path: Path) -> None:
    sidecar_path(engine).unlink()
    with pytest.raises(BadInput, match=r"sidecar model\.engine\.json is missing"):
        read_sidecar(engine)
    with pytest.raises(BadInput, match="no such model file"):
        load(tmp_path / "gone.engine")


def test_an_engine_on_the_cpu(engine: Path) -> None:
    with pytest.raises(BadInput, match="an engine runs on a GPU"):
        load(engine, device="cpu")


def test_backends_that_do_not_read_the_file(engine: Path, make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match=r"onnxruntime does not read \.engine files; use tensorrt"):
        load(engine, backend="onnxruntime")
    with pytest.raises(BadInput, match=r"tensorrt does not read \.onnx files"):
        load(make_model(), backend="tensorrt")
