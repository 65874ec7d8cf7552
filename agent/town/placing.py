"""Actors put into the scene, compiled by numba: their meshes turned, moved and painted behind the static ones."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.actors import LAMPS_PER_ACTOR
from roadworthy.agent.town.compiling import Ints, Singles, kernel
from roadworthy.agent.town.mesh_pool import MeshKey, MeshPool

F = np.float32
# Rows of an actor table (float32 [n, ACTOR_COLUMNS]).
ACTOR_COLUMNS = 16  # mesh, x, y, z, yaw, pitch, roll [rad], first colour 3, second colour 3, instance, radius, first lamp


@dataclass(frozen=True, slots=True)
class ActorPose:
    """Something that moves. `z` is the ground under it."""

    mesh_key: MeshKey  # base type, length, width, height [m], phase
    x: float
    y: float
    z: float
    yaw: float  # [deg]
    colour: tuple[float, float, float]  # 0 to 1
    instance_id: int
    lights: int = 0  # VehicleLightState bits; headlamps and tail lamps also burn by themselves at night
    pitch: float = 0.0  # [deg]
    roll: float = 0.0  # [deg]


def actor_table(pool: MeshPool, actors: Sequence[ActorPose], first_lamp: int) -> NDArray[np.float32]:
    """float32 [n, ACTOR_COLUMNS] for the placing kernel; lamps of actors are numbered from `first_lamp`."""
    rows = []
    turn = math.pi / 180.0
    for index, actor in enumerate(actors):
        number = pool.number(actor.mesh_key)
        second = _second_colour(actor.mesh_key[:4], actor.colour)
        lamp = first_lamp + LAMPS_PER_ACTOR * index
        rows.append(
            (number, actor.x, actor.y, actor.z, actor.yaw * turn, actor.pitch * turn, actor.roll * turn, *actor.colour,
             *second, actor.instance_id, pool.radii[number], lamp)
        )  # fmt: skip
    pool.refresh()
    return np.array(rows, np.float32).reshape(-1, ACTOR_COLUMNS)


@lru_cache(maxsize=4096)
def _second_colour(kind: tuple[str, float, float, float], first: tuple[float, float, float]) -> tuple[float, float, float]:
    """A second colour (trousers, a lorry's load) that goes with kind, size and first colour: the same whenever those are."""
    rng = np.random.default_rng(zlib.crc32(repr((kind, first)).encode()))
    r, g, b = rng.uniform(0.1, 0.75) * rng.uniform(0.7, 1.2, 3)
    return float(r), float(g), float(b)


@kernel
def place(
    actors: Singles, planes: Singles, pool_spans: Ints, pool_vertices: Singles, pool_normals: Singles, pool_uv: Singles,
    pool_colours: Singles, pool_faces: Ints, pool_surface: Ints, pool_tint: NDArray[np.uint8], vertices: Singles,
    normals: Singles, uv: Singles, colours: Singles, faces: Ints, surface: Ints, first_vertex: int, first_face: int,
    placed: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Copy the meshes of all actors inside the view behind the static ones; returns the ends of vertices and faces.

    `placed` int32 [n, 2]: first and last face of each actor (equal when it was skipped).
    """
    next_vertex = first_vertex
    next_face = first_face
    turn = np.empty((3, 3), np.float32)
    for i in range(actors.shape[0]):
        placed[i, 0] = next_face
        placed[i, 1] = next_face
        x = actors[i, 1]
        y = actors[i, 2]
        z = actors[i, 3]
        radius = actors[i, 14]
        hidden = False
        for k in range(4):
            if planes[k, 0] * x + planes[k, 1] * y + planes[k, 2] * z + planes[k, 3] < -radius:
                hidden = True
                break
        if hidden:
            continue
        cy = math.cos(actors[i, 4])
        sy = math.sin(actors[i, 4])
        cp = math.cos(actors[i, 5])
        sp = math.sin(actors[i, 5])
        cr = math.cos(actors[i, 6])
        sr = math.sin(actors[i, 6])
        turn[0, 0] = cp * cy
        turn[0, 1] = cy * sp * sr - sy * cr
        turn[0, 2] = -cy * sp * cr - sy * sr
        turn[1, 0] = cp * sy
        turn[1, 1] = sy * sp * sr + cy * cr
        turn[1, 2] = -sy * sp * cr + cy * sr
        turn[2, 0] = sp
        turn[2, 1] = -cp * sr
        turn[2, 2] = cp * cr
        mesh = int(actors[i, 0])
        v0 = pool_spans[mesh, 0]
        v1 = pool_spans[mesh, 1]
        f0 = pool_spans[mesh, 2]
        f1 = pool_spans[mesh, 3]
        if next_vertex + v1 - v0 > vertices.shape[0] or next_face + f1 - f0 > faces.shape[0]:
            return -1, -1
        for v in range(v0, v1):
            o = next_vertex + v - v0
            px = pool_vertices[v, 0]
            py = pool_vertices[v, 1]
            pz = pool_vertices[v, 2]
            nx = pool_normals[v, 0]
            ny = pool_normals[v, 1]
            nz = pool_normals[v, 2]
            for r in range(3):
                vertices[o, r] = turn[r, 0] * px + turn[r, 1] * py + turn[r, 2] * pz + actors[i, 1 + r]
                normals[o, r] = turn[r, 0] * nx + turn[r, 1] * ny + turn[r, 2] * nz
                tint = F(1.0)
                if pool_tint[v] == 1:
                    tint = actors[i, 7 + r]
                elif pool_tint[v] == 2:
                    tint = actors[i, 10 + r]
                colours[o, r] = pool_colours[v, r] * tint
            uv[o, 0] = pool_uv[v, 0]
            uv[o, 1] = pool_uv[v, 1]
        for t in range(f0, f1):
            o = next_face + t - f0
            for e in range(3):
                faces[o, e] = pool_faces[t, e] - v0 + next_vertex
            surface[o, 0] = pool_surface[t, 0]
            surface[o, 1] = pool_surface[t, 1]
            surface[o, 2] = int(actors[i, 13])
            lamp = pool_surface[t, 3]
            surface[o, 3] = int(actors[i, 15]) + lamp if lamp > 0 else 0
        next_vertex += v1 - v0
        next_face += f1 - f0
        placed[i, 1] = next_face
    return next_vertex, next_face
