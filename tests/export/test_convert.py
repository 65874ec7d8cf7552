"""An ONNX file of ours in other precisions and formats: faithful, or refused with nothing left behind."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from roadworthy.export.batch import Batch
from roadworthy.export.convert import convert
from roadworthy.export.frames import Frames
from roadworthy.export.onnx_model import load_model, precision_of
from roadworthy.export.report import ExportReport, report_path
from roadworthy.export.wish import Wish, default_output
from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.segmenter import Segmentation
from roadworthy.runtime.sidecar import read_sidecar, sha256


@pytest.fixture
def model(exported: tuple[ExportReport, Path]) -> Path:
    return exported[1]


@pytest.fixture
def shown(frames: np.ndarray) -> Frames:
    labels = np.zeros(frames.shape[:3], np.uint8)
    labels[:, 8:] = 3
    return Frames(frames, labels, "made up")


def test_half_precision(model: Path, shown: Frames, tmp_path: Path) -> None:
    report = convert(model, tmp_path / "half.onnx", Wish(precision="fp16"), frames=lambda: shown)
    assert report.parity is not None
    assert report.parity.agreement is not None
    assert report.parity.agreement >= 0.99
    assert report.parity.worst_latent_error is not None
    assert 1e-5 < report.parity.worst_latent_error < 0.01  # it was rounded, and not by much
    assert (report.precision, report.ran_on, set(report.parity_elsewhere)) == ("fp16", "onnxruntime", {"openvino"})
    assert load(tmp_path / "half.onnx").metadata.precision == "fp16"
    graph = onnx.load(str(tmp_path / "half.onnx")).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kinds = {weights[node.input[1]] for node in graph.node if node.op_type == "Conv"}
    assert kinds == {onnx.TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(tmp_path / "half.onnx"))).graph
    kind = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    compared = next(node.input[0] for node in graph.node if node.op_type == "ArgMax")
    assert kind[compared] == onnx.TensorProto.FLOAT  # logits are compared in float32


def test_eight_bits(model: Path, shown: Frames, tmp_path: Path) -> None:
    wish = Wish(precision="int8", analyse=True, min_agreement=0.9)
    report = convert(model, tmp_path / "small.onnx", wish, frames=lambda: shown, calibration=lambda: shown)
    assert report.parity is not None
    assert report.parity.agreement is not None
    assert report.parity.agreement >= 0.9
    assert report.parity.miou is not None
    assert report.precision == "int8"
    graph = onnx.load(str(tmp_path / "small.onnx")).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Conv") == 3  # the two PReLUs are one operator each again, not convolutions
    assert "PRelu" in operators
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantised = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    assert {stored[node.input[0]].dtype for node in quantised} == {np.dtype(np.int8)}
    assert all(not stored[node.input[2]].any() for node in graph.node if node.op_type == "QuantizeLinear")  # symmetric
    assert len(report.layer_drifts) == 3
    agreements = [drift.agreement for drift in report.layer_drifts]
    assert agreements == sorted(agreements)
    assert json.loads(report_path(tmp_path / "small.onnx").read_text())["layer_drifts"][0][0] == report.layer_drifts[0].layer
    with pytest.raises(BadInput, match="the model is int8; start from its fp32 export"):
        convert(tmp_path / "small.onnx", tmp_path / "back.onnx", Wish(precision="fp32"))


def test_an_unfaithful_int8_model_is_refused(model: Path, shown: Frames, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="half of its 3 layers in float"):
        convert(
            model, tmp_path / "m.onnx", Wish(precision="int8", min_agreement=1), frames=lambda: shown, calibration=lambda: shown
        )
    assert not list(tmp_path.iterdir())


def test_a_format_that_computes_something_else_is_refused(model: Path, shown: Frames, tmp_path: Path) -> None:
    right = load(model, backend="onnxruntime")

    def wrong(frames: np.ndarray) -> Segmentation:
        result = right(frames)
        assert result.labels is not None
        return result._replace(labels=10 - result.labels)

    for wish in (Wish(format="openvino"), Wish(format="triton"), Wish(outputs=("labels",))):
        with pytest.raises(RoadworthyError, match="of the labels agree"):
            convert(model, default_output(tmp_path / "m.onnx", wish), wish, reference=wrong, frames=lambda: shown)
    assert not list(tmp_path.iterdir())


def test_openvino_files(model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    report = convert(model, tmp_path / "m.xml", Wish(format="openvino"))
    assert report.ran_on == "openvino"
    assert report.frames_source.startswith("made-up")
    sidecar = read_sidecar(tmp_path / "m.xml")
    assert sidecar.source_sha256 == sha256(model)
    assert sidecar.weights_sha256 == sha256(tmp_path / "m.bin")
    opened, original = load(tmp_path / "m.xml"), load(model)
    assert opened.metadata == replace(original.metadata, precision="fp32")
    labels, expected = opened(frames).labels, original(frames).labels
    assert labels is not None
    assert expected is not None
    assert np.mean(labels == expected) > 0.999
    (tmp_path / "m.bin").write_bytes((tmp_path / "m.bin").read_bytes()[:-1] + b"\x7f")
    with pytest.raises(RoadworthyError, match="sha256"):
        load(tmp_path / "m.xml")


def test_a_fixed_batch_and_fewer_outputs(model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    wish = Wish(batch=Batch(2, 2, 2), outputs=("labels", "latent"))
    assert convert(model, tmp_path / "two.onnx", wish).outputs == ("labels", "latent")
    two = load(tmp_path / "two.onnx")
    assert two(frames[:2]).confidence is None
    with pytest.raises(BadInput, match=r"uint8 \[2, 16, 32, 3\]"):
        two(frames[:1])
    with pytest.raises(BadInput, match="takes exactly 2 frames"):
        convert(tmp_path / "two.onnx", tmp_path / "one.onnx", Wish(batch=Batch(1, 1, 1)))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"precision": "int8"}, "only real frames tell how many: name some with --verify"),
        ({"precision": "fp16"}, "only real frames tell how many: name some with --verify"),
        ({"outputs": ("labels", "scores")}, "has the outputs labels, confidence, latent, not scores"),
        ({"format": "tensorrt", "targets": ("sm89",)}, "--target|tensorrt"),
        ({"verify": "/no/such/data"}, "not KIND:PATH"),
    ],
)
def test_what_cannot_be_made(wish: dict[str, object], message: str, model: Path, tmp_path: Path) -> None:
    asked = Wish(**wish)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=message):
        convert(model, default_output(tmp_path / "m.onnx", replace(asked, format=asked.format)).with_stem("new"), asked)
    assert not list(tmp_path.iterdir())


def test_int8_without_calibration_data(model: Path, shown: Frames, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name some with --calibration"):
        convert(model, tmp_path / "m.onnx", Wish(precision="int8"), frames=lambda: shown)


@pytest.mark.parametrize("wish", [{"format": "tflite"}, {"precision": "int4"}, {"analyse": True}, {"targets": ("sm89",)}])
def test_wishes_that_make_no_sense(wish: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="--"):
        Wish(**wish)  # type: ignore[arg-type]


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not to be imported: " + name)
sys.meta_path.insert(0, Refuse())
from roadworthy.scripts.cli import main
main(sys.argv[1:])
"""


def test_the_command_runs_without_torch(model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    for index in range(len(frames)):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(frames[index]).save(tmp_path / "images" / f"{index}.png")
    images = str(tmp_path / "images")
    for options in (
        ["--precision", "int8", "--calibration", images, "--verify", images, "--min-agreement", "0.9", "-o", "int8.onnx"],
        ["--format", "openvino", "-o", "m.xml"],
        ["--format", "triton", "--batch", "1:2:4", "-o", "repository"],
    ):
        command = [sys.executable, "-c", WITHOUT_TORCH, "export", str(model), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "of the labels agree" in done.stdout
    assert precision_of(load_model(tmp_path / "int8.onnx")) == "int8"
    assert (tmp_path / "repository" / "small" / "config.pbtxt").is_file()
