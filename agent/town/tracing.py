"""Rays against exactly what the cameras draw: the town's mesh and the meshes of everything that moves.

A ray sees a triangle from its front side only, as a camera does. The same rays in the same world give the same hits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.actors import actor_mesh
from roadworthy.agent.town.bvh import Forest, Tree
from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel, kernel
from roadworthy.agent.town.mesh import Mesh
from roadworthy.agent.town.mesh_pool import MeshKey
from roadworthy.agent.town.raster import ActorPose

Floats = NDArray[np.float64]
SCENERY = -1  # in place of an actor's index
STACK = 64  # nodes that wait during one descent; trees of a hundred thousand triangles need about 30


@dataclass(frozen=True)
class Hits:
    """What each of `R` rays met first."""

    distance: Floats  # [R] metres; infinite where nothing was met
    tag: NDArray[np.int32]  # [R] CARLA's semantic tag
    actor: NDArray[np.int32]  # [R] index into the actors given, or SCENERY
    cosine: Floats  # [R] of the angle between the ray and the surface's normal


class Tracer:
    """Casts rays into one town."""

    def __init__(self, scenery: Mesh) -> None:
        """Build the tree over the scenery (about a tenth of a second)."""
        self._static = Forest()
        self._static.plant(Tree.over(scenery))
        self._moving = Forest()
        self._numbers: dict[MeshKey, int] = {}

    def cast(self, origin: Sequence[float], directions: Floats, reach: float, actors: Sequence[ActorPose]) -> Hits:
        """Rays from `origin` along unit `directions [R, 3]`, at most `reach` metres long; world axes."""
        directions = np.ascontiguousarray(directions, np.float64)
        table, index = self._near(origin, reach, actors)
        count = len(directions)
        out = Hits(np.full(count, np.inf), np.zeros(count, np.int32), np.full(count, SCENERY, np.int32), np.zeros(count))
        static, moving = self._static, self._moving
        _cast(
            np.asarray(origin, np.float64), directions, float(reach),
            static.spans, static.boxes, static.links, static.corners, static.tags,
            moving.spans, moving.boxes, moving.links, moving.corners, moving.tags, table, index,
            out.distance, out.tag, out.actor, out.cosine,
        )  # fmt: skip
        return out

    def _near(self, origin: Sequence[float], reach: float, actors: Sequence[ActorPose]) -> tuple[Floats, NDArray[np.int32]]:
        """Actors within reach: [n, 14] mesh, radius, place, rotation matrix by rows; and their indices."""
        rows, index = [], []
        for i, actor in enumerate(actors):
            number = self._numbers.get(actor.mesh_key)
            if number is None:
                number = self._numbers[actor.mesh_key] = self._moving.plant(Tree.over(actor_mesh(*actor.mesh_key)))
            radius = self._moving.radii[number]
            if math.dist(origin, (actor.x, actor.y, actor.z)) > reach + radius:
                continue
            p, y, r = math.radians(actor.pitch), math.radians(actor.yaw), math.radians(actor.roll)
            cp, sp, cy, sy, cr, sr = math.cos(p), math.sin(p), math.cos(y), math.sin(y), math.cos(r), math.sin(r)
            rows.append(
                (number, radius, actor.x, actor.y, actor.z,
                 cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr,
                 cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr,
                 sp, -cp * sr, cp * cr)
            )  # fmt: skip
            index.append(i)
        return np.array(rows, np.float64).reshape(-1, 14), np.array(index, np.int32)


@kernel
def _cast(
    origin: Floats, directions: Floats, reach: float, spans: Ints, boxes: Singles, links: Ints, corners: Singles, tags: Ints,
    spans_m: Ints, boxes_m: Singles, links_m: Ints, corners_m: Singles, tags_m: Ints, table: Floats, index: Ints,
    distance: Floats, tag: Ints, actor: Ints, cosine: Floats,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    for ray in range(directions.shape[0]):
        dx, dy, dz = directions[ray]
        best, hit, cos = _descend(
            origin[0], origin[1], origin[2], dx, dy, dz, reach, boxes, links, corners, spans[0, 0], spans[0, 1], stack
        )
        if hit >= 0:
            distance[ray], tag[ray], cosine[ray] = best, tags[hit], cos
        for k in range(table.shape[0]):
            row = table[k]
            px, py, pz = origin[0] - row[2], origin[1] - row[3], origin[2] - row[4]
            # Does the ray come near the ball round the actor before what has been met?
            along = -(px * dx + py * dy + pz * dz)
            beside = px * px + py * py + pz * pz - along * along
            if beside > row[1] * row[1] or along < -row[1] or along - row[1] > best:
                continue
            mesh = int(row[0])
            found, hit, cos = _descend(
                row[5] * px + row[8] * py + row[11] * pz, row[6] * px + row[9] * py + row[12] * pz,
                row[7] * px + row[10] * py + row[13] * pz,
                row[5] * dx + row[8] * dy + row[11] * dz, row[6] * dx + row[9] * dy + row[12] * dz,
                row[7] * dx + row[10] * dy + row[13] * dz,
                best, boxes_m, links_m, corners_m, spans_m[mesh, 0], spans_m[mesh, 1], stack,
            )  # fmt: skip
            if hit >= 0:
                best = found
                distance[ray], tag[ray], cosine[ray], actor[ray] = found, tags_m[hit], cos, index[k]


@inner_kernel
def _descend(
    x: float, y: float, z: float, dx: float, dy: float, dz: float, reach: float, boxes: Singles, links: Ints, corners: Singles,
    first_node: int, first_triangle: int, stack: NDArray[np.int64],
) -> tuple[float, int, float]:  # fmt: skip
    """Distance, triangle (-1: none) and cosine of the nearest front face that a ray meets within `reach`."""
    ix = 1.0 / dx if abs(dx) > 1e-12 else 1e12
    iy = 1.0 / dy if abs(dy) > 1e-12 else 1e12
    iz = 1.0 / dz if abs(dz) > 1e-12 else 1e12
    best, hit, cosine = reach, -1, 0.0
    stack[0] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth] + first_node
        if _enter(boxes[node], x, y, z, ix, iy, iz) > best:
            continue
        start, count = links[node]
        if count == 0:
            near = _enter(boxes[first_node + start], x, y, z, ix, iy, iz)
            far = _enter(boxes[first_node + start + 1], x, y, z, ix, iy, iz)
            first, second = start, start + 1
            if far < near:
                near, far = far, near
                first, second = second, first
            if far <= best:
                stack[depth] = second
                depth += 1
            if near <= best:
                stack[depth] = first
                depth += 1
            continue
        for i in range(first_triangle + start, first_triangle + start + count):
            t, cos = _meet(corners[i], x, y, z, dx, dy, dz)
            if 0.0 < t < best:
                best, hit, cosine = t, i, cos
    return best, hit, cosine


@inner_kernel
def _enter(box: Singles, x: float, y: float, z: float, ix: float, iy: float, iz: float) -> float:
    """Distance at which a ray enters a box (at least 0), infinite when it misses."""
    a, b = (box[0] - x) * ix, (box[3] - x) * ix
    near, far = min(a, b), max(a, b)
    a, b = (box[1] - y) * iy, (box[4] - y) * iy
    near, far = max(near, min(a, b)), min(far, max(a, b))
    a, b = (box[2] - z) * iz, (box[5] - z) * iz
    near, far = max(near, min(a, b)), min(far, max(a, b))
    entry: float = max(near, 0.0)
    return np.inf if far < entry else entry


@inner_kernel
def _meet(corner: Singles, x: float, y: float, z: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Distance to a triangle's front side (-1: missed) and the cosine there (Möller and Trumbore 1997)."""
    ax, ay, az = np.float64(corner[0]), np.float64(corner[1]), np.float64(corner[2])  # float() would stay float32
    ux, uy, uz = corner[3] - ax, corner[4] - ay, corner[5] - az
    vx, vy, vz = corner[6] - ax, corner[7] - ay, corner[8] - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    facing = -(nx * dx + ny * dy + nz * dz)
    if facing <= 1e-14:
        return -1.0, 0.0
    sx, sy, sz = x - ax, y - ay, z - az
    # e = s x d; the barycentric coordinates are v.e and -u.e over `facing`.
    ex, ey, ez = sy * dz - sz * dy, sz * dx - sx * dz, sx * dy - sy * dx
    first = vx * ex + vy * ey + vz * ez
    second = -(ux * ex + uy * ey + uz * ez)
    slack = 1e-9 * facing  # so that no ray slips between two triangles of one wall
    if first < -slack or second < -slack or first + second > facing + slack:
        return -1.0, 0.0
    t = (sx * nx + sy * ny + sz * nz) / facing
    return t, facing / math.sqrt(nx * nx + ny * ny + nz * nz)
