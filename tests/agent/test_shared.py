"""Several egos in one world: alone the same as the environment, together each with its own drive, never spawned again."""

import importlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from roadworthy.agent.observer import LatentObserver
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.shared import RESTART_TICKS, WORLD_EPISODES, SharedDrive
from roadworthy.agent.supervisor import supervise
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmentation


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    sys.path.insert(0, str(Path(__file__).parent))  # spawned processes import by name
    yield importlib.import_module("shared_tasks")
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def model(tasks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert tasks
    path: Path = importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    return path


@pytest.fixture(scope="module")
def several(tasks: ModuleType, model: Path) -> dict[str, Any]:
    found: dict[str, Any] = supervise(tasks.several, model, attempts=1)
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_lone_ego_drives_what_the_environment_drives(tasks: ModuleType, model: Path) -> None:
    drives = supervise(tasks.alone, model, attempts=1)
    assert sum(row[2] is True for row in drives["alone"]) >= 2  # over the ends of episodes
    assert same(drives["alone"], drives["shared"])


def test_each_has_its_own_drive(several: dict[str, Any]) -> None:
    assert several["space"]
    assert several["starts"][0] > 10.0  # m apart
    early = several["steps"][10]
    driven = [row[1]["distance_m"] for row in early]
    assert driven[0] > 0.5 > 0.1 > driven[1]  # throttle, brake


def test_who_ends_begins_again_and_nobody_is_spawned(several: dict[str, Any]) -> None:
    over = [row for step in several["steps"] for row in step if row[0]]
    assert len(over) >= 9
    assert all(row[3] == row[0] for step in several["steps"] for row in step)  # a first observation when it is over, only then
    assert {row[1]["ended"] for row in over} <= {"timeout", "crash", "off_line", "off_road", "goal"}
    assert all(cars == several["cars"][0] for cars in several["cars"])
    assert max(several["actors"]) == min(several["actors"])
    assert max(several["fresh"]) < 1.0  # m/s: they begin standing


def test_the_others_drive_on_while_one_begins_again(several: dict[str, Any]) -> None:
    gaps = []
    for before, step in pairwise(several["steps"]):
        if step[2][0] and not step[0][0] and not before[0][0]:  # the reckless one ends, the steady one drives on
            gaps.append((step[0][1]["distance_m"] - before[0][1]["distance_m"], step[0][1]["speed_mps"]))
    assert gaps
    for metres, mps in gaps:
        assert metres == pytest.approx(mps * 0.1 * (1 + RESTART_TICKS), rel=0.25)


def test_the_same_seed_and_actions_are_the_same_drive(several: dict[str, Any]) -> None:
    assert same(*several["repeated"])


def test_a_killed_server_truncates_all_and_they_begin_again(several: dict[str, Any]) -> None:
    assert several["killed"] == [(True, "error", True)] * 2
    assert several["after_kill"] == [False, False]


class Sighted:
    latent_shape = (2, 8, 8)

    def __call__(self, frames: np.ndarray) -> Segmentation:
        raise AssertionError(frames.shape)


def test_the_world_changes_after_some_episodes(tasks: ModuleType, model: Path) -> None:
    ends = supervise(tasks.worlds, model, attempts=1)
    changes = [i for i, step in enumerate(ends) if "world" in step]
    assert changes
    assert all(None not in ends[i] for i in changes)  # everybody begins anew
    assert sum(end is not None for step in ends[: changes[0]] for end in step) < 2 * WORLD_EPISODES


def test_an_evaluation_drives_alone() -> None:
    observers = [LatentObserver(Sighted()), LatentObserver(Sighted())]
    with pytest.raises(BadInput, match="2 egos in one world in mode 'evaluate'"):
        SharedDrive(observers, DriveConfig(mode="evaluate"))
    with pytest.raises(BadInput, match=r"reset\(\) first"):
        SharedDrive(observers, DriveConfig()).step(np.zeros((2, 3), np.float32))
