"""Inertial and position sensors: what an IMU and a GNSS receiver tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from roadworthy.agent.town.attachments import to_local
from roadworthy.agent.town.bodies import YAW
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.footing import GRAVITY
from roadworthy.agent.town.instruments import Sensor
from roadworthy.agent.town.protocol import Wire

if TYPE_CHECKING:
    from roadworthy.agent.town.world import World


def imu(world: World, actor: Actor, sensor: Sensor) -> Wire:
    """Acceleration [m/s²] with gravity and turn rate [rad/s] in the sensor's axes; compass [rad], 0 at north (-y)."""
    bodies = world.roster.bodies
    pose = bodies.pose[actor.slot]
    carrier = world.roster.get(actor.parent)
    slot = carrier.slot if carrier else actor.slot
    ax, ay, az = bodies.acceleration[slot]
    accelerometer = list(to_local(pose, ax, ay, az + GRAVITY))
    gyroscope = list(to_local(pose, *np.radians(bodies.spin[slot])))
    for axis, name in enumerate("xyz"):
        accelerometer[axis] += sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_accel_stddev_{name}", 0.0)
        gyroscope[axis] += sensor.noise.get(f"noise_gyro_bias_{name}", 0.0)
        gyroscope[axis] += sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_gyro_stddev_{name}", 0.0)
    compass = math.radians(pose[YAW] + 90.0) % (2.0 * math.pi)
    return [[float(v) for v in accelerometer], [float(v) for v in gyroscope], compass]


def gnss(world: World, actor: Actor, sensor: Sensor) -> Wire:
    """Latitude, longitude [deg] and altitude [m], by the map's geo-reference exactly as the client's map computes them.

    With `world.latitude_mirrored` they are those of the place mirrored at the x axis.
    """
    x, y, z = world.roster.bodies.pose[actor.slot][:3].tolist()
    place = world.map.geolocation(x, -y if world.latitude_mirrored else y, z)
    values = []
    for value, axis in zip(place, ("lat", "lon", "alt"), strict=True):
        spread = sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_{axis}_stddev", 0.0)
        values.append(float(value + sensor.noise.get(f"noise_{axis}_bias", 0.0) + spread))
    return values
