"""Corners are wide enough for two buses: where they are not, the Traffic Manager's cars lock each other up."""

import importlib
import sys
from pathlib import Path

import pytest

from roadworthy.agent.supervisor import supervise

pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")


def test_a_bus_turns_right_past_a_bus_that_stands_at_the_sign() -> None:
    folder = str(Path(__file__).parent)  # the spawned process imports the task by its name
    sys.path.insert(0, folder)
    try:
        found = supervise(importlib.import_module("corner_task").meet, "Grid02", attempts=1)
    finally:
        sys.path.remove(folder)
    assert found == {"came": [True] * 4, "touched": [False] * 4}
