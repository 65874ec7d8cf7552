"""What test_shared.py runs in worker processes: a spawned process imports this module by name."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from roadworthy.agent.env import DriveEnv
from roadworthy.agent.observer import LatentObserver
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.shared import SharedDrive
from roadworthy.runtime.segmenter import load

Report = Callable[[Any], None]
EMPTY = DriveConfig(vehicles=(0, 0), walkers=(0, 0), threads=1, max_steps=12)


def _observers(model: Path, egos: int) -> list[LatentObserver]:
    segmenter = load(model, device="cpu", threads=1)
    return [LatentObserver(segmenter) for _ in range(egos)]


def alone(report: Report, model: Path) -> dict[str, Any]:
    """The same seed and actions, in the environment and for a lone ego of a shared world; over two episodes."""
    actions = np.random.default_rng(0).uniform(-0.3, 1.0, (30, 3)).astype(np.float32)
    env = DriveEnv(model, EMPTY)
    rows: list[Any] = []
    try:
        observation, info = env.reset(seed=3)
        rows.append((observation, None, None, info))
        for action in actions:
            observation, reward, ended, truncated, info = env.step(action)
            first = env.reset()[0] if ended or truncated else None
            rows.append((observation, reward, ended or truncated, info, first))
    finally:
        env.close()
    report("the environment has driven")
    shared = SharedDrive(_observers(model, 1), EMPTY)
    others: list[Any] = []
    try:
        observation, info = shared.reset(seed=3)[0]
        others.append((observation, None, None, info))
        for action in actions:
            step = shared.step(action[None])[0]
            outcome = step.outcome
            others.append((outcome.observation, outcome.reward, outcome.over, outcome.info, step.first))
    finally:
        shared.close()
    return {"alone": rows, "shared": others}


def several(report: Report, model: Path) -> dict[str, Any]:
    """Three egos with traffic, over many episodes; then in an empty town twice with the same seed; then a dying server."""
    found: dict[str, Any] = {}
    crowded = DriveConfig(vehicles=(4, 4), walkers=(4, 4), threads=1, max_steps=25)
    shared = SharedDrive(_observers(model, 3), crowded)
    try:
        first = shared.reset(seed=1)
        found["space"] = all(shared.space.contains(observation) for observation, _ in first)
        found["starts"], found["cars"], found["actors"] = [_nearest(shared)], [_cars(shared)], [_actors(shared)]
        found["steps"] = []
        for i in range(90):
            steps = shared.step(np.array([[0.0, 0.6, 0.0], [0.0, 0.0, 1.0], [1.0, 0.8, 0.0]], np.float32))
            found["steps"].append([(s.outcome.over, s.outcome.info, s.outcome.reward, s.first is not None) for s in steps])
            if any(s.first is not None for s in steps):
                found["cars"].append(_cars(shared))
                found["actors"].append(_actors(shared))
                found["fresh"] = [float(s.first["measurements"][0]) for s in steps if s.first is not None]
            report(f"step {i}")
    finally:
        shared.close()
    shared = SharedDrive(_observers(model, 2), EMPTY)
    try:
        found["repeated"] = [_drive(shared, 16) for _ in range(2)]
        session = shared.stage.session
        assert session is not None
        assert session.town is not None
        os.kill(session.town.pid, signal.SIGKILL)
        steps = shared.step(np.zeros((2, 3), np.float32))
        found["killed"] = [(s.outcome.truncated, s.outcome.info["ended"], shared.space.contains(s.first)) for s in steps]
        found["after_kill"] = [s.outcome.over for s in shared.step(np.zeros((2, 3), np.float32))]
    finally:
        shared.close()
    return found


def worlds(report: Report, model: Path) -> list[list[str | None]]:
    """Why the episodes of two egos end, a reckless one and a steady one, until the world changes."""
    shared = SharedDrive(_observers(model, 2), replace(EMPTY, max_steps=30))
    ends: list[list[str | None]] = []
    try:
        shared.reset(seed=2)
        while len(ends) < 500 and not (ends and "world" in ends[-1]):
            steps = shared.step(np.array([[1.0, 1.0, 0.0], [0.0, 0.3, 0.0]], np.float32))
            ends.append([s.outcome.info.get("ended") for s in steps])
        report("changed")
        return ends
    finally:
        shared.close()


def _drive(shared: SharedDrive, steps: int) -> list[Any]:
    rows: list[Any] = [[observation for observation, _ in shared.reset(seed=9)]]
    actions = np.array([[0.1, 0.6, 0.0], [-0.1, 0.4, 0.0]], np.float32)
    rows += [[(s.outcome.observation, s.outcome.reward, s.first) for s in shared.step(actions)] for _ in range(steps)]
    return rows


def _nearest(shared: SharedDrive) -> float:
    places: Sequence[Any] = [ego.car.get_location() for ego in shared.stage.egos]
    return min(float(a.distance(b)) for a, b in combinations(places, 2))


def _cars(shared: SharedDrive) -> list[int]:
    return [ego.car.id for ego in shared.stage.egos]


def _actors(shared: SharedDrive) -> int:
    session = shared.stage.session
    assert session is not None
    return len(session.world.get_actors())
