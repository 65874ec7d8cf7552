"""Episodes in several towns: the seed draws where, and what is seen there can be repeated."""

from collections.abc import Iterator

import numpy as np
import pytest

from roadworthy.agent.env import DriveSegDepthEnv
from roadworthy.agent.observer import Observer
from roadworthy.agent.outlook import SEGMENTATION_DEPTH, View
from roadworthy.agent.rules import DriveConfig, draw_town
from roadworthy.agent.shared import SharedDrive

CONFIG = DriveConfig(towns=("Grid01", "Crooked01"), vehicles=(2, 2), walkers=(2, 2))


@pytest.fixture
def env() -> Iterator[DriveSegDepthEnv]:
    made = DriveSegDepthEnv("truth", CONFIG)
    yield made
    made.close()


def test_a_seed_draws_a_town_and_shows_the_same_there_again(env: DriveSegDepthEnv) -> None:
    shown = {}
    for seed in (0, 1, 2, 3, 4, 5):
        observation, _ = env.reset(seed=seed)
        shown.setdefault(env.town, (seed, observation))
        assert env.session is not None
        assert env.session.map_name == env.town
        if len(shown) == 2:
            break
    assert set(shown) == set(CONFIG.towns)
    seed, before = shown["Grid01"]
    after, _ = env.reset(seed=seed)
    assert env.town == "Grid01"
    assert before.keys() == after.keys()
    for name, part in before.items():
        np.testing.assert_array_equal(after[name], part)
    towns = []
    for _ in range(4):  # without a seed the episodes go on being drawn
        env.reset()
        env.step(np.array([0.0, 1.0, 0.0], np.float32))
        towns.append(env.town)
    assert set(towns) == set(CONFIG.towns)


def test_several_egos_move_together() -> None:
    observers: list[Observer] = View(SEGMENTATION_DEPTH, "truth").observers(CONFIG, 2)
    drive = SharedDrive(observers, CONFIG)
    try:
        towns = set()
        for _ in range(5):
            drive.reset()
            towns.add(drive.stage.town)
            drive.step(np.zeros((2, 3), np.float32))
        assert towns == set(CONFIG.towns)
    finally:
        drive.close()


def test_one_town_needs_no_draw() -> None:
    assert {draw_town(DriveConfig(town="Ring01"), seed) for seed in range(9)} == {"Ring01"}
