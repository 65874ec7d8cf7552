"""The support matrix says what was seen: files are really made and run, and a refusal's reason is on the page."""

from pathlib import Path

import numpy as np

from roadworthy.scripts.make_support_matrix import COLUMNS, RAN, _try_format, table

from .colour_model import HEIGHT, WIDTH, write_colour_model


def test_formats_are_made_and_run(tmp_path: Path) -> None:
    source = write_colour_model(tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)
    plain = _try_format("enet", source, "fp32", "onnx", images)
    assert {record["backend"]: record["state"] for record in plain} == {"onnxruntime": RAN, "openvino": RAN}
    (ir,) = _try_format("enet", source, "fp32", "openvino", images)
    assert ir["state"] == RAN
    refused = _try_format("enet", source, "int8", "onnx", images)
    assert {record["state"] for record in refused} == {"refused"}  # it has no weights to round
    page = table([*plain, ir, *refused])
    rows = [line for line in page.splitlines() if line.startswith("| enet")]
    assert len(rows) == 2
    assert rows[0].startswith("| enet | fp32 | ran here | ran here | ran here | not tried")
    assert rows[1].startswith("| enet | int8 | refused (1) | refused (1) | not tried")
    assert "\n(1) the model has no convolutions" in page


def test_every_column_is_a_format_and_a_backend() -> None:
    assert len(set(COLUMNS.values())) == len(COLUMNS)
