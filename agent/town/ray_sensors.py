"""Lidar, semantic lidar and radar: which rays they cast, and the bodies of their messages.

The models are CARLA's: a lidar's points are lost at random before the cast and by intensity after it, the intensity is
exp(-rate * distance), noise moves a point along its ray; a radar casts rays at random in a cone, denser in the middle, and
measures the speed at which each point comes nearer (negative) or goes away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.attachments import rotation
from roadworthy.agent.town.instruments import Lidar, Radar, Sensor
from roadworthy.agent.town.protocol import lidar_body, radar_body, semantic_lidar_body
from roadworthy.agent.town.raster import ActorPose
from roadworthy.agent.town.tracing import Hits, Tracer

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Surroundings:
    """What rays can meet: the town, and what moves in it."""

    tracer: Tracer
    actors: Sequence[ActorPose]
    ids: npt.NDArray[np.int64]  # [n] of the actors
    velocities: Floats  # [n, 3] m/s

    def without(self, actor_ids: frozenset[int]) -> Surroundings:
        """The same without some actors."""
        kept = np.flatnonzero(~np.isin(self.ids, list(actor_ids))).tolist()
        return Surroundings(self.tracer, [self.actors[k] for k in kept], self.ids[kept], self.velocities[kept])


def lidar_scan(sensor: Sensor, lidar: Lidar, pose: Floats, elapsed_s: float, around: Surroundings) -> bytes:
    """One message: the points of a scan of `elapsed_s`, in the sensor's axes. Turns the sensor on."""
    angles, kept = _sweep(sensor, lidar, elapsed_s)
    rays = _fan(lidar, angles)[kept]  # [R, 3]
    hits = around.tracer.cast(pose[:3].tolist(), rays @ rotation(pose).T, lidar.reach_m, around.actors)
    met = np.isfinite(hits.distance)
    distance, rays = hits.distance[met], rays[met]  # [M], [M, 3]
    intensity = np.exp(-lidar.attenuation_per_m * distance)
    points = rays * distance[:, None]  # [M, 3]
    if lidar.noise_m > 0.0:
        points += rays * sensor.dice.normal(0.0, lidar.noise_m, (len(rays), 1))
    if lidar.drop_limit > 0.0:
        stays = 1.0 - lidar.drop_at_zero * (1.0 - intensity / lidar.drop_limit)
        kept_points = (intensity > lidar.drop_limit) | (sensor.dice.random(len(rays)) < stays)
        met[met] = kept_points
        points, intensity = points[kept_points], intensity[kept_points]
    return lidar_body(math.radians(sensor.turned_deg), _per_channel(lidar, angles, kept, met), points, intensity)


def semantic_scan(sensor: Sensor, lidar: Lidar, pose: Floats, elapsed_s: float, around: Surroundings) -> bytes:
    """One message: the points of a scan with the cosine of incidence, actor id (0: scenery) and semantic tag."""
    angles, kept = _sweep(sensor, lidar, elapsed_s)
    rays = _fan(lidar, angles)
    hits = around.tracer.cast(pose[:3].tolist(), rays @ rotation(pose).T, lidar.reach_m, around.actors)
    met = np.isfinite(hits.distance)
    return semantic_lidar_body(
        math.radians(sensor.turned_deg), _per_channel(lidar, angles, kept, met), rays[met] * hits.distance[met, None],
        hits.cosine[met], _actor_ids(hits, around)[met], hits.tag[met],
    )  # fmt: skip


def radar_sweep(sensor: Sensor, radar: Radar, pose: Floats, velocity: Floats, elapsed_s: float, around: Surroundings) -> bytes:
    """One message: velocity [m/s], azimuth (positive to the right) and altitude [rad], depth [m] of every point met."""
    count = int(radar.points_per_s * elapsed_s)
    radius, angle = sensor.dice.random(count), sensor.dice.random(count) * 2.0 * math.pi
    across = math.tan(math.radians(radar.horizontal_deg / 2)) * radius * np.cos(angle)
    upward = math.tan(math.radians(radar.vertical_deg / 2)) * radius * np.sin(angle)
    rays = np.stack([np.ones(count), across, upward], 1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)  # [R, 3]
    aimed = rays @ rotation(pose).T
    hits = around.tracer.cast(pose[:3].tolist(), aimed, radar.reach_m, around.actors)
    met = np.isfinite(hits.distance)
    other = np.concatenate([around.velocities, np.zeros((1, 3))])[hits.actor]  # the last row is the scenery's
    speed = np.einsum("ij,ij->i", other - velocity, aimed)
    azimuth, altitude = np.arctan2(rays[:, 1], rays[:, 0]), np.arcsin(np.clip(rays[:, 2], -1.0, 1.0))
    return radar_body(np.stack([speed, azimuth, altitude, hits.distance], 1)[met])


def _sweep(sensor: Sensor, lidar: Lidar, elapsed_s: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Horizontal angles [deg] of a scan [P], and which rays [C * P] are cast; the sensor has turned afterwards."""
    count = math.floor(lidar.points_per_s * elapsed_s / lidar.channels + 0.5)
    turn = lidar.turns_per_s * lidar.horizontal_deg * elapsed_s
    whole = max(lidar.horizontal_deg, 1e-9)
    angles = np.fmod(sensor.turned_deg + turn / max(count, 1) * np.arange(count), whole) - lidar.horizontal_deg / 2
    sensor.turned_deg = math.fmod(sensor.turned_deg + turn, whole)
    kept = np.ones(lidar.channels * count, np.bool_)
    if lidar.dropped > 0.0:
        kept = sensor.dice.random(lidar.channels * count) >= lidar.dropped
    return angles, kept


def _fan(lidar: Lidar, angles: Floats) -> Floats:
    """Unit vectors [C * P, 3] in the sensor's axes, channel by channel from the highest laser down."""
    vertical = np.radians(np.linspace(lidar.upper_deg, lidar.lower_deg, lidar.channels))[:, None]
    horizontal = np.radians(angles)[None]
    flat = np.cos(vertical)
    x, y, z = np.broadcast_arrays(flat * np.cos(horizontal), flat * np.sin(horizontal), np.sin(vertical))
    return np.stack([x.ravel(), y.ravel(), z.ravel()], 1)


def _per_channel(
    lidar: Lidar, angles: Floats, kept: npt.NDArray[np.bool_], met: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """How many points each channel has; `met` is about the rays in `kept`."""
    channel = np.repeat(np.arange(lidar.channels), len(angles))[kept]
    return np.bincount(channel[met], minlength=lidar.channels)


def _actor_ids(hits: Hits, around: Surroundings) -> npt.NDArray[np.int64]:
    return np.append(around.ids, 0)[hits.actor]  # the last is the scenery's
