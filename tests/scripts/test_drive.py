"""`roadworthy drive` from the command line: what it refuses before anything starts, and what it says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from roadworthy.agent.algorithms import ALGOS as LEARNERS
from roadworthy.agent.demonstrations import DemonstrationConfig
from roadworthy.agent.policy import build_policy, save_policy
from roadworthy.scripts.cli import main
from roadworthy.scripts.drive_train import ALGOS


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "agent"))
    monkeypatch.delitem(sys.modules, "tiny_model", raising=False)
    path: Path = importlib.import_module("tiny_model").write_tiny_model(tmp_path / "tiny.onnx")
    return path


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["drive", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_the_command_offers_every_learner() -> None:
    assert ALGOS == LEARNERS


def test_sac_says_what_its_buffer_takes_and_refuses_what_does_not_fit(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "driver"
    said = refused("train", "--segmenter", model, "--algo", "sac", "--replay", "900000000", "-o", output)
    assert "a replay buffer of 900000000 steps x 12 kB = 11145.60 GB" in said
    assert "steps fit: --replay" in said
    assert not output.exists()  # so that the same folder can be used with another size


def test_what_a_learner_cannot_begin_with(model: Path, tmp_path: Path) -> None:
    assert "expected a policy folder" in refused("train", "--segmenter", model, "--start", tmp_path / "nobody")
    save_policy(build_policy((3, 8, 8), 0), tmp_path / "other", {})
    said = refused("train", "--segmenter", model, "--start", tmp_path / "other", "-o", tmp_path / "driver")
    assert "gives other shapes; imitate on this segmenter first" in said
    assert not (tmp_path / "driver").exists()
    assert "unknown observation 'smell'" in refused("train", "--segmenter", model, "--observation", "smell")


def test_an_export_without_observations_is_refused(tmp_path: Path) -> None:
    assert "expected a policy folder" in refused("export", tmp_path / "nobody")
    save_policy(build_policy((3, 8, 8), 0), tmp_path / "old", {})
    assert "kept no observations of its training" in refused("export", tmp_path / "old")
    assert not (tmp_path / "old" / "policy.onnx").exists()


def test_a_driver_that_is_none_of_the_kinds(model: Path, tmp_path: Path) -> None:
    assert "not an exported policy" in refused("eval", model, "--segmenter", model)
    assert "unknown baseline 'fast'" in refused("eval", "baseline:fast", "--segmenter", model, "-o", tmp_path / "e.jsonl")


def test_a_buffer_is_measured_with_the_segmenters_own_camera(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = sys.modules["tiny_model"]
    monkeypatch.setattr(tiny, "HEIGHT", 64)
    monkeypatch.setattr(tiny, "WIDTH", 160)
    small = tiny.write_tiny_labels(model.with_name("small.onnx"))
    chosen = ("--observation", "segmentation-depth", "--algo", "sac", "--replay", "900000000", "-o", tmp_path / "driver")
    said = refused("train", "--segmenter", small, *chosen)
    assert re.findall(r"x (\d+) kB", said) == ["31", "31"]  # both maps of 64 x 80, before and after the step


def test_the_size_of_demonstrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DemonstrationConfig] = []

    def record(config: DemonstrationConfig, *_: object) -> list[int]:
        asked.append(config)
        return []

    monkeypatch.setattr("roadworthy.agent.demonstrations.demonstrate", record)
    for size in ((), ("--size", "160x64")):
        result = CliRunner().invoke(main, ["drive", "demonstrate", str(tmp_path), *size])
        assert result.exit_code == 0, result.output
    assert [(config.rig.width_px, config.rig.height_px) for config in asked] == [(256, 128), (160, 64)]
