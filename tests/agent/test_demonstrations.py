"""Demonstrations in the real town: what the expert shows of cars that stand in its way."""

import json
from pathlib import Path

import numpy as np
import pytest

from roadworthy.agent.demonstrations import DemonstrationConfig, Demonstrations, demonstrate
from roadworthy.runtime.errors import BadInput


def shown(folder: Path, blocked_share: float = 0.0, stall_share: float = 0.0) -> Demonstrations:
    """Demonstrate in a town where nobody else drives."""
    config = DemonstrationConfig(
        towns=("Grid01",),
        steps=160,
        workers=1,
        vehicles=0,
        walkers=0,
        weathers=("ClearNoon",),
        blocked_share=blocked_share,
        stall_share=stall_share,
    )
    return demonstrate(config, folder)


def waits(demonstrations: Demonstrations) -> int:
    """Count the steps in which the expert stands and brakes."""
    return int(np.sum((demonstrations.measurements[:, 0] < 0.2) & (demonstrations.actions[:, 2] > 0)))


def test_the_expert_waits_behind_standing_cars_and_goes_on(tmp_path: Path) -> None:
    blocked, free = shown(tmp_path / "blocked", 1.0), shown(tmp_path / "free", 0.0)
    assert waits(free) == 0
    assert waits(blocked) >= 10
    first = blocked.episode == blocked.episode[0]
    speed = blocked.measurements[first, 0]
    stood = np.flatnonzero((speed < 0.2) & (blocked.actions[first, 2] > 0))
    assert speed[: stood[0]].max() > 4.0  # it drove, stood,
    assert speed[stood[-1] :].max() > 4.0  # and went on when the car was gone
    assert json.loads((tmp_path / "blocked" / "part-0" / "part.json").read_text())["collisions"] == 0


def test_a_car_that_was_stopped_for_no_reason_drives_on(tmp_path: Path) -> None:
    stalled = shown(tmp_path / "stalled", stall_share=1.0)
    standing = stalled.measurements[:, 0] < 0.2
    first = stalled.episode == stalled.episode[0]
    later = np.flatnonzero(standing & first)[-1]
    assert later > 10  # on the way, not at the start
    assert stalled.actions[later, 1] > 0.3  # and the expert wants to go on
    assert waits(stalled) == 0


def test_a_share_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"blocked_share is 35.*0 to 1"):
        demonstrate(DemonstrationConfig(blocked_share=35), tmp_path)


def test_fewer_steps_than_workers(tmp_path: Path) -> None:
    config = DemonstrationConfig(steps=1, workers=2, vehicles=0, walkers=0, weathers=("ClearNoon",), blocked_share=0.0)
    assert len(demonstrate(config, tmp_path)) == 1
