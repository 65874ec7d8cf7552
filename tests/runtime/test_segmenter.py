"""Every registered backend against results worked out in numpy, and the errors that a user will meet."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from roadworthy.runtime import load
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata

MakeModel = Callable[..., Path]
backends = pytest.mark.parametrize("backend", [name for name, entry in BACKENDS.items() if ".onnx" in entry.suffixes])


@backends
def test_results_are_those_of_the_graph(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(), backend=backend)
    result = segmenter(frames)
    assert result.labels is not None
    assert result.confidence is not None
    assert result.latent is not None
    assert result.labels.dtype == np.uint8
    assert np.array_equal(result.labels, frames.argmax(3))
    assert result.confidence.dtype == np.float32
    assert result.confidence == pytest.approx(frames.max(3) / np.float32(255), abs=1e-6)
    pooled = frames.astype(np.float64).reshape(2, 2, 4, 4, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    assert result.latent == pytest.approx(pooled, rel=1e-5)
    assert segmenter.latent_shape == (3, 2, 4)
    assert segmenter.outputs == ("labels", "confidence", "latent")
    assert segmenter.metadata.architecture == "colours"
    assert segmenter.backend.startswith(backend)


@backends
def test_results_belong_to_the_caller(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(), backend=backend)
    first = segmenter(frames)
    assert first.labels is not None
    kept = first.labels.copy()
    segmenter(255 - frames)
    assert np.array_equal(first.labels, kept)


@backends
def test_any_batch_and_memory_order(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(), backend=backend)
    many = np.repeat(frames, 3, axis=0)[::2, :, ::-1]  # strided: neither contiguous nor writable in place
    result = segmenter(many)
    assert result.labels is not None
    assert np.array_equal(result.labels, many.argmax(3))


@backends
def test_latent_only_model(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(outputs=("latent",)), backend=backend)
    result = segmenter(frames)
    assert result.labels is None
    assert result.confidence is None
    assert result.latent is not None
    assert result.latent.shape == (2, 3, 2, 4)


@backends
def test_labels_only_model_has_no_latent(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(outputs=("labels",)), backend=backend, threads=1)
    assert segmenter.latent_shape is None
    assert segmenter(frames).latent is None
    assert segmenter.backend == f"{backend} (cpu, 1 thread)"


@backends
def test_outputs_in_another_order(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    result = load(make_model(outputs=("latent", "labels")), backend=backend)(frames)
    assert result.labels is not None
    assert np.array_equal(result.labels, frames.argmax(3))


@backends
def test_fixed_batch_is_respected(make_model: MakeModel, frames: np.ndarray, backend: str) -> None:
    segmenter = load(make_model(batch=2), backend=backend)
    segmenter(frames)
    with pytest.raises(BadInput, match=re.escape("takes uint8 [2, 8, 16, 3]")):
        segmenter(frames[:1])


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda frames: frames.astype(np.float32) / 255, "normalising are inside the model"),
        (lambda frames: frames[0], "add the batch axis"),
        (lambda frames: frames.transpose(0, 3, 1, 2), "channels go last"),
        (lambda frames: frames[:, ::2], "resize"),
        (lambda frames: frames[:0], "resize"),
        (lambda frames: frames.tolist(), "numpy.asarray"),
    ],
)
def test_wrong_frames_are_refused_with_the_signature(
    make_model: MakeModel, frames: np.ndarray, change: Callable[[np.ndarray], np.ndarray], hint: str
) -> None:
    with pytest.raises(BadInput, match=re.escape("takes uint8 [batch, 8, 16, 3] (RGB frames)") + ".*" + hint):
        load(make_model())(change(frames))


def test_a_graph_of_another_size_than_its_metadata_says(make_model: MakeModel, metadata: ModelMetadata) -> None:
    with pytest.raises(BadInput, match=re.escape("expected uint8 [batch, 8, 32, 3]")):
        load(make_model(props=replace(metadata, width=32).to_props()))


def test_a_model_that_is_not_ours(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match="lacks 'taxonomy'"):
        load(make_model(props={"author": "someone"}))


@backends
def test_a_graph_that_no_runtime_knows(tmp_path: Path, metadata: ModelMetadata, backend: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Teleport", ["frames"], ["labels"], domain="nowhere")],
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["b", 8, 16, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["b", 8, 16])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("nowhere", 1)], ir_version=10
    )
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(BadInput, match=r"odd\.onnx.*cannot open this model"):
        load(tmp_path / "odd.onnx", backend=backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cpu:1"}, "unknown device 'cpu:1'"),
        ({"backend": "abacus"}, "unknown backend 'abacus'.*onnxruntime"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "cuda", "backend": "openvino"}, "openvino backend computes on the CPU"),
    ],
)
def test_impossible_options(make_model: MakeModel, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(make_model(), **options)  # type: ignore[arg-type]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_asked_for_and_not_there(make_model: MakeModel) -> None:
    with pytest.raises(BadInput, match=r"no CUDA provider.*roadworthy\[gpu\]"):
        load(make_model(), device="cuda")


def test_plain_onnxruntime_in_three_lines(make_model: MakeModel, frames: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(make_model())
    labels, confidence, latent = session.run(["labels", "confidence", "latent"], {"frames": frames})
    assert np.array_equal(labels, frames.argmax(3))
    assert confidence.shape == (2, 8, 16)
    assert latent.shape == (2, 3, 2, 4)


def test_runs_where_torch_and_onnx_are_not_installed(make_model: MakeModel) -> None:
    program = f"""
import sys
for name in ("torch", "onnx", "onnxscript", "carla"):
    sys.modules[name] = None  # importing it now raises ImportError
import numpy
from roadworthy.runtime import load
result = load({str(make_model())!r})(numpy.full((1, 8, 16, 3), (1, 2, 3), numpy.uint8))
assert (result.labels == 2).all()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
