"""Where every actor is and how it moves: one row per actor in flat arrays that the compiled kernels work on."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Kind(IntEnum):
    """What moves a body."""

    FIXED = 0  # sensors, lights, spectator: no body at all
    VEHICLE = 1
    WALKER = 2
    PROP = 3  # stands where it was put


# Columns of `pose`
X, Y, Z, PITCH, YAW, ROLL = range(6)
# Columns of `control` (vehicles). Walkers use the first four: direction x, y, z and speed [m/s].
THROTTLE, STEER, BRAKE, HAND_BRAKE, REVERSE, MANUAL, GEAR = range(7)
# Columns of `drive`: the state that lasts from step to step
(
    STEER_ANGLE,  # [rad] at the road wheels
    THROTTLE_NOW,  # throttle after the engine's lag
    BRAKE_NOW,  # brake after the hydraulics' lag
    LEAN_PITCH,  # [deg] of the body on its springs
    LEAN_ROLL,  # [deg]
    FRESH,  # 1 after being placed: not yet settled on its wheels
    PHASE,  # [rad] of this body's own road unevenness
    CONSTANT,  # 1 while a constant velocity is enforced
    CONSTANT_X,  # [m/s] forwards
    CONSTANT_Y,  # [m/s] to the right
    SHOVE_X,  # [m/s] left over from being hit (walkers)
    SHOVE_Y,
    DRIVEN,  # 1 in a step whose motion the client has set (AI walkers)
) = range(13)
# Columns of `shape`
HALF_LENGTH, HALF_WIDTH, BOTTOM, TOP, REACH, OFFSET_X = range(6)  # metres; bottom and top relative to the origin
# Columns of `model`
(
    MASS,  # [kg]
    INERTIA,  # [kg m²] about the vertical axis
    FRONT,  # [m] centre of mass to front axle
    REAR,  # [m] centre of mass to rear axle
    PEAK_FORCE,  # [N]
    POWER,  # [W]
    BRAKE_RATE,  # [m/s²] at full brake
    MAX_STEER,  # [rad]
    DRAG,  # [kg/m]
    GRIP,  # tyre friction relative to a standard tyre
    LEAN,  # [deg per m/s²] of roll: negative leans out of the curve (cars), positive into it (two wheels)
    CURVE,  # first of `CURVE_POINTS` steering factors, at 0, 20, 40, ... km/h
) = range(12)
CURVE_POINTS: Final = 8
CURVE_STEP: Final = 20.0 / 3.6  # [m/s] between two points of the steering curve
# Columns of `ground`, sampled under each body once a tick
HEIGHT, GROUND_GRIP, GROUND_DRAG = range(3)  # [m], friction relative to asphalt, [m/s²] of extra rolling resistance


class Bodies:
    """Arrays of all actors' states; row `i` belongs to the actor whose `slot` is `i`. Grows by doubling."""

    def __init__(self, capacity: int = 256) -> None:
        self.capacity = capacity
        self.pose: Floats = np.zeros((capacity, 6))  # x, y, z [m], pitch, yaw, roll [deg]
        self.velocity: Floats = np.zeros((capacity, 3))  # [m/s] in the world
        self.spin: Floats = np.zeros((capacity, 3))  # [deg/s] about x, y, z
        self.acceleration: Floats = np.zeros((capacity, 3))  # [m/s²] mean over the last tick
        self.push: Floats = np.zeros((capacity, 4))  # force [N] x, y, z and torque [N m] about z, for the next tick only
        self.control: Floats = np.zeros((capacity, 7))
        self.drive: Floats = np.zeros((capacity, 13))
        self.shape: Floats = np.zeros((capacity, 6))
        self.model: Floats = np.zeros((capacity, 11 + CURVE_POINTS))
        self.ground: Floats = np.zeros((capacity, 3))
        self.kind: npt.NDArray[np.int8] = np.zeros(capacity, np.int8)
        self.simulated: npt.NDArray[np.bool_] = np.zeros(capacity, np.bool_)  # moved by the town's physics
        self.weightless: npt.NDArray[np.bool_] = np.zeros(capacity, np.bool_)  # gravity switched off
        self.solid: npt.NDArray[np.bool_] = np.zeros(capacity, np.bool_)  # takes part in collisions
        self._free = list(range(capacity - 1, -1, -1))

    _ARRAYS = (
        "pose", "velocity", "spin", "acceleration", "push", "control", "drive", "shape", "model", "ground", "kind",
        "simulated", "weightless", "solid",
    )  # fmt: skip

    def take(self) -> int:
        """Reserve a cleared row."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        for name in self._ARRAYS:
            getattr(self, name)[slot] = 0
        return slot

    def release(self, slot: int) -> None:
        """Give a row back."""
        self.kind[slot] = Kind.FIXED
        self.simulated[slot] = self.solid[slot] = False
        self._free.append(slot)

    def _grow(self) -> None:
        old, self.capacity = self.capacity, self.capacity * 2
        for name in self._ARRAYS:
            array = getattr(self, name)
            grown = np.zeros((self.capacity, *array.shape[1:]), array.dtype)
            grown[:old] = array
            setattr(self, name, grown)
        self._free.extend(range(self.capacity - 1, old - 1, -1))
