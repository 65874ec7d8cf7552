"""Keeps static things apart and remembers what stands where: colliders for physics, objects for CARLA's queries."""

import math
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from roadworthy.agent.town.mesh import Pose
from roadworthy.agent.town.tags import Tag

FIRST_INSTANCE = 20_000  # static instance ids start here, far above the first actor ids


@dataclass(frozen=True)
class EnvironmentObject:
    """A static thing of the town, as `world.get_environment_objects` lists them."""

    id: int  # also its instance id in the instance camera
    tag: Tag
    name: str
    x: float
    y: float
    z: float  # [m] middle of its box
    yaw: float  # [rad]
    half_length: float  # [m]
    half_width: float
    half_height: float


@dataclass
class Placement:
    """The ground that is taken. Footprints are oriented rectangles."""

    keep_free: BaseGeometry  # no building may touch this
    objects: list[EnvironmentObject] = field(default_factory=list)
    colliders: list[tuple[float, ...]] = field(default_factory=list)  # x, y, yaw, half length, half width, height
    collider_tags: list[int] = field(default_factory=list)
    _cells: dict[tuple[int, int], list[Polygon]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapely.prepare(self.keep_free)

    def free(self, footprint: Polygon, *, on_street: bool = False) -> bool:
        """Whether nothing stands there (and, unless `on_street`, no paved ground lies there)."""
        if not on_street and self.keep_free.intersects(footprint):
            return False
        return not any(other.intersects(footprint) for cell in _cells(footprint) for other in self._cells.get(cell, ()))

    def take(self, footprint: Polygon) -> None:
        """Mark ground as taken."""
        for cell in _cells(footprint):
            self._cells.setdefault(cell, []).append(footprint)

    def next_instance(self) -> int:
        """The id that the next `record` will give."""
        return FIRST_INSTANCE + len(self.objects)

    def record(
        self, tag: Tag, name: str, pose: Pose, half: tuple[float, float, float], *, solid: bool = True, base: float = 0.0
    ) -> int:
        """Remember a thing whose box stands on `pose` (its bottom `base` metres higher); returns its id."""
        number = self.next_instance()
        middle = pose.z + base + half[2]
        self.objects.append(EnvironmentObject(number, tag, name, pose.x, pose.y, middle, pose.yaw, *half))
        if solid:
            self.colliders.append((pose.x, pose.y, pose.yaw, half[0], half[1], base + 2 * half[2]))
            self.collider_tags.append(int(tag))
        return number

    def collider_array(self) -> NDArray[np.float64]:
        """float64 [K, 6]: x, y, yaw [rad], half length, half width, height [m]."""
        return np.array(self.colliders, np.float64).reshape(-1, 6)


def rectangle(pose: Pose, half_length: float, half_width: float, margin: float = 0.0) -> Polygon:
    """The footprint of a box, grown by `margin`."""
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    a, b = half_length + margin, half_width + margin
    corners = ((-a, -b), (a, -b), (a, b), (-a, b))
    return Polygon([(pose.x + c * u - s * v, pose.y + s * u + c * v) for u, v in corners])


def _cells(footprint: Polygon, size: float = 32.0) -> list[tuple[int, int]]:
    x0, y0, x1, y1 = footprint.bounds
    columns = range(math.floor(x0 / size), math.floor(x1 / size) + 1)
    rows = range(math.floor(y0 / size), math.floor(y1 / size) + 1)
    return [(i, j) for i in columns for j in rows]
