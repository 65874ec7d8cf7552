"""The software renderer: RGB, semantic tags, instances and depth of the town in one pass on one core.

A visibility buffer is filled tile by tile, then every pixel is shaded once (textures, sun with shadows, lamps, wet road, fog,
sensor noise). The same scene, camera, weather, frame number and seed give the same bytes on one machine.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town import kernels, placing, shading, shadows, visible
from roadworthy.agent.town.camera import MAX_PIXELS, CameraPose, camera_axes, checked_size, padded, view
from roadworthy.agent.town.culling import draw_tiles
from roadworthy.agent.town.lamps import (
    BRAKE,
    GREEN,
    LAMP_CELL,
    LOW_BEAM,
    OFF,
    RED,
    REVERSE,
    YELLOW,
    beams,
    lamp_levels,
    lamp_map,
)
from roadworthy.agent.town.light_vector import CLOUD_SIZE, light_vector
from roadworthy.agent.town.mesh_pool import MeshPool
from roadworthy.agent.town.placing import ActorPose, actor_table
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import Scenery
from roadworthy.agent.town.sky import Light, light_from_weather
from roadworthy.agent.town.static_mesh import tile_mesh
from roadworthy.agent.town.strip import STRIP
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import FACADE_FLOORS, LAYERS, SIZE, Layer, noise
from roadworthy.agent.town.texturing import packed_textures

__all__ = [
    "BRAKE", "GREEN", "LOW_BEAM", "MAX_PIXELS", "OFF", "RED", "REVERSE", "YELLOW", "ActorPose", "CameraPose", "Frame",
    "Renderer",
]  # fmt: skip
FAR = 420.0  # [m] nothing further is drawn
_DETAIL_RANGE = 50.0  # [m] to a tile for its near-only faces
_SHADOW_CELL = 0.3  # [m]; larger for maps over 700 m across
_SHADOW_RANGE = 45.0  # [m] actors further from the camera cast no shadow
_Number = TypeVar("_Number", bound=np.generic)
_UNSHADED = np.array([Tag.ROADS, Tag.SIDEWALKS, Tag.TERRAIN, Tag.ROAD_LINES])


@dataclass(frozen=True)
class Frame:
    """One picture. The arrays are the caller's own."""

    bgra: NDArray[np.uint8]  # [H, W, 4]
    tags: NDArray[np.uint8]  # [H, W] CARLA's semantic tags
    instance: NDArray[np.int32]  # [H, W] actor id, static object id, or 0
    depth: NDArray[np.float32]  # [H, W] metres along the camera's axis; 1000 where there is sky


