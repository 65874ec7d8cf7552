"""Segmenters small enough for tests: a latent that is the frame averaged over 8 x 8 pixels, labels that are its brightness."""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import TOWN

HEIGHT, WIDTH = 128, 256
LATENT = (3, HEIGHT // 8, WIDTH // 8)


def write_tiny_labels(path: Path) -> Path:
    """Write a model without a latent: label = mean of the three channels / 13, of the taxonomy `town`."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "last"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "thirteen"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["labels"], to=TensorProto.UINT8),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("thirteen", TensorProto.FLOAT, [], [13.0]),
    ]
    return _write(path, nodes, "labels", TensorProto.UINT8, [HEIGHT, WIDTH], constants)


def write_tiny_model(path: Path) -> Path:
    """Write the model, with the metadata of a real one."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Div", ["pooled", "bytes"], ["latent"]),
    ]
    return _write(
        path, nodes, "latent", TensorProto.FLOAT, list(LATENT), [helper.make_tensor("bytes", TensorProto.FLOAT, [], [255.0])]
    )


def _write(path: Path, nodes: list[Any], name: str, kind: int, shape: list[int], constants: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info(name, kind, ["batch", *shape])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = ModelMetadata.of(TOWN, ignore_id=255, height=HEIGHT, width=WIDTH)
    helper.set_model_props(model, facts.to_props())
    onnx.save(model, path)
    return path
