"""Traffic lights: cycles per junction, states that clients may set or freeze, and which vehicle stands at which light.

One actor per OpenDRIVE signal id. The lights of a junction take turns: those with the same sequence number are green
together for `green` seconds, yellow for `yellow`, then every light is red for `red` seconds before the next turn. A light's
trigger box lies across its lanes and reaches from `BOX_BEFORE_M` before the stop line to `BOX_AFTER_M` behind it; as in CARLA
the actor's local x axis points across the lane.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import Floats
from roadworthy.agent.town.protocol import LightState
from roadworthy.agent.town.signals import Signal

GREEN_S, YELLOW_S, RED_S = 10.0, 3.0, 2.0  # CARLA's defaults; red is the pause in which all lights of a junction are red
BOX_BEFORE_M = 6.5
BOX_AFTER_M = 0.5
SIGN_AFTER_M = 2.0  # a long vehicle's nose is over the line before the Traffic Manager looks
SIGN_REACH_M = 9.0  # a speed sign counts for vehicles that pass it this close
DEFAULT_LIMIT_KMH = 30.0


@dataclass
class Light:
    """One traffic light. Times are seconds; `green` .. `red` are those of its turn in the junction's cycle."""

    signal: Signal
    state: LightState = LightState.RED
    elapsed: float = 0.0
    green: float = GREEN_S
    yellow: float = YELLOW_S
    red: float = RED_S
    group: Group = field(init=False, repr=False)

    @property
    def pose(self) -> tuple[float, float, float, float, float, float]:
        """x, y, z [m], pitch, yaw, roll [deg] of the actor: at the pole, looking across its lanes."""
        yaw = self.signal.yaw + 90.0
        return self.signal.x, self.signal.y, self.signal.z, 0.0, math.remainder(yaw, 360.0), 0.0

    def trigger_box(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Centre and half sizes [m] of the trigger volume in the actor's own axes (zero size without a stop line)."""
        return trigger_box(self.signal, self.pose[4])


def _lines(signal: Signal) -> list[tuple[float, float, float, float, float]]:
    """Of each lane that a sign commands: x, y of the line, cos, sin of the driving direction, half width [m]."""
    return [
        (stop.x, stop.y, math.cos(math.radians(stop.yaw)), math.sin(math.radians(stop.yaw)), stop.half_width)
        for stop in signal.stops
    ]


def trigger_box(signal: Signal, yaw_deg: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Centre and half sizes [m] of a signal's trigger volume in the axes of its actor, which is turned by `yaw_deg`.

    It lies across the commanded lanes and reaches from `BOX_BEFORE_M` before the stop line to `BOX_AFTER_M` behind it. Without
    a stop line its size is zero.
    """
    stop = signal.stop
    if stop is None:
        return (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    back, reach = (BOX_BEFORE_M - BOX_AFTER_M) / 2, (BOX_BEFORE_M + BOX_AFTER_M) / 2
    lane, yaw = math.radians(stop.yaw), math.radians(yaw_deg)
    dx, dy = stop.x - back * math.cos(lane) - signal.x, stop.y - back * math.sin(lane) - signal.y
    centre = (dx * math.cos(yaw) + dy * math.sin(yaw), -dx * math.sin(yaw) + dy * math.cos(yaw), stop.z - signal.z + 0.5)
    half_width = max(stop.half_width - 0.2, 0.3)
    across = abs(math.sin(yaw - lane)) > 0.7  # local x points across the lane
    return centre, (half_width, reach, 1.0) if across else (reach, half_width, 1.0)


class Group:
    """The lights of one junction and whose turn it is."""

    def __init__(self, lights: Sequence[Light]) -> None:
        turns: dict[int, list[Light]] = {}
        for light in lights:
            turns.setdefault(light.signal.sequence, []).append(light)
        self.lights = list(lights)
        self.turns = [turns[key] for key in sorted(turns)]
        self.turn = 0
        self.phase = LightState.GREEN
        self.elapsed = 0.0
        for light in lights:
            light.group = self

    def start(self, turn: int, elapsed: float) -> None:
        """Begin turn number `turn` with green, `elapsed` seconds ago."""
        self.turn, self.phase, self.elapsed = turn % len(self.turns), LightState.GREEN, elapsed
        self._show()

    def step(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += seconds
        for light in self.lights:
            light.elapsed += seconds
        while self.elapsed >= (length := max(self._length(), 0.05)):
            self.elapsed -= length
            if self.phase == LightState.GREEN:
                self.phase = LightState.YELLOW
            elif self.phase == LightState.YELLOW:
                self.phase = LightState.RED
            else:
                self.phase = LightState.GREEN
                self.turn = (self.turn + 1) % len(self.turns)
            self._show()

    def _length(self) -> float:
        first = self.turns[self.turn][0]
        return {LightState.GREEN: first.green, LightState.YELLOW: first.yellow}.get(self.phase, first.red)

    def _show(self) -> None:
        for number, lights in enumerate(self.turns):
            for light in lights:
                state = self.phase if number == self.turn else LightState.RED
                if light.state != state:
                    light.state, light.elapsed = state, 0.0


class TrafficLights:
    """All lights of a map, and the speed signs."""

    def __init__(self, signals: Sequence[Signal], seed: int) -> None:
        self.lights = [Light(signal) for signal in signals if signal.kind == "light"]
        self.frozen = False
        self._seed = seed
        members: dict[int, list[Light]] = {}
        for index, light in enumerate(self.lights):
            key = light.signal.group if light.signal.group >= 0 else -1 - index
            members.setdefault(key, []).append(light)
        self.groups = [Group(lights) for _, lights in sorted(members.items())]
        self.reset()
        self._boxes = np.array([self._world_box(light) for light in self.lights], np.float64).reshape(-1, 6)
        self._orders = np.array([line for s in signals if s.kind in ("stop", "yield") for line in _lines(s)]).reshape(-1, 5)
        signs = [(s.x, s.y, math.radians(s.yaw), s.value) for s in signals if s.kind == "speed" and s.value > 0]
        self._signs = np.array(signs, np.float64).reshape(-1, 4)

    @staticmethod
    def _world_box(light: Light) -> tuple[float, float, float, float, float, float]:
        """x, y of the stop line, cos, sin of the driving direction, half width [m], 1 when there is a box."""
        stop = light.signal.stop
        if stop is None:
            return 0.0, 0.0, 1.0, 0.0, 0.0, 0.0
        yaw = math.radians(stop.yaw)
        return stop.x, stop.y, math.cos(yaw), math.sin(yaw), stop.half_width, 1.0

    def reset(self) -> None:
        """Start every junction's cycle anew, each at its own seeded moment."""
        dice = random.Random(self._seed)
        for group in self.groups:
            group.start(dice.randrange(len(group.turns)), dice.uniform(0.0, GREEN_S))

    def step(self, seconds: float) -> None:
        """Let time pass, unless frozen."""
        if self.frozen:
            return
        for group in self.groups:
            group.step(seconds)

    def at_light(self, fronts: Floats, headings: Floats) -> npt.NDArray[np.int64]:
        """Index of the light that each vehicle stands at, or -1: `fronts [V, 2]` of the bumpers [m], `headings [V]` [rad]."""
        if not len(self.lights) or not len(fronts):
            return np.full(len(fronts), -1)
        box = self._boxes
        dx = fronts[:, 0, None] - box[None, :, 0]  # [V, L]
        dy = fronts[:, 1, None] - box[None, :, 1]
        along = dx * box[:, 2] + dy * box[:, 3]
        across = np.abs(dy * box[:, 2] - dx * box[:, 3])
        same_way = np.cos(headings)[:, None] * box[:, 2] + np.sin(headings)[:, None] * box[:, 3] > 0.4
        inside = (along > -BOX_BEFORE_M) & (along < BOX_AFTER_M) & (across < box[:, 4]) & same_way & (box[:, 5] > 0)
        return np.where(inside.any(1), inside.argmax(1), -1)

    def at_sign(self, fronts: Floats, headings: Floats) -> npt.NDArray[np.bool_]:
        """Whether each vehicle stands before a stop or yield sign's line; shapes as in `at_light`.

        CARLA's server tells such a vehicle "red" (and that it is at no light): its Traffic Manager then stops and takes turns.
        """
        line = self._orders
        if not len(line) or not len(fronts):
            return np.zeros(len(fronts), np.bool_)
        dx = fronts[:, 0, None] - line[None, :, 0]  # [V, S]
        dy = fronts[:, 1, None] - line[None, :, 1]
        along = dx * line[:, 2] + dy * line[:, 3]
        across = np.abs(dy * line[:, 2] - dx * line[:, 3])
        same_way = np.cos(headings)[:, None] * line[:, 2] + np.sin(headings)[:, None] * line[:, 3] > 0.4
        inside = (along > -BOX_BEFORE_M) & (along < SIGN_AFTER_M) & (across < line[:, 4]) & same_way
        found: npt.NDArray[np.bool_] = inside.any(1)
        return found

    def limits(self, fronts: Floats, headings: Floats) -> Floats:
        """Speed limit [km/h] of the sign that each vehicle is passing, nan where there is none; shapes as in `at_light`."""
        found = np.full(len(fronts), np.nan)
        signs = self._signs
        if len(signs) and len(fronts):
            dx = fronts[:, 0, None] - signs[None, :, 0]  # [V, S]
            dy = fronts[:, 1, None] - signs[None, :, 1]
            near = (np.hypot(dx, dy) < SIGN_REACH_M) & (np.cos(headings[:, None] - signs[None, :, 2]) > 0.8)
            # The sign stands to the right of the traffic it is for.
            right = np.cos(headings)[:, None] * dy - np.sin(headings)[:, None] * dx < 0.0
            hit = near & right
            found = np.where(hit.any(1), signs[hit.argmax(1), 3], found)
        return found
