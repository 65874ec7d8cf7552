"""Our reading of ONNX metadata against the onnx package's, and files that are not ONNX."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.onnx_file import read_props


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
