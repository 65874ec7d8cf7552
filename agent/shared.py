"""Several egos in one world, all driven by the same tick: what a tick costs whoever looks is paid once.

Each has its own car, cameras, route, reward and end. An ego whose episode ends is put on a new route in the same world; the
world goes on for `RESTART_TICKS` until its first picture is its own, and the others hold their controls for so long: these
ticks count as driven by them, their rewards are added to the step's. After `WORLD_EPISODES` episodes per ego all of them begin
anew, with other weather and traffic; those who are on the way then are truncated (`info["ended"] == "world"`).

An ego that has the world to itself drives exactly the episodes of `RouteEnv`: each in a world of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from roadworthy.agent.ego import Assignment, Ego
from roadworthy.agent.env import controls
from roadworthy.agent.observation import Observation
from roadworthy.agent.observer import Observer
from roadworthy.agent.ride import Outcome, Ride
from roadworthy.agent.routes import Route
from roadworthy.agent.rules import DriveConfig, draw_assignment, draw_town
from roadworthy.agent.session import SimulatorLost
from roadworthy.agent.stage import Stage
from roadworthy.agent.world import World
from roadworthy.runtime.errors import BadInput, RoadworthyError

RESTART_TICKS = 2  # until a car that was put elsewhere is seen there, on its wheels
WORLD_EPISODES = 8  # per ego, until weather and traffic change
START_GAP_M = 15.0  # [m] between the starts of two egos
ROUTE_DRAWS = 100  # to find a start that is free


@dataclass(frozen=True)
class Step:
    """What one step came to for one ego; if its episode is over, the next one has begun with the observation `first`."""

    outcome: Outcome
    first: Observation | None = None


class SharedDrive:
    """k egos, one world."""

    def __init__(self, observers: Sequence[Observer], config: DriveConfig) -> None:
        """Prepare one ego for each of `observers`; nothing starts before `reset`. Raises `BadInput` to evaluate several."""
        config.check()
        if not observers or (len(observers) > 1 and config.mode != "train"):
            raise BadInput(
                f"{len(observers)} egos in one world in mode {config.mode!r}: expected one or more, and in an evaluation one, "
                "which drives alone; use more servers instead"
            )
        self.config = config
        self.space = observers[0].space
        self._observers = list(observers)
        self.stage = Stage(config, [observer.cameras for observer in observers])
        self._rng = seeding.np_random(None)[0]
        self._rides: list[Ride] = []
        self._episodes = 0  # that have ended in this world

    def reset(self, seed: int | None = None) -> list[tuple[Observation, dict[str, Any]]]:
        """Begin everybody's episode; with a seed an embedded town is reloaded, and what follows can be repeated."""
        if seed is not None:
            self._rng = seeding.np_random(seed)[0]
            self.stage.start_afresh()
        self._begin_world()
        return [(ride.observation, ride.facts()) for ride in self._rides]

    def step(self, actions: npt.NDArray[np.float32]) -> list[Step]:
        """Drive all egos for one tick with `actions` `[k, 3]`.

        Raises `BadInput` for actions that are not finite numbers, `SimulatorLost` for a server that was lost with its client.
        """
        if not self._rides:
            raise BadInput("step() before reset(): call reset() first")
        if np.shape(actions) != (len(self._rides), 3):
            raise BadInput(f"actions of shape {np.shape(actions)}, expected {(len(self._rides), 3)}: three numbers per ego")
        pedals = [controls(action) for action in actions]
        try:
            return self._drive(pedals)
        except SimulatorLost as error:
            lost = [ride.broken_off("error", str(error)) for ride in self._rides]
            self.stage.lose()
            self._begin_world()
            return [Step(outcome, ride.observation) for outcome, ride in zip(lost, self._rides, strict=True)]

    def close(self) -> None:
        """End the traffic, the session and an embedded town."""
        self.stage.drop()
        self._rides = []

    def _drive(self, pedals: Sequence[tuple[float, float, float]]) -> list[Step]:
        egos = self.stage.egos
        for ego, own in zip(egos, pedals, strict=True):
            ego.control(*own)
        outcomes = self._tick(range(len(egos)))
        waiting = [i for i, outcome in outcomes.items() if outcome.over]  # for their next episode
        self._episodes += len(waiting)
        if waiting and (len(egos) == 1 or self._episodes >= WORLD_EPISODES * len(egos)):
            ends = [outcome if outcome.over else _cut(outcome) for outcome in outcomes.values()]
            self._begin_world()
            return [Step(end, ride.observation) for end, ride in zip(ends, self._rides, strict=True)]
        firsts = self._restart(waiting, outcomes) if waiting else {}
        return [Step(outcome, firsts.get(i)) for i, outcome in outcomes.items()]

    def _tick(self, driving: Sequence[int]) -> dict[int, Outcome]:
        """Tick once and account for it with each of the egos `driving`."""
        egos = self.stage.egos
        frame = egos[0].session.tick()
        return {i: self._rides[i].step(egos[i].measure(frame), egos[i].mass_kg, egos[i].put_back) for i in driving}

    def _restart(self, ended: list[int], outcomes: dict[int, Outcome]) -> dict[int, Observation]:
        """Put the egos `ended` on new routes; whose episode ends meanwhile too. Updates `outcomes` of those who drive on."""
        egos = self.stage.egos
        fresh: dict[int, Assignment] = {}
        while ended:
            for i in ended:
                old, taken = self._rides[i].assignment, [each.route for each in fresh.values()]
                fresh[i] = replace(old, route=self._free_route(egos[i], self._rng, taken))
                egos[i].take(fresh[i])
                egos[i].place(0.0)
            ended = []
            for _ in range(RESTART_TICKS):
                later = self._tick([i for i in range(len(egos)) if i not in fresh and i not in ended])
                for i, outcome in later.items():
                    outcomes[i] = replace(outcome, reward=outcomes[i].reward + outcome.reward)
                ended += [i for i, outcome in later.items() if outcome.over]
            self._episodes += len(ended)
        for i, assignment in fresh.items():
            self._rides[i] = Ride(self.config, self._observers[i], assignment, egos[i].measure(egos[i].session.frame))
        return {i: self._rides[i].observation for i in fresh}

    def _begin_world(self) -> None:
        """Set a new world up, with everybody on a new route."""
        seeds = [int(self._rng.integers(2**31)) for _ in self._observers]
        town = draw_town(self.config, seeds[0])
        rides = self.stage.attempt(lambda world: self._started(world, seeds), town)
        self._rides, self._episodes = rides, 0

    def _started(self, world: World, seeds: Sequence[int]) -> list[Ride]:
        first = draw_assignment(self.config, world.lanes, seeds[0])
        assignments = [first]
        for ego, seed in zip(world.egos[1:], seeds[1:], strict=True):
            taken = [each.route for each in assignments]
            assignments.append(replace(first, route=self._free_route(ego, np.random.default_rng(seed), taken)))
        moments = world.begin(list(zip(world.egos, assignments, strict=True)))
        return [Ride(self.config, *parts) for parts in zip(self._observers, assignments, moments, strict=True)]

    def _free_route(self, ego: Ego, rng: np.random.Generator, taken: Sequence[Route]) -> Route:
        """Draw a route whose start is clear of everybody on the road and of the starts of the routes `taken`."""
        for _ in range(ROUTE_DRAWS):
            route = draw_assignment(self.config, ego.lanes, int(rng.integers(2**31))).route
            place = route.start.location
            if ego.is_clear(route) and all(place.distance(other.start.location) >= START_GAP_M for other in taken):
                return route
        raise RoadworthyError(f"no free start for a route in {ROUTE_DRAWS} draws: drive with fewer cars or egos on this map")


def _cut(outcome: Outcome) -> Outcome:
    """Return `outcome` of an ego on the way, truncated because its world ends."""
    return replace(outcome, truncated=True, info={**outcome.info, "ended": "world"})
