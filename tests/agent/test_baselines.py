"""The baselines act as their names say."""

from pathlib import Path

import numpy as np
import pytest

from roadworthy.agent.baselines import HOLD_STEPS, baseline, open_driver
from roadworthy.runtime.errors import BadInput


def test_constant_drivers() -> None:
    assert baseline("brake").act({}).tolist() == [0.0, 0.0, 1.0]
    steer, throttle, brake = baseline("forward").act({})
    assert (steer, brake) == (0.0, 0.0)
    assert throttle > 0.2


def test_random_is_seeded_and_holds_its_actions() -> None:
    actions = [[driver.act({}) for _ in range(4 * HOLD_STEPS)] for driver in (baseline("random", 1), baseline("random", 1))]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert len({tuple(action) for action in actions[0]}) == 4
    assert all(action.dtype == np.float32 and np.abs(action).max() <= 1 for action in actions[0])
    assert not np.array_equal(baseline("random", 2).act({}), actions[0][0])


def test_names() -> None:
    assert open_driver(Path("baseline:brake")).act({})[2] == 1.0
    with pytest.raises(BadInput, match="known: random, forward, brake"):
        open_driver(Path("baseline:fast"))
    with pytest.raises(BadInput):
        open_driver(Path("no/such/driver"))
