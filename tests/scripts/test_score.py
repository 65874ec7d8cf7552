"""`roadworthy drive score` on hand-made episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from roadworthy.agent.episodes import Episode, append_episode
from roadworthy.agent.infractions import Infraction
from roadworthy.scripts.cli import main


def episode(route: int, *kinds: str) -> Episode:
    events = tuple(Infraction(kind, 10, 1.0, 5.0, (1.0, 2.0), 100.0, "static.pole") for kind in kinds)
    return Episode(
        id=f"net/0/s/Grid01/{route}/1", segmenter="net", policy_seed=0, suite="s", town="Grid01", held_out=False,
        weather="ClearNoon", task="straight", route=route, seed=route, traffic={"vehicles": 0, "walkers": 0}, steps=100,
        duration_s=10.0, distance_m=100.0, route_length_m=100.0, route_completion=1.0, ended="goal", infractions=events,
        mean_speed_mps=10.0, reward_sum=1.0,
    )  # fmt: skip


def test_tables_and_files(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append_episode(path, episode(0))
    append_episode(path, episode(1, "collision_static", "off_line"))
    board, figures = tmp_path / "board.json", tmp_path / "figures.json"
    arguments = ["drive", "score", str(path), "--rules", "2.0", "--leaderboard", str(board), "--json", str(figures)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "36.0" in result.output  # km/h
    assert "upper bounds" in " ".join(result.output.split())
    (facts,) = json.loads(figures.read_text())
    assert facts["leaderboard"]["score_composed"] == pytest.approx((100 + 65) / 2)
    assert facts["route_following"]["km_per_collision"] == pytest.approx(0.2)
    assert json.loads(board.read_text())["_checkpoint"]["global_record"]["scores_mean"]["score_penalty"] == pytest.approx(0.825)


def test_two_models_of_one_name_have_a_row_each(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    for name in ("ce", "wasserstein"):
        again = {"model": f"runs/{name}/model.onnx", "model_sha256": name, "policy": "drivers/mine", "policy_sha256": "0"}
        append_episode(tmp_path / f"{name}.jsonl", replace(episode(0), again=again))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("ce", "wasserstein")]
    result = CliRunner().invoke(main, ["drive", "score", *files, "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert [facts["segmenter"] for facts in json.loads(figures.read_text())] == [
        "net (runs/ce/model.onnx)", "net (runs/wasserstein/model.onnx)",
    ]  # fmt: skip


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    result = CliRunner().invoke(main, ["drive", "score", str(path)])
    assert result.exit_code == 2
    assert "no such episodes file" in result.output
    append_episode(path, replace(episode(0), ended="error"))
    assert CliRunner().invoke(main, ["drive", "score", str(path)]).exit_code == 2
