"""A tiny model file whose results anyone can work out: the brightest colour channel of a pixel is its class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID

HEIGHT, WIDTH = 8, 16

MakeModel = Callable[..., Path]


def _colour_model(batch: str | int, outputs: tuple[str, ...]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["floats"], ["ids"], axis=3, keepdims=0),
        helper.make_node("Cast", ["ids"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Constant", [], ["axis"], value=helper.make_tensor("a", TensorProto.INT64, [1], [3])),
        helper.make_node("ReduceMax", ["floats", "axis"], ["brightest"], keepdims=0),
        helper.make_node("Constant", [], ["scale"], value=helper.make_tensor("s", TensorProto.FLOAT, [], [1 / 255])),
        helper.make_node("Mul", ["brightest", "scale"], ["confidence"]),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["latent"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    shapes = {
        "labels": (TensorProto.UINT8, [batch, HEIGHT, WIDTH]),
        "confidence": (TensorProto.FLOAT, [batch, HEIGHT, WIDTH]),
        "latent": (TensorProto.FLOAT, [batch, 3, HEIGHT // 4, WIDTH // 4]),
    }
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])
    results = [helper.make_tensor_value_info(name, *shapes[name]) for name in outputs]
    graph = helper.make_graph(nodes, "colours", [frames], results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what `load` remembers out of the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def metadata() -> ModelMetadata:
    return ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH, objective="none", architecture="colours")


@pytest.fixture
def make_model(tmp_path: Path, metadata: ModelMetadata) -> MakeModel:
    """Write the colour model with chosen outputs and `metadata_props` (None: the right ones)."""

    def make(
        outputs: tuple[str, ...] = ("labels", "confidence", "latent"),
        props: dict[str, str] | None = None,
        batch: str | int = "batch",
        name: str = "colours.onnx",
    ) -> Path:
        model = _colour_model(batch, outputs)
        helper.set_model_props(model, metadata.to_props() if props is None else props)
        path = tmp_path / name
        onnx.save(model, str(path))
        return path

    return make


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
