"""`roadworthy/Drive-v0`: drive a route in a CARLA server on a segmenter's latents.

One step is one tick of 0.1 s. Observation and action spaces are in `observation.py`, the reward's terms in `rewards.py`; what
"lane" means is in `corridor.py`. An episode ends

- in `mode="train"` with a crash, wholly (100 %) off-line, half (50 %) off-road, or the goal; it is truncated after `max_steps`;
- in `mode="evaluate"` with the goal only: infractions are counted and the drive goes on. A car that stands after a crash, or
  that lost its route, is put back on it. It is truncated by a time-out from the route's length, or when the car has not moved
  for `blocked_s`.

A simulator that dies in an episode truncates it with `info["ended"] == "error"`; the next `reset` starts another one. With a
seed, `reset` reloads an embedded town, so that the same seed gives the same episode to the last pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.ego import Assignment, Ego, Moment
from roadworthy.agent.infractions import InfractionLog
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.observation import (
    LatentSource,
    LatentStack,
    Observation,
    action_space,
    measurement_vector,
    observation_space,
    pool_latent,
)
from roadworthy.agent.rewards import REWARDS, RewardWeights, crash_severity, reward_terms
from roadworthy.agent.routes import Task, make_routes
from roadworthy.agent.session import FIXED_DELTA_S, Session, SimulatorLost
from roadworthy.agent.weather import TRAINING_WEATHERS
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import load

GOAL_M = 2.0  # [m] along the route before its end that counts as arrived
STANDING_MPS = 0.3  # [m/s]
STUCK_S = 2.0  # [s] of standing after a crash until the car is put back
CRASH_MEMORY_S = 6.0  # [s] how long standing is blamed on a crash
LOST_M = 8.0  # [m] beside the route: lost
START_ATTEMPTS = 3  # simulators that may die one after the other


@dataclass(frozen=True)
class DriveConfig:
    """The world to drive in and the rules."""

    town: str = "Grid01"  # map name, or an OpenDRIVE file
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
    truth: bool = False  # a semantic camera beside the colour camera: `DriveEnv.moment` then holds the true tags
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
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise BadInput(f"{name} is ({low}, {high}), expected a range from 0 or more upwards")
        if not self.tasks or not self.weathers:
            raise BadInput("no task or no weather to draw from, expected at least one of each")


class DriveEnv(gymnasium.Env[Observation, npt.NDArray[np.float32]]):
    """The Gymnasium environment of this module; the client lives in this process, so run it in a worker for long jobs."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as gymnasium declares it

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
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise BadInput(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        self.config = _changed(config or DriveConfig(), changes)
        self.config.check()
        loaded: LatentSource = (
            load(segmenter, device="cpu", threads=self.config.threads) if isinstance(segmenter, str | Path) else segmenter
        )
        if loaded.latent_shape is None:
            raise BadInput(f"{segmenter}: this model gives no latent; export it with its latent output to drive on it")
        self.segmenter = loaded
        self.render_mode = render_mode
        self.observation_space = cast("spaces.Space[Observation]", observation_space(loaded.latent_shape))
        self.action_space = cast("spaces.Space[npt.NDArray[np.float32]]", action_space())
        self.session: Session | None = None
        self.ego: Ego | None = None
        self.assignment: Assignment | None = None
        self._latents = LatentStack()
        self._log = InfractionLog(FIXED_DELTA_S)
        self._moment: Moment | None = None
        self._observation: Observation = {}
        self._begin_counters()

    def _begin_counters(self) -> None:
        self._step = 0
        self._distance_m = 0.0
        self._impulse_kns = 0.0
        self._standing_s = 0.0
        self._crashed_at = -np.inf  # [s]
        self._rescues = 0
        self._latents.clear()
        self._log = InfractionLog(FIXED_DELTA_S)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; `options={"assignment": Assignment}` says which, else the seed draws one."""
        super().reset(seed=seed)
        if seed is not None:
            self._start_afresh()
        given = (options or {}).get("assignment")
        draw_seed = int(self.np_random.integers(2**31))
        for attempt in range(START_ATTEMPTS):
            try:
                ego = self._ready()
                self.assignment = given or self._draw(ego, draw_seed)
                moment = ego.begin(self.assignment)
                break
            except SimulatorLost:
                self._drop_session()
                if attempt + 1 == START_ATTEMPTS:
                    raise
        self._begin_counters()
        self._moment = moment
        self._observation = self._observe(moment)
        return self._observation, self._facts(moment)

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Drive for 0.1 s. Raises `BadInput` for an action that is not three finite numbers."""
        if self.ego is None or self._moment is None or self.assignment is None:
            raise BadInput("step() before reset(), or after the simulator was lost: call reset() first")
        steer, throttle, brake = controls(action)
        try:
            moment = self.ego.advance(steer, throttle, brake)
            self._account(moment)
            crash = crash_severity(moment.contacts, self.ego.mass_kg)
            terms = reward_terms(
                self.config.reward, moment.v_along_mps, moment.off_line, moment.off_road, crash, self.config.weights
            )
            ended, truncated = self._end(moment, crash)
            if not ended and self.config.mode == "evaluate" and self._needs_rescue(moment):
                moment = self.ego.put_back()
                self._rescues += 1
                self._standing_s, self._crashed_at = 0.0, -np.inf
                self._latents.clear()
        except SimulatorLost as error:
            self._drop_session()
            return self._observation, 0.0, False, True, {"ended": "error", "error": str(error)}
        self._moment = moment
        self._observation = self._observe(moment)
        info = self._facts(moment) | terms.to_info()
        if ended:
            info["ended"] = ended
        return self._observation, float(terms.total), bool(ended) and not truncated, truncated, info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the camera's frame, the prediction (of a model that has one) and a map of the route, side by side."""
        if self.render_mode is None or self._moment is None or self.assignment is None:
            return None
        from roadworthy.agent.picture import picture

        return picture(self._moment, self.assignment.route, self.segmenter)

    def close(self) -> None:
        """End the traffic, the session and an embedded town."""
        self._drop_session()

    @property
    def infractions(self) -> InfractionLog:
        """The infractions of this episode so far."""
        return self._log

    @property
    def moment(self) -> Moment:
        """What the last tick left behind; raises `BadInput` before `reset`."""
        if self._moment is None:
            raise BadInput("there is no moment before reset(): call it first")
        return self._moment

    @property
    def lanes(self) -> LaneGraph:
        """The lanes of the town; starts the simulator if it does not run yet."""
        return self._ready().lanes

    def _ready(self) -> Ego:
        if self.ego is None:
            self.session = Session.open(carla=self.config.carla, map=self.config.town)
            self.ego = self._new_ego(self.session)
        return self.ego

    def _start_afresh(self) -> None:
        """Reload an embedded town, so that the same seed gives the same frames; a real server would leak actors and memory."""
        try:
            ego = self._ready()
            assert self.session is not None
            if self.session.town is None:
                return
            ego.close()
            self.session.reload()
            self.ego = self._new_ego(self.session)
        except SimulatorLost:
            self._drop_session()

    def _new_ego(self, session: Session) -> Ego:
        return Ego(session, self.config.rig, lights_yield=self.config.lights_yield, truth=self.config.truth)

    def _drop_session(self) -> None:
        ego, session, self.ego, self.session = self.ego, self.session, None, None
        try:
            if ego is not None and session is not None and (session.town is None or session.town.alive()):
                ego.close()
        finally:
            if session is not None:
                session.close()

    def _draw(self, ego: Ego, seed: int) -> Assignment:
        rng = np.random.default_rng(seed)
        config = self.config
        task = config.tasks[rng.integers(len(config.tasks))]
        route = make_routes(ego.lanes, int(rng.integers(2**31)), 1, task)[0]
        return Assignment(
            route=route,
            weather=config.weathers[rng.integers(len(config.weathers))],
            vehicles=int(rng.integers(config.vehicles[0], config.vehicles[1] + 1)),
            walkers=int(rng.integers(config.walkers[0], config.walkers[1] + 1)),
            seed=seed,
        )

    def _account(self, moment: Moment) -> None:
        """Count what this tick did: distance, damage, infractions, standing."""
        assert self._moment is not None
        self._step += 1
        self._distance_m += float(np.hypot(moment.x - self._moment.x, moment.y - self._moment.y))
        self._impulse_kns += sum(contact.impulse_ns for contact in moment.contacts) / 1000.0
        self._log.update(
            self._step, round(self._distance_m, 2), moment.location, moment.contacts, moment.off_line, moment.off_road
        )
        now = self._step * FIXED_DELTA_S
        if moment.contacts:
            self._crashed_at = now
        self._standing_s = self._standing_s + FIXED_DELTA_S if moment.speed_mps < STANDING_MPS else 0.0

    def _end(self, moment: Moment, crash: float) -> tuple[str, bool]:
        """Return why the episode ends ("" if it goes on) and whether that truncates it."""
        assert self.assignment is not None
        length_m = self.assignment.route.length_m
        if moment.along_m >= length_m - GOAL_M and abs(moment.lateral_m) < LOST_M / 2:
            return "goal", False
        if self.config.mode == "evaluate":
            if self._step * FIXED_DELTA_S >= length_m / self.config.timeout_mps + self.config.timeout_extra_s:
                return "timeout", True
            return ("blocked", True) if self._standing_s >= self.config.blocked_s else ("", False)
        if crash > 0.0:
            return "crash", False
        if moment.off_line >= 1.0:
            return "off_line", False
        if moment.off_road >= 0.5:
            return "off_road", False
        return ("timeout", True) if self._step >= self.config.max_steps else ("", False)

    def _needs_rescue(self, moment: Moment) -> bool:
        crashed = self._step * FIXED_DELTA_S - self._crashed_at < CRASH_MEMORY_S + STUCK_S
        return (crashed and self._standing_s >= STUCK_S) or abs(moment.lateral_m) > LOST_M

    def _observe(self, moment: Moment) -> Observation:
        latent = self.segmenter(moment.frame[None]).latent  # [1, C, h, w]
        assert latent is not None
        assert self.assignment is not None
        left_m = max(self.assignment.route.length_m - moment.along_m, 0.0)
        return {
            "latents": self._latents.push(pool_latent(latent)[0]),  # [2, C, h, w]
            "measurements": measurement_vector(moment.speed_mps, left_m, self._impulse_kns, moment.command),
        }

    def _facts(self, moment: Moment) -> dict[str, Any]:
        assert self.assignment is not None
        length_m = self.assignment.route.length_m
        return {
            "speed_mps": moment.speed_mps,
            "along_m": moment.along_m,
            "lateral_m": moment.lateral_m,
            "command": moment.command,
            "distance_m": self._distance_m,
            "route_length_m": length_m,
            "route_completion": min(moment.along_m / max(length_m - GOAL_M, 1.0), 1.0),
            "infractions": len(self._log.events),
            "rescues": self._rescues,
        }


def controls(action: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Turn an action of the environment into steer, throttle and brake. Raises `BadInput` unless it is three finite numbers."""
    values = np.asarray(action, np.float64)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise BadInput(f"action {values.tolist()} is not three finite numbers (steer, throttle, brake in -1..1)")
    steer, throttle, brake = np.clip(values, -1.0, 1.0)
    return float(steer), max(0.0, float(throttle)), max(0.0, float(brake))


def _changed(config: DriveConfig, changes: Mapping[str, Any]) -> DriveConfig:
    try:
        return replace(config, **changes)
    except TypeError as error:
        known = ", ".join(DriveConfig.__dataclass_fields__)
        raise BadInput(f"roadworthy/Drive-v0: {error}; its options are: segmenter, render_mode, {known}") from error
