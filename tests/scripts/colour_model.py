"""A model file without weights: a pixel's brightest channel is its class, the brightness its confidence."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID

HEIGHT, WIDTH = 16, 32


def write_colour_model(path: Path) -> Path:
    """Write the model, with the metadata of a real one."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["floats"], ["ids"], axis=3, keepdims=0),
        helper.make_node("Cast", ["ids"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["floats", "axis"], ["brightest"], keepdims=0),
        helper.make_node("Div", ["brightest", "scale"], ["confidence"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, ["batch", HEIGHT, WIDTH]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["batch", HEIGHT, WIDTH]),
        ],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [3]),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0]),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(proto, ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH).to_props())
    onnx.save(proto, str(path))
    return path
