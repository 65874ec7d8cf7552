"""Any recorded episode is driven again from its line: the same outcome, a film of it, and words for what differs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from roadworthy.agent.drive import Driver, Suite, evaluate_policies
from roadworthy.agent.episodes import Episode, read_episodes
from roadworthy.agent.infractions import Infraction
from roadworthy.eval.replay import circumstances, differences, pick_episode, replay
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.video import read_video
from roadworthy.scripts.cli import main

SUITE = Suite("tiny", "Grid01", held_out=False, tasks=(("straight", 2),), max_length_m=75.0, vehicles=0, walkers=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tools = str(Path(__file__).parents[1] / "agent")
    sys.path.insert(0, tools)
    from tiny_model import write_tiny_model  # type: ignore[import-not-found]

    yield write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    sys.path.remove(tools)


@pytest.fixture(scope="module")
def recorded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return record(model, SUITE, tmp_path_factory.mktemp("recorded"))


def record(model: Path, suite: Suite, folder: Path) -> tuple[Path, Path]:
    """Drive a suite; returns its episodes file and the folder of its films."""
    driver = Driver("tiny", model, Path("baseline:forward"), policy_seed=3)
    evaluate_policies([driver], [suite], folder / "episodes.jsonl", workers=1, film=folder / "films")
    return folder / "episodes.jsonl", folder / "films"


def check_second_alone(path: Path, films: Path, film: Path) -> None:
    """Replay the second episode without the first one before it: the same outcome and the same pictures."""
    result = CliRunner().invoke(main, ["drive", "replay", str(path), "--episode", "2", "-o", str(film)])
    assert result.exit_code == 0, result.output
    assert "the same as recorded" in result.output
    second = read_episodes(path)[1]
    frames = [frame for frame, _ in read_video(film)[1]]
    assert len(frames) == second.steps + 15  # the last picture stays
    assert frames[0].shape == (368, 768, 3)  # no prediction: the tiny model has no labels
    filmed = [frame for frame, _ in read_video(sorted(films.glob("*.mp4"))[1])[1]]
    assert len(filmed) == len(frames)
    changed = [(number, np.argwhere(a != b)) for number, (a, b) in enumerate(zip(filmed, frames, strict=True))]
    changes = [(number, len(at), at.min(0), at.max(0)) for number, at in changed if len(at)]
    assert not changes, f"{len(changes)} of {len(frames)} pictures differ, the first (number, values, from, to): {changes[0]}"
    moved = [np.abs(a[:256, :512].astype(int) - b[:256, :512]).mean() for a, b in zip(frames, frames[10:], strict=False)]
    assert max(moved) > 1.0  # the camera's picture lives


def test_the_second_episode_comes_out_the_same_by_itself(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    check_second_alone(*recorded, tmp_path / "two.mp4")


def test_in_traffic_too(model: Path, tmp_path: Path) -> None:
    path, films = record(model, replace(SUITE, vehicles=3, walkers=6), tmp_path)
    check_second_alone(path, films, tmp_path / "two.mp4")


def test_an_edited_line_comes_out_otherwise(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = recorded
    record = json.loads(path.read_text().splitlines()[0])
    record["again"]["suite"]["seed"] += 1  # another route
    record["again"]["model"] = str((path.parent / record["again"]["model"]).resolve())
    edited = tmp_path / "edited.jsonl"
    edited.write_text(json.dumps(record) + "\n")
    again = replay(pick_episode(edited, None), edited)
    assert not again.same
    assert again.circumstances == ()
    assert any(words.startswith("route_length_m: recorded") for words in again.differences)


def episode(**changes: object) -> Episode:
    plain = Episode(
        id="a/0/s/Grid01/0/1", segmenter="a", policy_seed=0, suite="s", town="Grid01", held_out=False, weather="ClearNoon",
        task="straight", route=0, seed=1, traffic={}, steps=10, duration_s=1.0, distance_m=9.0, route_length_m=20.0,
        route_completion=0.5, ended="timeout", infractions=(), mean_speed_mps=1.0, reward_sum=1.0,
        trajectory=((0.0, 0.0), (5.0, 0.0)),
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_differences_are_named() -> None:
    assert differences(episode(), episode()) == ()
    hit = Infraction("collision_car", 7, 0.7, 5.0, (5.0, 0.0), 100.0, "vehicle.audi.a2")
    other = episode(ended="goal", distance_m=9.5, infractions=(hit,), trajectory=((0.0, 0.0), (5.0, 2.0)))
    assert differences(episode(), other) == (
        "ended: recorded timeout, now goal",
        "distance_m: recorded 9.0, now 9.5",
        "infractions: recorded none, now collision_car at 0.7 s",
        "trajectory: apart from 1 s on, at most 2.00 m",
    )


def test_circumstances_are_named(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"another model")
    facts = {"model_sha256": "0" * 64, "policy_sha256": "", "server": "town"}
    driver = Driver("a", model, Path("baseline:brake"))
    words = circumstances(episode(again=facts, versions={"carla": "0.9.15"}), driver, "10.0.0.5:2000")
    assert words == (
        "carla is 0.9.16, it was 0.9.15",
        f"{model} is not the model that drove then (another SHA-256)",
        "the server is 10.0.0.5:2000, it was town",
    )


def test_wrong_files_and_episodes_are_clear_errors(recorded: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = recorded
    with pytest.raises(BadInput, match="no such episodes file"):
        pick_episode(tmp_path / "none.jsonl", None)
    for which in (None, "3", "nobody"):
        with pytest.raises(BadInput, match=r"--episode, by number or id.*1: tiny/3/tiny/Grid01/0/100; 2: "):
            pick_episode(path, which)
    assert pick_episode(path, "tiny/3/tiny/Grid01/1/100") == pick_episode(path, "2")
    first = pick_episode(path, "1")
    with pytest.raises(BadInput, match="does not say how to drive it again"):
        replay(replace(first, again={}), path)
    gone = {**first.again, "model": "moved/away.onnx"}
    with pytest.raises(BadInput, match=r"away\.onnx: it is not there any more.*--segmenter"):
        replay(replace(first, again=gone), path)
    for suite in ({"name": "s"}, {**first.again["suite"], "tasks": [["straight", 0]]}, "text"):
        with pytest.raises(BadInput, match="not the suite of a recorded drive"):
            replay(replace(first, again={**first.again, "suite": suite}), path)
    with pytest.raises(BadInput, match="is drive 7 of 2"):
        replay(replace(first, again={**first.again, "drive": 7}), path)
