"""What is driven in a judged evaluation: routes in one town, the world around them, and the order of the drives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.routes import Route, Task, make_routes
from roadworthy.agent.weather import TRAINING_WEATHERS
from roadworthy.runtime.errors import BadInput


@dataclass(frozen=True)
class Suite:
    """Routes to drive in one town, and the world they are driven in."""

    name: str
    town: str
    held_out: bool  # neither the segmenter nor the policy saw this town in training
    tasks: tuple[tuple[Task, int], ...] = (("straight", 2), ("one-turn", 2))  # task and number of routes
    max_length_m: float | None = None  # [m] longest route; None = the task's own
    weathers: tuple[str, ...] = TRAINING_WEATHERS  # taken in turn
    every_weather: bool = False  # drive each route under each weather instead
    vehicles: int = 15
    walkers: int = 15
    seed: int = 100
    carla: str | None = None  # HOST:PORT; None starts the embedded town

    @property
    def drives(self) -> int:
        """The number of episodes."""
        return sum(count for _, count in self.tasks) * (len(self.weathers) if self.every_weather else 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the suite as plain JSON, without the server's address: the same drives can be asked of any server."""
        plain = dataclasses.asdict(self)
        del plain["carla"]
        return plain

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], source: str, *, carla: str | None = None) -> Suite:
        """Build a suite from `to_dict`'s JSON; raises `BadInput` naming `source` for anything else."""
        try:
            tasks = tuple((str(task), int(count)) for task, count in record["tasks"])
            values = {**record, "tasks": tasks, "weathers": tuple(map(str, record["weathers"])), "carla": carla}
            suite = cls(**values)
            if suite.drives < 1:
                raise ValueError("it has no drives")
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{source}: not the suite of a recorded drive ({error}); was this file edited?") from error
        return suite


class Drive(NamedTuple):
    """One drive of a suite."""

    task: Task
    number: int  # of the route in its suite
    route: Route
    weather: str


def suite_routes(suite: Suite, lanes: LaneGraph) -> list[tuple[Task, Route]]:
    """Return the suite's routes on its map: the same for everybody who asks."""
    routes: list[tuple[Task, Route]] = []
    for index, (task, count) in enumerate(suite.tasks):
        drawn = make_routes(lanes, suite.seed + index, count, task, max_length_m=suite.max_length_m)
        routes += [(task, route) for route in drawn]
    return routes


def suite_drives(suite: Suite, lanes: LaneGraph) -> list[Drive]:
    """Return every drive of the suite."""
    routes = suite_routes(suite, lanes)
    if suite.every_weather:
        return [Drive(task, i, route, weather) for i, (task, route) in enumerate(routes) for weather in suite.weathers]
    return [Drive(task, i, route, suite.weathers[i % len(suite.weathers)]) for i, (task, route) in enumerate(routes)]
