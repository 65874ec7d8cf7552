import json
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from roadworthy.agent.episodes import Episode, append_episode, finished_ids, read_episodes
from roadworthy.agent.infractions import Infraction
from roadworthy.runtime.errors import BadInput


def episode(name: str = "a/0/quick/Grid01/straight/0/7") -> Episode:
    return Episode(
        id=name,
        segmenter="cross-entropy",
        policy_seed=0,
        suite="quick",
        town="Grid01",
        held_out=False,
        weather="ClearNoon",
        task="straight",
        route=0,
        seed=7,
        traffic={"vehicles": 10, "walkers": 10},
        steps=200,
        duration_s=20.0,
        distance_m=101.5,
        route_length_m=110.0,
        route_completion=0.92,
        ended="timeout",
        infractions=(Infraction("collision_car", 12, 1.2, 8.0, (1.0, -2.0), 900.0, "vehicle.audi.tt"),),
        mean_speed_mps=5.1,
        reward_sum=-3.5,
        versions={"carla": "0.9.16"},
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    first, second = episode("1"), episode("2")
    append_episode(path, first)
    append_episode(path, second)
    assert read_episodes(path) == [first, second]
    record = json.loads(path.read_text().splitlines()[0])
    assert record["return"] == -3.5
    assert record["infractions"][0]["location"] == [1.0, -2.0]


def test_an_absent_file_has_no_episodes(tmp_path: Path) -> None:
    assert read_episodes(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(("keep", "kept"), [(1, ["1"]), (40, ["1"]), (-2, ["1"]), (-1, ["1", "2"])])
def test_a_cut_last_line_is_skipped_and_overwritten(tmp_path: Path, keep: int, kept: list[str]) -> None:
    path = tmp_path / "episodes.jsonl"
    append_episode(path, episode("1"))
    whole = path.read_bytes()
    append_episode(path, episode("2"))
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:keep])
    assert [e.id for e in read_episodes(path)] == kept  # without its newline a line is still whole
    append_episode(path, episode("3"))
    assert [e.id for e in read_episodes(path)] == [*kept, "3"]


def test_a_damaged_middle_line_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append_episode(path, episode("1"))
    path.write_bytes(path.read_bytes()[:50] + b"\n")
    append_episode(path, episode("2"))
    with pytest.raises(BadInput, match=r"line 1.*repair"):
        read_episodes(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ended": "tired"}, "tired"), ({"steps": None}, "steps"), ({"colour": 1}, "colour"), ({"town": ...}, "town")],
)
def test_wrong_records_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    record = episode().to_dict() | change
    record = {key: value for key, value in record.items() if value is not ...}
    path = tmp_path / "episodes.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(BadInput, match=message):
        read_episodes(path)


def _append_many(path: Path, worker: int) -> None:
    for number in range(20):
        append_episode(path, episode(f"{worker}-{number}"))


def test_two_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    workers = [get_context("fork").Process(target=_append_many, args=(path, i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({e.id for e in read_episodes(path)}) == 40


def test_errors_are_driven_again() -> None:
    done = [episode("1"), replace(episode("2"), ended="error")]
    assert finished_ids(done) == {"1"}
