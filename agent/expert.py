"""The driver who demonstrates: follows a planned route with the simulator's own knowledge of everybody's place.

CARLA's Traffic Manager drives where it likes or along a path without commands, so that its controls cannot be labelled with
the command in force; this expert follows a `Route`. Steering is pure pursuit (Coulter 1992, CMU-RI-TR-92-01), speed the largest
that lets it take the curve ahead, stop behind whoever is in its way, and stop at a red light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.routes import Route

STALL_BEGINS = 10, 80  # [steps] of 0.1 s after the start of the drive, drawn evenly
STALL_STEPS = 16  # the car stands after about nine of them

Action = npt.NDArray[np.float32]  # [3] steer, then throttle or brake as in the environment


@dataclass(frozen=True)
class CarModel:
    """What the expert must know of the car it drives."""

    wheelbase_m: float = 2.9  # [m]
    max_steer_deg: float = 70.0  # [degrees] road-wheel angle at full steering
    half_length_m: float = 2.4  # [m]
    half_width_m: float = 1.0  # [m]


@dataclass(frozen=True)
class ExpertStyle:
    """How the expert drives."""

    cruise_mps: float = 25.0 / 3.6  # [m/s] the reward's reference speed
    lateral_mps2: float = 2.2  # [m/s²] wanted at most in a curve
    braking_mps2: float = 3.0  # [m/s²] planned for stops
    look_ahead_s: float = 0.35  # [s] of travel to the point steered at, plus 1.5 m
    nearest_look_m: float = 3.0  # [m] shortest such distance; a longer one cuts corners
    horizon_m: float = 30.0  # [m] of route that is checked for curves and people
    gap_m: float = 2.5  # [m] kept to what stands in the way
    margin_m: float = 0.4  # [m] kept beside others
    foresight_s: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)  # [s] when the others' places are predicted


@dataclass(frozen=True)
class Situation:
    """What the expert sees in one moment."""

    x: float  # [m] centre of the car
    y: float
    yaw_deg: float
    speed_mps: float
    along_m: float  # progress on the route
    # [n, 7] every other vehicle and walker near: x, y, vx, vy [m, m/s], yaw [rad], half length, half width [m]
    others: npt.NDArray[np.float64]
    stop_at_m: float = math.inf  # [m] along the route: the stop line of the next light that is not green


class Expert:
    """Drives one route."""

    def __init__(self, route: Route, car: CarModel | None = None, style: ExpertStyle | None = None) -> None:
        self.route = route
        self.car = car or CarModel()
        self.style = style or ExpertStyle()
        yaw = np.unwrap(np.radians(route.yaw_deg))
        step = np.maximum(np.diff(route.along_m), 0.1)
        curvature = np.abs(np.diff(yaw)) / step  # [N-1] 1/m
        smooth = np.convolve(curvature, np.ones(3) / 3, mode="same")
        # [N-1] m/s; the centre line's yaw jumps between samples: a mean over 3 m keeps one kink from being a hairpin
        self._curve_mps = np.sqrt(self.style.lateral_mps2 / np.maximum(smooth, 1e-3))

    def act(self, now: Situation) -> Action:
        """Return the action for `now`: steer to the right positive, second and third entry throttle and brake."""
        wanted = min(self.style.cruise_mps, self._curve_limit(now), self._traffic_limit(now), self._light_limit(now))
        drive = _pedals(wanted, now.speed_mps)
        return np.array([self._steer(now), max(drive, 0.0), max(-drive, 0.0)], np.float32)

    def _steer(self, now: Situation) -> float:
        """Pure pursuit from the rear axle."""
        yaw = math.radians(now.yaw_deg)
        back = self.car.wheelbase_m / 2
        rear_x, rear_y = now.x - back * math.cos(yaw), now.y - back * math.sin(yaw)
        look = max(self.style.nearest_look_m, self.style.look_ahead_s * now.speed_mps + 1.5)
        target = self.route.transform_at(min(now.along_m + look, self.route.length_m)).location
        ahead, aside = target.x - rear_x, target.y - rear_y
        if now.along_m + look > self.route.length_m:  # straight on over the goal
            goal = self.route.goal
            beyond = now.along_m + look - self.route.length_m
            ahead += beyond * math.cos(math.radians(goal.rotation.yaw))
            aside += beyond * math.sin(math.radians(goal.rotation.yaw))
        angle = math.remainder(math.atan2(aside, ahead) - yaw, 2 * math.pi)
        distance = max(math.hypot(ahead, aside), 1.0)
        wheel = math.atan2(2.0 * self.car.wheelbase_m * math.sin(angle), distance)
        return float(np.clip(math.degrees(wheel) / self.car.max_steer_deg, -1.0, 1.0))

    def _curve_limit(self, now: Situation) -> float:
        """Speed that can still be brought down to what each curve ahead allows."""
        route = self.route
        first = int(np.searchsorted(route.along_m, now.along_m))
        last = int(np.searchsorted(route.along_m, now.along_m + self.style.horizon_m))
        if first >= len(self._curve_mps):
            return self.style.cruise_mps
        limits = self._curve_mps[first : max(last, first + 1)]
        distance = np.maximum(route.along_m[first : first + len(limits)] - now.along_m - 2.0, 0.0)
        return float(np.sqrt(limits**2 + 2 * self.style.braking_mps2 * 0.6 * distance).min())

    def _light_limit(self, now: Situation) -> float:
        left = now.stop_at_m - now.along_m - self.car.half_length_m
        if left < -1.0:  # already over the line: clear the junction
            return self.style.cruise_mps
        return _stopping_speed(left - 0.5, self.style.braking_mps2)

    def _traffic_limit(self, now: Situation) -> float:
        """Speed that leaves `gap_m` to whoever is, or will soon be, on the route ahead."""
        if not len(now.others):
            return self.style.cruise_mps
        style, route = self.style, self.route
        first = int(np.searchsorted(route.along_m, now.along_m))
        last = int(np.searchsorted(route.along_m, now.along_m + style.horizon_m))
        path = route.points[first : max(last, first + 1), :2]  # [k, 2]
        heading = np.radians(route.yaw_deg[first : first + len(path)])
        along = route.along_m[first : first + len(path)] - now.along_m
        limit = style.cruise_mps
        for x, y, vx, vy, yaw, half_length, half_width in now.others:
            if math.hypot(x - now.x, y - now.y) > style.horizon_m + 10.0:
                continue
            for later_s in style.foresight_s:
                away = path - (x + vx * later_s, y + vy * later_s)  # [k, 2]
                k = int((away**2).sum(1).argmin())
                turned = yaw - float(heading[k])
                # The other's box seen along and across the route.
                across = abs(half_length * math.sin(turned)) + abs(half_width * math.cos(turned))
                forward = abs(half_length * math.cos(turned)) + abs(half_width * math.sin(turned))
                if float(np.hypot(*away[k])) > across + self.car.half_width_m + style.margin_m:
                    continue
                gap = float(along[k]) - forward - self.car.half_length_m
                if gap < -self.car.half_length_m:
                    continue  # beside or behind
                leading = max(0.0, vx * math.cos(heading[k]) + vy * math.sin(heading[k])) if later_s == 0.0 else 0.0
                limit = min(limit, _stopping_speed(gap - style.gap_m, style.braking_mps2) + leading)
        return limit


def _stopping_speed(distance_m: float, braking_mps2: float) -> float:
    """Return the speed from which one stops within `distance_m`."""
    return math.sqrt(2.0 * braking_mps2 * max(distance_m, 0.0)) if distance_m < 1e6 else math.inf


def _pedals(wanted_mps: float, speed_mps: float) -> float:
    """Return throttle (positive) or brake (negative) towards the wanted speed; a small lag behind it needs no brake."""
    if wanted_mps < 0.3:
        return -1.0 if speed_mps > 0.5 else -0.5
    error = wanted_mps - speed_mps
    if error >= -0.3:
        return float(np.clip(0.22 + 0.35 * error, 0.0, 0.8))
    return float(np.clip(0.35 * (error + 0.3), -1.0, 0.0))


class SteeringNoise:
    """Triangular bursts on the steering, so that demonstrations hold recoveries (as in arXiv 1710.02410, section V).

    The noise moves the car; the label stays what the expert would have done.
    """

    def __init__(self, rng: np.random.Generator, *, share: float = 0.3, amplitude: float = 0.16) -> None:
        """Disturb about `share` of the time, by up to `amplitude` of full steering."""
        self._rng = rng
        self._share, self._amplitude = share, amplitude
        self._left = self._length = 0
        self._peak = 0.0

    def __call__(self) -> float:
        """Return what to add to the steering in this step of 0.1 s."""
        if self._left == 0:
            mean_steps = 11.0  # of a burst
            if self._rng.random() < self._share / (1 - self._share) / mean_steps:
                self._length = self._left = int(self._rng.integers(7, 16))
                self._peak = float(self._rng.uniform(0.4, 1.0) * self._amplitude * self._rng.choice((-1.0, 1.0)))
            return 0.0
        self._left -= 1
        phase = 1.0 - self._left / self._length
        return self._peak * (1.0 - abs(2.0 * phase - 1.0))


class Stall:
    """A full stop that nothing asks for, in some drives: who only ever saw the expert stand for a reason stays where it stands.

    The brake stops the car; the label stays what the expert would have done, which is to drive on.
    """

    def __init__(self, rng: np.random.Generator, share: float) -> None:
        """Draw whether and when this drive is stopped; `share` of the drives are."""
        stalls = share > 0 and rng.random() < share
        self._first = int(rng.integers(*STALL_BEGINS)) if stalls else None

    def at(self, step: int) -> bool:
        """Tell whether the car is held in this step of 0.1 s of the drive."""
        return self._first is not None and self._first <= step < self._first + STALL_STEPS
