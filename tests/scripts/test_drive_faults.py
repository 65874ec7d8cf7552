"""What a user can get wrong around recorded drives: each is one clear message and exit status 2, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from roadworthy.agent.episodes import Episode, append_episode, read_episodes
from roadworthy.scripts.cli import main

EPISODE = Episode(
    id="a/0/s/Grid01/0/1", segmenter="a", policy_seed=0, suite="s", town="Grid01", held_out=False, weather="ClearNoon",
    task="straight", route=0, seed=1, traffic={}, steps=10, duration_s=1.0, distance_m=9.0, route_length_m=20.0,
    route_completion=0.5, ended="timeout", infractions=(), mean_speed_mps=1.0, reward_sum=1.0,
)  # fmt: skip


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    said = " ".join(result.output.split())
    assert said.startswith("error: ")
    for word in words:
        assert word in said


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Episodes of which the second line was damaged, as by a bad disk."""
    path = tmp_path / "episodes.jsonl"
    for _ in range(3):
        append_episode(path, EPISODE)
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:40] + b"\x00\xff" + lines[1][42:]
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("drive", "score", "EPISODES"),
        ("drive", "replay", "EPISODES", "--episode", "1"),
        ("drive", "eval", "baseline:brake", "--segmenter", "m.onnx", "-o", "EPISODES"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_lost(damaged: Path, command: tuple[str, ...]) -> None:
    before = damaged.read_bytes()
    result = run(*(damaged if word == "EPISODES" else word for word in command))
    refused(result, f"{damaged}, line 2: not a JSON object", "remove or repair that line")
    assert damaged.read_bytes() == before


def test_a_line_cut_by_a_kill_is_no_damage(damaged: Path) -> None:
    damaged.write_bytes((json.dumps(EPISODE.to_dict()) + "\n").encode() + b'{"id": "a/0/s/Gri')
    assert run("drive", "score", damaged).exit_code == 0
    append_episode(damaged, EPISODE)
    assert read_episodes(damaged) == [EPISODE, EPISODE]


def test_a_missing_model_and_driver(tmp_path: Path) -> None:
    output = tmp_path / "episodes.jsonl"
    gone = tmp_path / "gone.onnx"
    refused(run("drive", "eval", "baseline:brake", "--segmenter", gone, "--straight", 1, "-o", output), str(gone), "no such")
    refused(run("drive", "eval", tmp_path / "nobody", "--segmenter", gone, "-o", output), "nobody", "no such file")
    assert not output.exists()


def test_an_empty_suite(tmp_path: Path) -> None:
    command = ("drive", "eval", "baseline:brake", "--segmenter", "m.onnx", "-o", tmp_path / "e.jsonl")
    refused(run(*command, "--straight", 0, "--one-turn", 0), "no routes to drive", "--straight")
    suite = tmp_path / "suite.yaml"
    for text, words in (
        ("", "expected the keys name, conditions, tasks"),
        ("name: s\nconditions: []\ntasks: []\n", "conditions"),
        ("name: s\n", "tasks"),
    ):
        suite.write_text(text)
        refused(run(*command, "--suite", suite), "suite.yaml", words)
    refused(run(*command, "--suite", "nobody"), "nobody: no such suite", "corl2017, nocrash, quick")


def test_an_empty_file_of_episodes(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.touch()
    refused(run("drive", "score", path), "no usable episodes")
    refused(run("drive", "replay", path), "holds no episodes")
    refused(run("drive", "replay", tmp_path / "none.jsonl"), "no such episodes file")


def test_ray_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'roadworthy[ray]'")
    command = ("drive", "eval", "baseline:brake", "--segmenter", "m.onnx", "-o", tmp_path / "e.jsonl", "--ray", "127.0.0.1:1")
    refused(run(*command), "no Ray cluster answers at '127.0.0.1:1'", "ray start --head")


def test_ray_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    command = ("drive", "eval", "baseline:brake", "--segmenter", "m.onnx", "-o", tmp_path / "e.jsonl", "--ray", "local")
    refused(run(*command), "needs the package 'ray'", "roadworthy[ray]")
