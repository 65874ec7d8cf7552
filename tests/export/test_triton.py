"""Triton repositories: what tritonserver's own schema reads back from `config.pbtxt`, and what lies where."""

import json
from pathlib import Path

import pytest

from roadworthy.export.batch import Batch
from roadworthy.export.convert import convert
from roadworthy.export.report import ExportReport
from roadworthy.export.triton import TensorSpec, config_text, engine_repository, write_repository
from roadworthy.export.wish import Wish
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.sidecar import write_sidecar
from roadworthy.runtime.taxonomy import CAMVID

FRAMES = [TensorSpec("frames", "uint8", (16, 32, 3))]
RESULTS = [TensorSpec("labels", "uint8", (16, 32)), TensorSpec("latent", "float32", (8, 4, 8))]


def _parse(text: str):  # type: ignore[no-untyped-def]  # a generated class without types
    """Read a configuration with Triton's own message; unknown fields and enum values are errors."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient[grpc] is not installed")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return schema, text_format.Parse(text, schema.ModelConfig())


def test_the_configuration_fits_tritons_schema() -> None:
    schema, config = _parse(config_text("net", "onnxruntime", FRAMES, RESULTS, Batch(1, 4, 8), "KIND_AUTO"))
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 8)
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
        ("frames", schema.TYPE_UINT8, [16, 32, 3])
    ]
    assert [(tensor.name, tensor.data_type, list(tensor.dims), tensor.label_filename) for tensor in config.output] == [
        ("labels", schema.TYPE_UINT8, [16, 32], "labels.txt"),
        ("latent", schema.TYPE_FP32, [8, 4, 8], ""),
    ]
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, schema.ModelInstanceGroup.KIND_AUTO)]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 4, 8]
    assert config.model_warmup[0].inputs["frames"].zero_data


def test_a_graph_of_fixed_batch_gets_no_batch_axis_from_triton() -> None:
    inputs = [tensor._replace(batch=2) for tensor in FRAMES]
    outputs = [tensor._replace(batch=2) for tensor in RESULTS]
    _, config = _parse(config_text("net", "tensorrt", inputs, outputs, Batch(2, 2, 2), "KIND_GPU"))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 16, 32, 3]
    assert list(config.output[0].dims) == [2, 16, 32]
    assert not config.HasField("dynamic_batching")


def test_the_repository_of_a_model(exported: tuple[ExportReport, Path], tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "other").mkdir(parents=True)
    for _ in range(2):  # the second replaces the first
        report = convert(exported[1], repository, Wish(format="triton", batch=Batch(1, 2, 4)))
    files = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    assert files == ["small/1/model.onnx", "small/config.pbtxt", "small/labels.txt", "small/metadata.json"]
    assert (repository / "other").is_dir()
    assert (repository / "small" / "labels.txt").read_text().split() == list(CAMVID.classes)
    assert report.parity is not None
    assert report.parity.agreement == 1
    _, config = _parse((repository / "small" / "config.pbtxt").read_text())
    assert [list(tensor.dims) for tensor in config.output] == [[16, 32], [16, 32], [8, 4, 8]]


def test_the_repository_of_an_engine_needs_only_its_sidecar(metadata: ModelMetadata, tmp_path: Path) -> None:
    engine = tmp_path / "net.engine"
    engine.write_bytes(b"a plan")
    (tmp_path / "net.onnx").write_bytes(b"its source")
    facts = {"inputs": json.dumps(FRAMES), "outputs": json.dumps(RESULTS), "batch": "1:2:4"}
    write_sidecar(engine, "tensorrt", tmp_path / "net.onnx", metadata, facts)
    folder = engine_repository(engine, tmp_path / "models")
    assert (folder / "1" / "model.plan").read_bytes() == b"a plan"
    text = (folder / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"' in text
    assert "KIND_GPU" in text
    write_sidecar(engine, "tensorrt", tmp_path / "net.onnx", metadata)
    with pytest.raises(BadInput, match="does not tell its signature"):
        engine_repository(engine, tmp_path / "models")
    write_sidecar(engine, "tensorrt-rtx", tmp_path / "net.onnx", metadata, facts)
    with pytest.raises(BadInput, match="Triton runs only those of --format tensorrt"):
        engine_repository(engine, tmp_path / "models")


def test_names_that_would_lead_elsewhere_are_refused(
    exported: tuple[ExportReport, Path], metadata: ModelMetadata, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="no name for a Triton model"):
        write_repository(exported[1], tmp_path, "../net", metadata, FRAMES, RESULTS, Batch(1, 1, 1), "KIND_CPU")
    assert not list(tmp_path.iterdir())
