"""`roadworthy ground` from the command line: what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from roadworthy.eval.ground_page import write_ground_page
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.scripts.cli import main
from roadworthy.train.checkpoint import save_model
from roadworthy.train.config import TrainConfig
from roadworthy.train.ground import load_ground, severity
from roadworthy.train.models import build_model


def write_run(folder: Path) -> Path:
    torch.manual_seed(0)
    config = TrainConfig(data="recording:none", size=(64, 128))
    config.save(folder / "config.yaml")
    save_model(folder, build_model("enet", len(TOWN)), config, TOWN)
    return folder


def write_recording(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("rgb", "semantic"):
        (folder / part).mkdir(parents=True)
    tags = np.repeat(np.array([11, 3, 14, 1], np.uint8), 16)[:, None].repeat(128, axis=1)  # [64, 128]
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (64, 128, 3), np.uint8)).save(folder / "rgb" / f"{i}.png")
        Image.fromarray(tags).save(folder / "semantic" / f"{i}.png")
    (folder / "meta.jsonl").write_text("".join(f'{{"name": "{i}", "episode": {i}}}\n' for i in range(3)))
    return folder


def test_centroids_without_driving(tmp_path: Path) -> None:
    run, data = write_run(tmp_path / "run"), write_recording(tmp_path / "data")
    output = tmp_path / "out" / "ground.yaml"
    arguments = ["ground", "centroids", "--segmenter", str(run), "--data", f"recording:{data}", "-o", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    matrix = load_ground(output, TOWN)
    seen = [TOWN.index(name) for name in ("road", "building", "sky", "car")]
    part = matrix.cost[np.ix_(seen, seen)]
    np.testing.assert_allclose(part, part.T)
    assert matrix.cost[TOWN.index("person"), TOWN.index("road")] > 0  # never seen: as predefined


def test_what_is_refused() -> None:
    for arguments, message in (
        (["learn", "--segmenter", "nowhere"], "no such run folder"),
        (["consequence", "nowhere.jsonl", "--model", "m.onnx"], "no such episodes file"),
        (["centroids", "--segmenter", "nowhere", "--data", "recording:x"], "no such run folder"),
    ):
        result = CliRunner().invoke(main, ["ground", *arguments])
        assert result.exit_code == 2
        assert message in result.output


def test_the_page_of_heat_maps(tmp_path: Path) -> None:
    write_ground_page([("<b>", "note & more", severity(TOWN))], tmp_path / "ground.html", "A <title>")
    page = (tmp_path / "ground.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "A &lt;title&gt;" in page
    assert page.count('class="cell"') > 100
