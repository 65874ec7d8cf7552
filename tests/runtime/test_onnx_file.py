"""Our reading of ONNX metadata and file names against the onnx package's, and files that are not ONNX."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.onnx_file import check_external_data, read_props


def test_agrees_with_the_onnx_package(make_model: Callable[..., Path]) -> None:
    path = make_model(props={"name": "Größe", "long": "x" * 5000, "empty": ""})
    assert read_props(path) == {prop.key: prop.value for prop in onnx.load(str(path)).metadata_props}


@pytest.mark.parametrize(
    "content", [b"", b"not a model\n" * 20, b"\x89PNG\r\n\x1a\n" + bytes(64), b"\xff" * 64, b"\x72\x7f\x0a"], ids=range(5)
)
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not an ONNX file"):
        read_props(path)


def test_a_model_cut_off_anywhere_is_refused(make_model: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_model().read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        cut.write_bytes(whole[:length])
        try:
            props = read_props(cut)
        except BadInput:
            continue
        assert props != read_props(tmp_path / "colours.onnx")  # cut between two fields: some metadata is gone


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.onnx: no such model file"):
        read_props(tmp_path / "gone.onnx")


def _tensor(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return tensor


def _hide_in_initializer(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.initializer.append(tensor)


def _hide_in_constant(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _hide_in_branch(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "branch", [], [])
    inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)], "outer", [], [])
    graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def _hide_in_sparse(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    sparse = onnx.SparseTensorProto(values=tensor, dims=[9])
    graph.sparse_initializer.append(sparse)


HIDING_PLACES = (_hide_in_initializer, _hide_in_constant, _hide_in_branch, _hide_in_sparse)


@pytest.mark.parametrize("hide", HIDING_PLACES)
@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "sub/../../secret", "link/secret"])
def test_data_outside_the_folder_is_refused_wherever_it_is_named(
    tmp_path: Path, make_model: Callable[..., Path], hide: Callable[..., None], location: str
) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    model = onnx.load(str(make_model()), load_external_data=False)
    hide(model.graph, _tensor(location))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match=r"m\.onnx: keeps weights in .* outside its own folder"):
        load(folder / "m.onnx")


@pytest.mark.parametrize("hide", HIDING_PLACES)
def test_data_beside_the_model_is_allowed_and_must_be_there(
    tmp_path: Path, make_model: Callable[..., Path], hide: Callable[..., None]
) -> None:
    model = onnx.load(str(make_model()))
    hide(model.graph, _tensor("weights.bin"))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match=r"its data file 'weights\.bin' is missing"):
        check_external_data(path)
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    check_external_data(path)


def test_messages_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = onnx.GraphProto(name="core")
    for _ in range(80):
        outer = onnx.GraphProto(name="shell")
        node = outer.node.add(op_type="Loop")
        node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = outer
    path = tmp_path / "deep.onnx"
    content = graph.SerializeToString()
    size = len(content)
    prefix = b"\x3a"  # field 7 of the model: the graph
    while size >= 0x80:
        prefix += bytes([size & 0x7F | 0x80])
        size >>= 7
    path.write_bytes(prefix + bytes([size]) + content)
    with pytest.raises(BadInput, match="nested more than"):
        check_external_data(path)