class Renderer:
    """Draws one town. Not to be used by two threads at once."""

    def __init__(self, scenery: Scenery, roads: RoadNetwork) -> None:
        """Prepare the static mesh, textures and tables (about a second)."""
        tiled = tile_mesh(scenery.mesh)
        self._spans, self._boxes = tiled.spans, tiled.boxes
        self._vertex_count, self._face_count = len(tiled.vertices), len(tiled.faces)
        self._vertices, self._normals, self._uv = tiled.vertices, tiled.normals, tiled.uv
        self._colours, self._faces, self._surface = tiled.colours, tiled.faces, tiled.surface
        self._points = np.zeros((0, 3), np.float32)
        self._grow(20_000, 20_000)
        self._records = np.empty((4096, visible.RECORD), np.float32)
        self._facts = np.empty((4096, visible.FACTS), np.int32)
        self._texels = packed_textures()
        self._strip = shading.strip_arrays()
        self._window_cells = np.ones(LAYERS, np.int32)
        self._window_cells[Layer.FACADE :] = FACADE_FLOORS
        self._scenery = scenery
        self._pool = MeshPool()
        rng = np.random.default_rng(0)
        noise_table = rng.standard_normal(shading.NOISE_TABLE).astype(np.float32)
        self._noise = np.concatenate([noise_table, noise_table[: 3 * STRIP]])  # a strip that starts at its end goes on
        self._clouds = (noise(rng, 5, 0.55, CLOUD_SIZE)).astype(np.float32)
        x0, y0, x1, y1 = roads.bounds
        self._origin = (np.float32(x0), np.float32(y0))
        self._cell = max(_SHADOW_CELL, max(x1 - x0, y1 - y0) / 2400)
        shape = (int((y1 - y0) / self._cell) + 1, int((x1 - x0) / self._cell) + 1)
        self._shadow_base = np.full(shape, shadows.NOTHING, np.int16)
        self._shadow = self._shadow_base.copy()
        self._shadow_sun: tuple[float, float, float] | None = None
        self._dirty = np.zeros((0, 4), np.int32)  # cells of the shadow map that actors darkened in the last frame
        self._casters = np.ascontiguousarray(self._faces[: self._face_count][self._casting(tiled.surface)])
        self._lamp_map = lamp_map(scenery, roads.bounds)
        self._buffers: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.int32]]] = {}
        self._light = lru_cache(maxsize=64)(light_from_weather)

    def _casting(self, surface: NDArray[np.int32]) -> NDArray[np.bool_]:
        casting: NDArray[np.bool_] = ~np.isin(surface[:, 1], _UNSHADED)
        return casting

    def _grow(self, more_vertices: int, more_faces: int) -> None:
        """Make room for actors behind the static arrays."""
        self._vertices = _longer(self._vertices, self._vertex_count, more_vertices)
        self._normals = _longer(self._normals, self._vertex_count, more_vertices)
        self._uv = _longer(self._uv, self._vertex_count, more_vertices)
        self._colours = _longer(self._colours, self._vertex_count, more_vertices)
        self._faces = _longer(self._faces, self._face_count, more_faces)
        self._surface = _longer(self._surface, self._face_count, more_faces)
        self._points = np.zeros((self._vertex_count + more_vertices, 3), np.float32)
        self._number_of = np.full(self._face_count + more_faces, -1, np.int32)
        self._seen = np.zeros(self._face_count + more_faces, np.int32)

    def render(
        self, camera: CameraPose, actors: Sequence[ActorPose], weather: Sequence[float],
        traffic_lights: Mapping[str, int], frame: int = 0, seed: int = 0, hidden: int | None = None,
    ) -> Frame:  # fmt: skip
        """Draw one picture.

        `weather`: CARLA's 14 parameters; `traffic_lights`: signal id -> 0 red, 1 yellow, 2 green, 3 off (missing ones are off);
        `frame` and `seed` choose the noise, rain and the camera's jitter; the actor with the instance id `hidden` (a car with
        the camera inside) is not drawn, but its headlamps shine. Raises ValueError for an impossible camera.
        """
        width, height = checked_size(camera)
        light = self._light(tuple(weather), seed)
        dice = random.Random((seed & 0xFFFFFFFF) << 32 | frame & 0xFFFFFFFF)
        vector = light_vector(light, dice.gauss(1.0, 0.015), frame)
        noise_offset = dice.randrange(shading.NOISE_TABLE)
        rain_seed = dice.randrange(1 << 31)
        axes, eye, half_x, half_y = camera_axes(camera)
        matrix, planes = view(axes, eye, half_x, half_y)

        headlamps = beams(actors, light, eye)
        if hidden is not None:
            actors = [actor for actor in actors if actor.instance_id != hidden]
        table = actor_table(self._pool, actors, self._scenery.lamp_count)
        last_face, placed = self._place(table, padded(planes))
        depth, ids = self._target(height, width)
        depth.fill(0.0)
        ids.fill(-1)
        draw_tiles(
            self._vertices, self._faces, self._spans, self._boxes, planes, matrix, eye, np.float32(_DETAIL_RANGE),
            np.float32(FAR), self._points, width, height, depth, ids,
        )  # fmt: skip
        kernels.project(self._vertices, self._vertex_count, self._last_vertex, matrix, self._points)
        kernels.draw(self._points, self._faces, self._face_count, last_face, np.float32(FAR), width, height, depth, ids)
        drift = self._update_shadows(light, table, placed, eye)
        levels = lamp_levels(self._scenery, light, actors, traffic_lights, frame)
        out = Frame(
            np.empty((height, width, 4), np.uint8), np.empty((height, width), np.uint8),
            np.empty((height, width), np.int32), np.empty((height, width), np.float32),
        )  # fmt: skip
        count = visible.number_faces(ids, self._number_of, self._seen)
        if count >= len(self._facts):
            self._records = np.empty((2 * count, visible.RECORD), np.float32)
            self._facts = np.empty((2 * count, visible.FACTS), np.int32)
        visible.measure_faces(
            self._seen, count, self._vertices, self._normals, self._uv, self._colours, self._faces, self._surface, levels, eye,
            axes, np.float32(SIZE * 2 * half_x / width), self._records, self._facts,
        )  # fmt: skip
        shading.shade(
            *self._strip, ids, depth, count, self._records, self._facts, self._window_cells, int(Layer.FACADE), eye, axes,
            np.float32(half_x), np.float32(half_y), vector, self._texels, self._shadow, np.float32(drift[0]),
            np.float32(drift[1]), self._origin[0], self._origin[1], np.float32(self._cell), self._lamp_map,
            np.float32(LAMP_CELL), headlamps, self._clouds, self._noise, noise_offset, out.bgra.view(np.uint32)[..., 0],
            out.tags, out.instance, out.depth,
        )  # fmt: skip
        if light.rain > 0.02:
            count = int(light.rain * width * height / 180)
            bright = 255.0 * (0.35 + 0.65 * light.ambient[1]) * light.exposure[1]
            slant = dice.gauss(0.0, 0.15 + 0.3 * light.wind)
            shading.draw_rain(out.bgra, count, np.float32(min(bright, 230.0)), np.float32(slant), rain_seed)
        return out

    def _target(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        if (height, width) not in self._buffers:
            if len(self._buffers) > 8:
                self._buffers.clear()
            self._buffers[height, width] = (np.zeros((height, width), np.float32), np.zeros((height, width), np.int32))
        return self._buffers[height, width]

    def _place(self, table: NDArray[np.float32], planes: NDArray[np.float32]) -> tuple[int, NDArray[np.int32]]:
        placed = np.zeros((len(table), 2), np.int32)
        pool = self._pool
        while True:
            last_vertex, last_face = placing.place(
                table, planes, pool.spans, pool.vertices, pool.normals, pool.uv, pool.colours, pool.faces, pool.surface,
                pool.tint, self._vertices, self._normals, self._uv, self._colours, self._faces, self._surface,
                self._vertex_count,
                self._face_count, placed,
            )  # fmt: skip
            if last_vertex >= 0:
                self._last_vertex = int(last_vertex)
                return int(last_face), placed
            self._grow(2 * (len(self._vertices) - self._vertex_count), 2 * (len(self._faces) - self._face_count))

    def _update_shadows(
        self, light: Light, table: NDArray[np.float32], placed: NDArray[np.int32], eye: NDArray[np.float32]
    ) -> tuple[float, float]:
        """Bring the shadow map up to date; returns how far a shadow drifts per metre of height."""
        drift = (light.sun[0] / light.sun[2], light.sun[1] / light.sun[2])
        if sum(light.sun_colour) < 0.02:
            return drift
        where = (np.float32(drift[0]), np.float32(drift[1]), self._origin[0], self._origin[1], np.float32(self._cell))
        if self._shadow_sun != light.sun:
            self._shadow_base.fill(shadows.NOTHING)
            shadows.cast_shadows(self._vertices, self._casters, 0, len(self._casters), *where, self._shadow_base)
            self._shadow[...] = self._shadow_base
            self._shadow_sun, self._dirty = light.sun, np.zeros((0, 4), np.int32)
        self._dirty = shadows.actor_shadows(
            self._vertices, self._faces, placed, table, eye, np.float32(_SHADOW_RANGE), *where, self._shadow_base, self._shadow,
            self._dirty,
        )  # fmt: skip
        return drift


def _longer(array: NDArray[_Number], static: int, extra: int) -> NDArray[_Number]:
    """The first `static` rows of an array [n, m], and `extra` empty ones behind them."""
    return np.concatenate([array[:static], np.zeros((extra, array.shape[1]), array.dtype)])
