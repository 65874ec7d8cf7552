"""The world to drive in and the rules of driving in it: what every driving environment is configured with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.ego import Assignment
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.rewards import REWARDS, RewardWeights
from roadworthy.agent.routes import TASK_LENGTHS_M, Task, make_routes
from roadworthy.agent.weather import TRAINING_WEATHERS, get_weather
from roadworthy.runtime.errors import BadInput

TOWN_STREAM = 1  # of an episode's random numbers; a town that was drawn does not change what else is


@dataclass(frozen=True)
class DriveConfig:
    """The world to drive in and the rules."""

    town: str = "Grid01"  # map name, or an OpenDRIVE file
    towns: tuple[str, ...] = ()  # where there are some, one is drawn per world instead: per episode of an ego that is alone
    carla: str | None = None  # HOST:PORT of a CARLA server; None starts the embedded town
    mode: Literal["train", "evaluate"] = "train"
    reward: str = "progress"  # one of rewards.REWARDS
    weights: RewardWeights = field(default_factory=RewardWeights)
    rig: CameraRig = field(default_factory=CameraRig)
    tasks: tuple[Task, ...] = ("straight", "one-turn")  # one is drawn per episode
    weathers: tuple[str, ...] = TRAINING_WEATHERS  # one is drawn per episode
    vehicles: tuple[int, int] = (0, 15)  # other cars, drawn per episode from this range
    walkers: tuple[int, int] = (0, 15)
    lights_yield: bool = True  # traffic lights turn green for the ego; False: they keep their own time
    truth: bool = False  # a semantic camera beside the colour camera: `RouteEnv.moment` then holds the true tags
    max_steps: int = 500  # of 0.1 s, in training
    timeout_mps: float = 2.0  # [m/s] evaluation times out after the route's length at this speed, plus timeout_extra_s
    timeout_extra_s: float = 20.0  # [s] for starting and red lights
    blocked_s: float = 30.0  # [s] without moving that end an evaluation
    threads: int | None = None  # CPU threads of the segmenter

    def check(self) -> None:
        """Raise `BadInput` for values that cannot be driven with."""
        if self.mode not in ("train", "evaluate"):
            raise BadInput(f"mode is {self.mode!r}, expected 'train' or 'evaluate'")
        if self.reward not in REWARDS:
            raise BadInput(f"unknown reward {self.reward!r}; known: {', '.join(REWARDS)}")
        for name in ("vehicles", "walkers"):
            match getattr(self, name):
                case (int(low), int(high)) if 0 <= low <= high:
                    pass
                case given:
                    raise BadInput(f"{name} is {given}, expected a range of two whole numbers from 0 or more upwards: (0, 15)")
        if "" in (self.town, *self.towns):
            raise BadInput("an empty town's name, expected that of a map, or an OpenDRIVE file")
        if not self.tasks or not self.weathers:
            raise BadInput("no task or no weather to draw from, expected at least one of each")
        unknown = [task for task in self.tasks if task not in TASK_LENGTHS_M]
        if unknown:
            raise BadInput(f"unknown task {unknown[0]!r}; known: {', '.join(TASK_LENGTHS_M)}")
        for weather in self.weathers:
            get_weather(weather)
        if self.max_steps < 1:
            raise BadInput(f"max_steps is {self.max_steps}, expected 1 or more")
        if not self.timeout_mps > 0.0:
            raise BadInput(f"timeout_mps is {self.timeout_mps}, expected a speed above 0 m/s")
        if not self.weights.reference_speed_mps > 0.0:
            raise BadInput(f"reference_speed_mps is {self.weights.reference_speed_mps}, expected a speed above 0 m/s")

    def changed(self, changes: Mapping[str, Any], who: str) -> DriveConfig:
        """Return this configuration with `changes`, checked; raises `BadInput` in the name of the environment `who`."""
        try:
            config = replace(self, **changes)
        except TypeError as error:
            known = ", ".join(self.__dataclass_fields__)
            raise BadInput(f"{who}: {error}; its options are: segmenter, render_mode, {known}") from error
        config.check()
        return config


def draw_town(config: DriveConfig, seed: int) -> str:
    """Draw the town of an episode; the same for the same seed."""
    return str(np.random.default_rng((seed, TOWN_STREAM)).choice(config.towns)) if config.towns else config.town


def draw_assignment(config: DriveConfig, lanes: LaneGraph, seed: int) -> Assignment:
    """Draw an episode: its task and route, weather and traffic; the same for the same seed."""
    rng = np.random.default_rng(seed)
    task = config.tasks[rng.integers(len(config.tasks))]
    route = make_routes(lanes, int(rng.integers(2**31)), 1, task)[0]
    return Assignment(
        route=route,
        weather=config.weathers[rng.integers(len(config.weathers))],
        vehicles=int(rng.integers(config.vehicles[0], config.vehicles[1] + 1)),
        walkers=int(rng.integers(config.walkers[0], config.walkers[1] + 1)),
        seed=seed,
    )
