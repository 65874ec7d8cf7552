"""One ego's way along its route: what its driver sees, what it is paid, and why the episode ends.

Reward and ends are those of `roadworthy.agent.env`; what the driver sees is the observer's matter, so that every environment,
alone or sharing a world with others, drives by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadworthy.agent.ego import Assignment, Moment
from roadworthy.agent.infractions import InfractionLog
from roadworthy.agent.observation import Observation, measurement_vector
from roadworthy.agent.observer import Observer
from roadworthy.agent.rewards import crash_severity, reward_terms
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.session import FIXED_DELTA_S

GOAL_M = 2.0  # [m] along the route before its end that counts as arrived
STANDING_MPS = 0.3  # [m/s]
STUCK_S = 2.0  # [s] of standing after a crash until the car is put back
CRASH_MEMORY_S = 6.0  # [s] how long standing is blamed on a crash
LOST_M = 8.0  # [m] beside the route: lost


@dataclass(frozen=True)
class Outcome:
    """What one step came to, in Gymnasium's terms."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.terminated or self.truncated


class Ride:
    """One episode of one ego."""

    def __init__(self, config: DriveConfig, observer: Observer, assignment: Assignment, moment: Moment) -> None:
        """Begin with the first `moment` on the route of `assignment`."""
        self.config = config
        self.assignment = assignment
        self.moment = moment
        self.log = InfractionLog(FIXED_DELTA_S)
        self._observer = observer
        self._steps = 0
        self._distance_m = 0.0
        self._impulse_kns = 0.0
        self._standing_s = 0.0
        self._crashed_at = -np.inf  # [s]
        self._rescues = 0
        observer.forget()
        self.observation = self._observe()

    def step(self, moment: Moment, mass_kg: float, put_back: Callable[[], Moment]) -> Outcome:
        """Account for what the last tick left behind; `put_back` puts an ego of `mass_kg` back on its route (in evaluation)."""
        self._account(moment)
        crash = crash_severity(moment.contacts, mass_kg)
        config = self.config
        terms = reward_terms(config.reward, moment.v_along_mps, moment.off_line, moment.off_road, crash, config.weights)
        ended, truncated = self._end(moment, crash)
        if not ended and config.mode == "evaluate" and self._needs_rescue(moment):
            moment = put_back()
            self._rescues += 1
            self._standing_s, self._crashed_at = 0.0, -np.inf
            self._observer.forget()
        self.moment = moment
        self.observation = self._observe()
        info = self.facts() | terms.to_info()
        if ended:
            info["ended"] = ended
        return Outcome(self.observation, float(terms.total), bool(ended) and not truncated, truncated, info)

    def facts(self) -> dict[str, Any]:
        """Return what `info` says at any time: speed, progress, infractions so far."""
        moment, length_m = self.moment, self.assignment.route.length_m
        return {
            "speed_mps": moment.speed_mps,
            "along_m": moment.along_m,
            "lateral_m": moment.lateral_m,
            "command": moment.command,
            "distance_m": self._distance_m,
            "route_length_m": length_m,
            "route_completion": min(moment.along_m / max(length_m - GOAL_M, 1.0), 1.0),
            "infractions": len(self.log.events),
            "rescues": self._rescues,
        }

    def broken_off(self, why: str, error: str | None = None) -> Outcome:
        """Return what the driver is told when the world ends before the ride: truncated, with the last observation."""
        info = {"ended": why} if error is None else {"ended": why, "error": error}
        return Outcome(self.observation, 0.0, False, True, info)

    def _observe(self) -> Observation:
        moment = self.moment
        left_m = max(self.assignment.route.length_m - moment.along_m, 0.0)
        return self._observer.observe(moment, measurement_vector(moment.speed_mps, left_m, self._impulse_kns, moment.command))

    def _account(self, moment: Moment) -> None:
        """Count what this tick did: distance, damage, infractions, standing."""
        self._steps += 1
        self._distance_m += float(np.hypot(moment.x - self.moment.x, moment.y - self.moment.y))
        self._impulse_kns += sum(contact.impulse_ns for contact in moment.contacts) / 1000.0
        self.log.update(
            self._steps, round(self._distance_m, 2), moment.location, moment.contacts, moment.off_line, moment.off_road
        )
        if moment.contacts:
            self._crashed_at = self._steps * FIXED_DELTA_S
        self._standing_s = self._standing_s + FIXED_DELTA_S if moment.speed_mps < STANDING_MPS else 0.0

    def _end(self, moment: Moment, crash: float) -> tuple[str, bool]:
        """Return why the episode ends ("" if it goes on) and whether that truncates it."""
        config, length_m = self.config, self.assignment.route.length_m
        if moment.along_m >= length_m - GOAL_M and abs(moment.lateral_m) < LOST_M / 2:
            return "goal", False
        if config.mode == "evaluate":
            if self._steps * FIXED_DELTA_S >= length_m / config.timeout_mps + config.timeout_extra_s:
                return "timeout", True
            return ("blocked", True) if self._standing_s >= config.blocked_s else ("", False)
        if crash > 0.0:
            return "crash", False
        if moment.off_line >= 1.0:
            return "off_line", False
        if moment.off_road >= 0.5:
            return "off_road", False
        return ("timeout", True) if self._steps >= config.max_steps else ("", False)

    def _needs_rescue(self, moment: Moment) -> bool:
        crashed = self._steps * FIXED_DELTA_S - self._crashed_at < CRASH_MEMORY_S + STUCK_S
        return (crashed and self._standing_s >= STUCK_S) or abs(moment.lateral_m) > LOST_M
