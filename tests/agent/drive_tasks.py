"""What test_env.py and test_drive.py run in worker processes: a spawned process imports this module by name."""

import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env as check_by_gymnasium
from stable_baselines3.common.env_checker import check_env as check_by_sb3

import roadworthy.agent  # noqa: F401  # registers the environment
from roadworthy.agent.env import DriveEnv, RouteEnv
from roadworthy.runtime.errors import BadInput

Report = Callable[[Any], None]
FORWARD, HARD_RIGHT, COAST = (np.array(a, np.float32) for a in ([0.0, 0.6, 0.0], [1.0, 0.6, 0.0], [0.0, 0.0, 0.0]))


def check(report: Report, model: Path) -> dict[str, Any]:
    """Everything about the environment that needs a town, in one process and on as few towns as possible."""
    found: dict[str, Any] = {}
    env = gymnasium.make(
        "roadworthy/Drive-v0", segmenter=model, vehicles=(3, 5), walkers=(3, 5), render_mode="rgb_array", threads=1
    )
    drive = env.unwrapped
    assert isinstance(drive, DriveEnv)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # In an empty town, where the same seed gives the same frame to the last bit.
            crowded, drive.config = drive.config, replace(drive.config, vehicles=(0, 0), walkers=(0, 0))
            check_by_gymnasium(drive)
            drive.config = crowded
            report("checked by gymnasium")
            check_by_sb3(drive)
        found["warnings"] = sorted({str(w.message).split("\n")[0] for w in caught if "carla" not in str(w.filename)})
        report("checked by SB3")
        found["reset"] = _resets(env, drive)
        report("reset")
        found["forward"] = _drive(env, FORWARD, 30)
        found["picture"] = env.render().shape
        found["off"] = _drive(env, HARD_RIGHT, 200)
        report("drove")
        try:
            env.step(np.array([0.0, np.nan, 0.0], np.float32))
        except BadInput as error:
            found["nan"] = str(error)
        drive.config = replace(drive.config, vehicles=(0, 0), walkers=(0, 0))  # a Traffic Manager would abort the process
        env.reset()
        os.kill(drive.session.town.pid, signal.SIGKILL)
        found["killed"] = env.step(COAST)[2:]
        observation, _ = env.reset()
        found["after_kill"] = drive.observation_space.contains(observation)
    finally:
        env.close()
    report("closed")
    found["evaluate"] = _evaluate(model, report)
    return found


def _resets(env: gymnasium.Env, drive: DriveEnv) -> dict[str, Any]:
    """The same seed gives the same episode, another one another; nobody is left behind."""
    starts = [env.reset(seed=seed)[0]["latents"].astype(np.float32) for seed in (5, 5, 6)]
    crowded, drive.config = drive.config, replace(drive.config, vehicles=(0, 0), walkers=(0, 0))
    ends = []
    for _ in range(2):
        env.reset(seed=5)
        ends.append([env.step(FORWARD)[0] for _ in range(8)][-1])
    drive.config = crowded
    actors = []
    for _ in range(3):
        env.reset()
        drive.ego.close()
        drive.session.tick()
        actors.append(len(drive.session.world.get_actors()))
    return {
        "same_start": float(np.abs(starts[0] - starts[1]).max()),
        "other_start": float(np.abs(starts[0] - starts[2]).max()),
        "same_drive": all(np.array_equal(ends[0][key], ends[1][key]) for key in ends[0]),
        "actors": actors,
    }


def _drive(env: gymnasium.Env, action: np.ndarray, steps: int) -> dict[str, Any]:
    env.reset(seed=5)
    rewards, over, info = [], False, {}
    while not over and len(rewards) < steps:
        _, reward, ended, truncated, info = env.step(action)
        rewards.append(reward)
        over = ended or truncated
    return {"rewards": rewards, "info": info, "terminated": over and not truncated}


def _evaluate(model: Path, report: Report) -> dict[str, Any]:
    """An evaluation goes on after infractions and puts the car back."""
    env = DriveEnv(model, mode="evaluate", vehicles=(0, 0), walkers=(0, 0), threads=1)
    try:
        env.reset(seed=5)
        over, steps, info = False, 0, {}
        while not over and steps < 250:
            _, _, ended, truncated, info = env.step(HARD_RIGHT if steps % 100 > 20 else FORWARD)
            over, steps = ended or truncated, steps + 1
        report("evaluated")
        return {"steps": steps, "info": info, "kinds": sorted({event.kind for event in env.infractions.events})}
    finally:
        env.close()


def check_segdepth(report: Report, model: Path) -> dict[str, Any]:
    """Check the environment on label map and depth with true labels, then with a model's in an empty town."""
    found: dict[str, Any] = {}
    quiet = {"vehicles": (0, 0), "walkers": (0, 0), "render_mode": "rgb_array", "threads": 1}
    env = gymnasium.make("roadworthy/DriveSegDepth-v0", **quiet)
    drive = env.unwrapped
    assert isinstance(drive, RouteEnv)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_by_gymnasium(drive)
            report("checked by gymnasium")
            check_by_sb3(drive)
        found["warnings"] = sorted({str(w.message).split("\n")[0] for w in caught if "carla" not in str(w.filename)})
        report("checked by SB3")
        ends = []
        for _ in range(2):
            env.reset(seed=5)
            ends.append([env.step(FORWARD)[0] for _ in range(8)][-1])
        found["same_drive"] = all(np.array_equal(ends[0][key], ends[1][key]) for key in ends[0])
        found["observation"], found["tags"], found["depth_m"] = ends[1], drive.moment.tags, drive.moment.depth_m
        found["picture"] = env.render()
    finally:
        env.close()
    report("closed")
    judged = gymnasium.make("roadworthy/DriveSegDepth-v0", segmenter=model, **quiet)
    try:
        judged.reset(seed=5)
        found["predicted"] = [judged.step(FORWARD)[0] for _ in range(8)][-1]
        found["frame"] = judged.unwrapped.moment.frame
    finally:
        judged.close()
    return found
