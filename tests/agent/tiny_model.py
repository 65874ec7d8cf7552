"""A segmenter small enough for tests: its latent is the frame itself, averaged over 8 x 8 pixels."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import TOWN

HEIGHT, WIDTH = 128, 256
LATENT = (3, HEIGHT // 8, WIDTH // 8)


def write_tiny_model(path: Path) -> Path:
    """Write the model, with the metadata of a real one."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Div", ["pooled", "bytes"], ["latent"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["batch", *LATENT])],
        [helper.make_tensor("bytes", TensorProto.FLOAT, [], [255.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = ModelMetadata.of(TOWN, ignore_id=255, height=HEIGHT, width=WIDTH)
    helper.set_model_props(model, facts.to_props())
    onnx.save(model, path)
    return path
