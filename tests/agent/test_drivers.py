"""Which of two policies is kept: how the judging routes are driven, without a simulator."""

from types import SimpleNamespace
from typing import Any

import pytest

from roadworthy.agent.drivers import DriverConfig, _judge
from roadworthy.agent.session import SimulatorLost

POLICY: Any = SimpleNamespace(act=lambda _: 0)


class Fragile:
    """An environment whose episodes pay 1 a step for three steps; its first ones end after two, with the simulator."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.seeds: list[int] = []

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seeds.append(seed)
        self.steps = 0
        return {}, {}

    def step(self, _: object) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if len(self.seeds) <= self.losses and self.steps == 2:
            return {}, 0.0, False, True, {"ended": "error", "error": "the server died"}
        return {}, 1.0, self.steps == 3, False, {"ended": "goal"} if self.steps == 3 else {}


def test_a_judging_route_whose_simulator_was_lost_is_driven_again() -> None:
    env: Any = Fragile(losses=1)
    assert _judge(POLICY, env, DriverConfig(judge_routes=2, judge_seed=7), lambda _: None) == 3.0
    assert env.seeds == [7, 7, 8]


def test_a_judging_route_that_no_simulator_survives_is_given_up() -> None:
    env: Any = Fragile(losses=100)
    with pytest.raises(SimulatorLost, match=r"3 attempts \(the server died\)"):
        _judge(POLICY, env, DriverConfig(judge_routes=1), lambda _: None)
    assert len(env.seeds) == 3
