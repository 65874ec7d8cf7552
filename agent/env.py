"""The driving environments: drive a route in a CARLA server, on what an observer shows.

`roadworthy/Drive-v0` (`DriveEnv`) shows a segmenter's two latest latents, `roadworthy/DriveSegDepth-v0` (`DriveSegDepthEnv`)
label map and depth; everything else is the same. One step is one tick of 0.1 s. The spaces are in `observation.py` and
`segdepth.py`, the reward's terms in `rewards.py`; what "lane" means is in `corridor.py`. An episode ends

- in `mode="train"` with a crash, wholly (100 %) off-line, half (50 %) off-road, or the goal; it is truncated after `max_steps`;
- in `mode="evaluate"` with the goal only: infractions are counted and the drive goes on. A car that stands after a crash, or
  that lost its route, is put back on it. It is truncated by a time-out from the route's length, or when the car has not moved
  for `blocked_s`.

A simulator that dies in an episode truncates it with `info["ended"] == "error"`; the next `reset` starts another one, or raises
`SimulatorLost` where there was traffic: the client of this process is then spoilt (see `stage.py`), so long jobs are run in a
process that someone watches. With a seed, `reset` reloads an embedded town, so that the same seed gives the same episode to the
last pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.ego import Assignment, Ego, Moment
from roadworthy.agent.infractions import InfractionLog
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.observation import LatentSource, Observation, action_space
from roadworthy.agent.observer import LatentObserver, Observer
from roadworthy.agent.ride import GOAL_M, Ride
from roadworthy.agent.rules import DriveConfig, draw_assignment, draw_town
from roadworthy.agent.segdepth import SegDepthObserver, open_labels
from roadworthy.agent.session import Session, SimulatorLost
from roadworthy.agent.stage import Stage
from roadworthy.agent.world import World
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmenter, load

__all__ = ["GOAL_M", "DriveConfig", "DriveEnv", "DriveSegDepthEnv", "RouteEnv", "controls"]


class RouteEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """Driving on what an observer shows. The client lives in this process, so run it in a worker for long jobs."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as gymnasium declares it

    def __init__(self, observer: Observer, config: DriveConfig, *, render_mode: str | None = None) -> None:
        """Prepare to drive; nothing starts before `reset`."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise BadInput(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        config.check()
        self.config = config
        self.observer = observer
        self.render_mode = render_mode
        self.observation_space = cast("spaces.Space[Observation]", observer.space)
        self.action_space = cast("spaces.Space[npt.NDArray[np.float32]]", action_space())
        self._stage = Stage(config, [observer.cameras])
        self._ride: Ride | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; `options={"assignment": Assignment}` says which, else the seed draws one."""
        super().reset(seed=seed)
        if seed is not None:
            self._stage.start_afresh()
        given = (options or {}).get("assignment")
        draw_seed = int(self.np_random.integers(2**31))
        town = draw_town(self.config, draw_seed) if given is None else None
        assignment, moment = self._stage.attempt(lambda world: self._start(world, given, draw_seed), town)
        self._ride = Ride(self.config, self.observer, assignment, moment)
        return self._ride.observation, self._ride.facts()

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Drive for 0.1 s. Raises `BadInput` for an action that is not three finite numbers."""
        ego = self.ego
        if ego is None or self._ride is None:
            raise BadInput("step() before reset(), or after the simulator was lost: call reset() first")
        steer, throttle, brake = controls(action)
        try:
            outcome = self._ride.step(ego.advance(steer, throttle, brake), ego.mass_kg, ego.put_back)
        except SimulatorLost as error:
            self._stage.lose()
            outcome = self._ride.broken_off("error", str(error))
        return outcome.observation, outcome.reward, outcome.terminated, outcome.truncated, outcome.info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the camera's frame, the prediction (of a model that has one) and a map of the route, side by side."""
        if self.render_mode is None or self._ride is None:
            return None
        from roadworthy.agent.picture import picture

        moment = self._ride.moment
        return picture(moment, self._ride.assignment.route, self.observer.paint(moment))

    def close(self) -> None:
        """End the traffic, the session and an embedded town."""
        self._stage.drop()

    @property
    def session(self) -> Session | None:
        """The session, while a simulator runs."""
        return self._stage.session

    @property
    def ego(self) -> Ego | None:
        """The car, while a simulator runs."""
        return self._stage.egos[0] if self._stage.egos else None

    @property
    def town(self) -> str:
        """The map that is loaded, or will be first."""
        return self._stage.town

    @property
    def assignment(self) -> Assignment | None:
        """The episode that is driven; None before `reset`."""
        return None if self._ride is None else self._ride.assignment

    @property
    def infractions(self) -> InfractionLog:
        """The infractions of this episode so far; raises `BadInput` before `reset`."""
        return self._begun().log

    @property
    def moment(self) -> Moment:
        """What the last tick left behind; raises `BadInput` before `reset`."""
        return self._begun().moment

    @property
    def lanes(self) -> LaneGraph:
        """The lanes of the town; starts the simulator if it does not run yet."""
        return self._stage.ready().lanes

    def _begun(self) -> Ride:
        if self._ride is None:
            raise BadInput("nothing was driven before reset(): call it first")
        return self._ride

    def _start(self, world: World, given: Assignment | None, seed: int) -> tuple[Assignment, Moment]:
        assignment = given or draw_assignment(self.config, world.lanes, seed)
        return assignment, world.egos[0].begin(assignment)


class DriveEnv(RouteEnv):
    """`roadworthy/Drive-v0`: drive on a segmenter's latents."""

    def __init__(
        self,
        segmenter: str | Path | LatentSource,
        config: DriveConfig | None = None,
        *,
        render_mode: str | None = None,
        **changes: Any,
    ) -> None:
        """Prepare to drive on `segmenter` (an exported model with a latent, or a loaded one); nothing starts before `reset`.

        `changes` replace fields of `config`, so that `gymnasium.make` can set them by name.
        """
        config = (config or DriveConfig()).changed(changes, "roadworthy/Drive-v0")
        source: LatentSource = (
            load(segmenter, device="cpu", threads=config.threads) if isinstance(segmenter, str | Path) else segmenter
        )
        super().__init__(LatentObserver(source), config, render_mode=render_mode)
        self.segmenter = source


class DriveSegDepthEnv(RouteEnv):
    """`roadworthy/DriveSegDepth-v0`: the independent driver of arXiv 2008.04751's Table V, on label map and depth."""

    def __init__(
        self,
        segmenter: str | Path | Segmenter = "truth",
        config: DriveConfig | None = None,
        *,
        render_mode: str | None = None,
        **changes: Any,
    ) -> None:
        """Prepare to drive on the labels of `segmenter`: an exported model, a loaded one, or `"truth"`, the simulator's own.

        `changes` replace fields of `config`, so that `gymnasium.make` can set them by name.
        """
        config = (config or DriveConfig()).changed(changes, "roadworthy/DriveSegDepth-v0")
        observer = SegDepthObserver(open_labels(segmenter, config.threads), config.rig.height_px, config.rig.width_px)
        super().__init__(observer, config, render_mode=render_mode)


def controls(action: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Turn an action of the environment into steer, throttle and brake. Raises `BadInput` unless it is three finite numbers."""
    values = np.asarray(action, np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise BadInput(f"action {values.tolist()} is not three finite numbers (steer, throttle, brake in -1..1)")
    steer, throttle, brake = np.clip(values, -1.0, 1.0)
    return float(steer), max(0.0, float(throttle)), max(0.0, float(brake))
