"""The software renderer: RGB, semantic tags, instances and depth of the town in one pass on one core.

A visibility buffer is filled tile by tile, then every pixel is shaded once (textures, sun with shadows, lamps, wet road, fog,
sensor noise). The same scene, camera, weather, frame number and seed give the same bytes on one machine.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town import kernels, shading, shadows
from roadworthy.agent.town.actors import (
    HEADLAMP,
    LAMPS_PER_ACTOR,
    LEFT_BLINKER,
    REVERSE_LAMP,
    RIGHT_BLINKER,
    TAIL_LAMP,
)
from roadworthy.agent.town.mesh_pool import MeshKey, MeshPool
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import Scenery
from roadworthy.agent.town.sky import Light, light_from_weather, light_vector
from roadworthy.agent.town.static_mesh import tile_mesh
from roadworthy.agent.town.street import NIGHT_LAMP
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import FACADE_FLOORS, LAYERS, SIZE, Layer, make_textures, noise

# Bits of CARLA's VehicleLightState.
LOW_BEAM, HIGH_BEAM, BRAKE, RIGHT, LEFT, REVERSE = 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
RED, YELLOW, GREEN, OFF = 0, 1, 2, 3  # CARLA's TrafficLightState
FAR = 420.0  # [m] nothing further is drawn
MAX_PIXELS = 1920 * 1080 * 4
_DETAIL_RANGE = 50.0  # [m] to a tile for its near-only faces
_SHADOW_CELL = 0.3  # [m]; larger for maps over 700 m across
_SHADOW_RANGE = 45.0  # [m] actors further from the camera cast no shadow
_LAMP_CELL = 1.0  # [m]
_MAX_BEAMS = 6  # vehicles whose headlamps light the scene
_UNSHADED = np.array([Tag.ROADS, Tag.SIDEWALKS, Tag.TERRAIN, Tag.ROAD_LINES])


@dataclass(frozen=True, slots=True)
class CameraPose:
    """A pinhole camera in UE axes (metres, degrees; pitch up, yaw clockwise, roll as CARLA's) and its picture."""

    x: float
    y: float
    z: float
    pitch: float
    yaw: float
    roll: float
    width: int  # [px]
    height: int  # [px]
    fov: float  # [deg] horizontal


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
        self._texels, self._level_offsets, self._level_sizes = _mip_levels()
        self._window_cells = np.ones(LAYERS, np.int32)
        self._window_cells[Layer.FACADE :] = FACADE_FLOORS
        self._signal_lamps = scenery.signal_lamps
        self._lamp_count = scenery.lamp_count
        self._pool = MeshPool()
        rng = np.random.default_rng(0)
        self._noise = rng.standard_normal(shading.NOISE_TABLE).astype(np.float32)
        self._clouds = (noise(rng, 5, 0.55, shading.CLOUD_SIZE)).astype(np.float32)
        x0, y0, x1, y1 = roads.bounds
        self._origin = (np.float32(x0), np.float32(y0))
        self._cell = max(_SHADOW_CELL, max(x1 - x0, y1 - y0) / 2400)
        shape = (int((y1 - y0) / self._cell) + 1, int((x1 - x0) / self._cell) + 1)
        self._shadow_base = np.full(shape, shadows.NOTHING, np.int16)
        self._shadow = self._shadow_base.copy()
        self._shadow_sun: tuple[float, float, float] | None = None
        self._dirty = np.zeros((0, 4), np.int32)  # cells of the shadow map that actors darkened in the last frame
        self._casters = np.ascontiguousarray(self._faces[: self._face_count][self._casting(tiled.surface)])
        self._lamp_map = _lamp_map(scenery, roads.bounds)
        self._buffers: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.int32]]] = {}
        self._light = lru_cache(maxsize=64)(light_from_weather)

    def _casting(self, surface: NDArray[np.int32]) -> NDArray[np.bool_]:
        casting: NDArray[np.bool_] = ~np.isin(surface[:, 1], _UNSHADED)
        return casting

    def _grow(self, more_vertices: int, more_faces: int) -> None:
        """Make room for actors behind the static arrays."""

        def longer(array: NDArray[np.generic], static: int, extra: int) -> NDArray[np.generic]:
            return np.concatenate([array[:static], np.zeros((extra, array.shape[1]), array.dtype)])

        self._vertices = longer(self._vertices, self._vertex_count, more_vertices)  # type: ignore[assignment]
        self._normals = longer(self._normals, self._vertex_count, more_vertices)  # type: ignore[assignment]
        self._uv = longer(self._uv, self._vertex_count, more_vertices)  # type: ignore[assignment]
        self._colours = longer(self._colours, self._vertex_count, more_vertices)  # type: ignore[assignment]
        self._faces = longer(self._faces, self._face_count, more_faces)  # type: ignore[assignment]
        self._surface = longer(self._surface, self._face_count, more_faces)  # type: ignore[assignment]
        self._points = np.zeros((self._vertex_count + more_vertices, 3), np.float32)

    def render(
        self, camera: CameraPose, actors: Sequence[ActorPose], weather: Sequence[float],
        traffic_lights: Mapping[str, int], frame: int = 0, seed: int = 0, hidden: int | None = None,
    ) -> Frame:  # fmt: skip
        """Draw one picture.

        `weather`: CARLA's 14 parameters; `traffic_lights`: signal id -> 0 red, 1 yellow, 2 green, 3 off (missing ones are off);
        `frame` and `seed` choose the noise, rain and the camera's jitter; the actor with the instance id `hidden` (a car with
        the camera inside) is not drawn, but its headlamps shine. Raises ValueError for an impossible camera.
        """
        width, height = _checked(camera)
        light = self._light(tuple(weather), seed)
        rng = np.random.default_rng([seed & 0xFFFFFFFF, frame & 0xFFFFFFFF])
        vector = light_vector(light, float(rng.normal(1.0, 0.015)), frame)
        noise_offset = int(rng.integers(shading.NOISE_TABLE))
        rain_seed = int(rng.integers(1 << 31))
        axes, eye, half_x, half_y = _camera_axes(camera)
        matrix, planes = _view(axes, eye, half_x, half_y)

        beams = _beams(actors, light, eye)
        if hidden is not None:
            actors = [actor for actor in actors if actor.instance_id != hidden]
        table = self._actor_table(actors)
        last_face, placed = self._place(table, _padded(planes))
        depth, ids = self._target(height, width)
        depth.fill(0.0)
        ids.fill(-1)
        kernels.draw_tiles(
            self._vertices, self._faces, self._spans, self._boxes, planes, matrix, eye, np.float32(_DETAIL_RANGE),
            np.float32(FAR), self._points, width, height, depth, ids,
        )  # fmt: skip
        kernels.project(self._vertices, self._vertex_count, self._last_vertex, matrix, self._points)
        kernels.draw(self._points, self._faces, self._face_count, last_face, np.float32(FAR), width, height, depth, ids)
        drift = self._update_shadows(light, table, placed, eye)
        levels = self._lamp_levels(light, actors, traffic_lights, frame)
        out = Frame(
            np.empty((height, width, 4), np.uint8), np.empty((height, width), np.uint8),
            np.empty((height, width), np.int32), np.empty((height, width), np.float32),
        )  # fmt: skip
        shading.shade(
            ids, depth, self._vertices, self._normals, self._uv, self._colours, self._faces, self._surface, levels,
            self._window_cells, int(Layer.FACADE), eye, axes, np.float32(half_x), np.float32(half_y), vector, self._texels,
            self._level_offsets, self._level_sizes, self._shadow, np.float32(drift[0]), np.float32(drift[1]),
            self._origin[0], self._origin[1],
            np.float32(self._cell), self._lamp_map, np.float32(_LAMP_CELL), beams, self._clouds, self._noise, noise_offset,
            out.bgra, out.tags, out.instance, out.depth,
        )  # fmt: skip
        if light.rain > 0.02:
            count = int(light.rain * width * height / 180)
            bright = 255.0 * (0.35 + 0.65 * light.ambient[1]) * light.exposure[1]
            slant = float(rng.normal(0.0, 0.15 + 0.3 * light.wind))
            shading.draw_rain(out.bgra, count, np.float32(min(bright, 230.0)), np.float32(slant), rain_seed)
        return out

    def _target(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        if (height, width) not in self._buffers:
            if len(self._buffers) > 8:
                self._buffers.clear()
            self._buffers[height, width] = (np.zeros((height, width), np.float32), np.zeros((height, width), np.int32))
        return self._buffers[height, width]

    def _actor_table(self, actors: Sequence[ActorPose]) -> NDArray[np.float32]:
        """float32 [n, ACTOR_COLUMNS] for the placing kernel."""
        rows = []
        turn = math.pi / 180.0
        for index, actor in enumerate(actors):
            number = self._pool.number(actor.mesh_key)
            second = _second_colour(actor.instance_id, actor.colour)
            lamp = self._lamp_count + LAMPS_PER_ACTOR * index
            rows.append(
                (number, actor.x, actor.y, actor.z, actor.yaw * turn, actor.pitch * turn, actor.roll * turn, *actor.colour,
                 *second, actor.instance_id, self._pool.radii[number], lamp)
            )  # fmt: skip
        self._pool.refresh()
        return np.array(rows, np.float32).reshape(-1, kernels.ACTOR_COLUMNS)

    def _place(self, table: NDArray[np.float32], planes: NDArray[np.float32]) -> tuple[int, NDArray[np.int32]]:
        placed = np.zeros((len(table), 2), np.int32)
        pool = self._pool
        while True:
            last_vertex, last_face = kernels.place(
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

    def _lamp_levels(
        self, light: Light, actors: Sequence[ActorPose], traffic_lights: Mapping[str, int], frame: int
    ) -> NDArray[np.float32]:
        levels = np.zeros(self._lamp_count + LAMPS_PER_ACTOR * len(actors), np.float32)
        levels[NIGHT_LAMP] = 1.3 * light.night
        for signal, first in self._signal_lamps.items():
            state = traffic_lights.get(signal, OFF)
            if RED <= state <= GREEN:
                levels[first + state] = 1.0
        blink = 1.0 if (frame // 5) % 2 == 0 else 0.0
        for index, actor in enumerate(actors):
            base, bits = self._lamp_count + LAMPS_PER_ACTOR * index, actor.lights
            headlamps = 1.2 if bits & (LOW_BEAM | HIGH_BEAM) else 1.2 * light.night
            if headlamps or bits:
                levels[base + HEADLAMP] = headlamps
                levels[base + TAIL_LAMP] = 1.1 if bits & BRAKE else 0.45 * (headlamps > 0.1)
                levels[base + LEFT_BLINKER] = blink if bits & LEFT else 0.0
                levels[base + RIGHT_BLINKER] = blink if bits & RIGHT else 0.0
                levels[base + REVERSE_LAMP] = 0.9 if bits & REVERSE else 0.0
        return levels


@lru_cache(maxsize=4096)
def _second_colour(instance: int, first: tuple[float, float, float]) -> tuple[float, float, float]:
    """A second colour (trousers, a lorry's load) that goes with an actor for life."""
    rng = np.random.default_rng([instance & 0xFFFFFFFF, *(int(255 * c) & 0xFF for c in first)])
    r, g, b = rng.uniform(0.1, 0.75) * rng.uniform(0.7, 1.2, 3)
    return float(r), float(g), float(b)


def _checked(camera: CameraPose) -> tuple[int, int]:
    numbers = (camera.x, camera.y, camera.z, camera.pitch, camera.yaw, camera.roll, camera.fov)
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"camera pose must be finite: {camera}")
    if camera.width < 1 or camera.height < 1 or camera.width * camera.height > MAX_PIXELS:
        raise ValueError(f"picture of {camera.width}x{camera.height}: expected 1x1 up to {MAX_PIXELS} pixels")
    if not 1.0 <= camera.fov <= 170.0:
        raise ValueError(f"field of view {camera.fov}: expected 1 to 170 degrees")
    return camera.width, camera.height


def _camera_axes(camera: CameraPose) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
    """Rows right, up, forward [3, 3]; the eye [3]; half the picture's width and height at distance 1."""
    cp, sp = math.cos(math.radians(camera.pitch)), math.sin(math.radians(camera.pitch))
    cy, sy = math.cos(math.radians(camera.yaw)), math.sin(math.radians(camera.yaw))
    cr, sr = math.cos(math.radians(camera.roll)), math.sin(math.radians(camera.roll))
    forward = (cp * cy, cp * sy, sp)
    right = (cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr)
    up = (-cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr)
    half_x = math.tan(math.radians(camera.fov) / 2)
    axes = np.array([right, up, forward], np.float32)
    return axes, np.array([camera.x, camera.y, camera.z], np.float32), half_x, half_x * camera.height / camera.width


def _view(
    axes: NDArray[np.float32], eye: NDArray[np.float32], half_x: float, half_y: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Projection [3, 4] to (x, y, w), and the four side planes [4, 4] with unit normals, positive inside."""
    r, u, f = axes.astype(np.float64)
    e = eye.astype(np.float64)
    rows = np.stack([r / half_x, u / half_y, f])
    matrix = np.column_stack([rows, -rows @ e])
    planes: list[NDArray[np.float64]] = []
    for row in (0, 1):
        for sign in (1.0, -1.0):
            plane = matrix[2] + sign * matrix[row]
            planes.append(plane / np.linalg.norm(plane[:3]))
    return matrix.astype(np.float32), np.array(planes, np.float32)


def _padded(planes: NDArray[np.float32], margin: float = 12.0) -> NDArray[np.float32]:
    """Planes moved outwards, so that actors just out of sight still cast their shadow into the picture."""
    wider = planes.copy()
    wider[:, 3] += margin
    return wider


@lru_cache(maxsize=1)
def _mip_levels() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All textures and their halved copies as one list of texels [T, 4], with each level's offset and size."""
    levels: list[NDArray[np.float32]] = [make_textures().astype(np.float32)]
    while levels[-1].shape[1] > 1:
        t = levels[-1]
        halved = t[:, ::2, ::2] + t[:, 1::2, ::2] + t[:, ::2, 1::2] + t[:, 1::2, 1::2]
        levels.append((halved / 4).astype(np.float32))
    sizes = np.array([t.shape[1] for t in levels], np.int64)
    if sizes[0] != SIZE:
        raise AssertionError(f"textures of {sizes[0]} px, expected {SIZE}")
    counts = [t.shape[0] * t.shape[1] ** 2 for t in levels]
    offsets = np.cumsum([0, *counts])[:-1].astype(np.int64)
    texels = np.concatenate([t.reshape(-1, 4) for t in levels])
    return (texels + 0.5).astype(np.uint8), offsets, sizes


def _lamp_map(scenery: Scenery, bounds: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """Light of all street lamps on the ground, float32 [rows, columns] of _LAMP_CELL metres."""
    x0, y0, x1, y1 = bounds
    out = np.zeros((int((y1 - y0) / _LAMP_CELL) + 2, int((x1 - x0) / _LAMP_CELL) + 2), np.float32)
    reach = 26
    for lamp in scenery.lamps:
        i, j = int((lamp.x - x0) / _LAMP_CELL), int((lamp.y - y0) / _LAMP_CELL)
        rows = slice(max(j - reach, 0), max(min(j + reach, out.shape[0]), 0))
        columns = slice(max(i - reach, 0), max(min(i + reach, out.shape[1]), 0))
        ys = np.arange(rows.start, rows.stop)[:, None] * _LAMP_CELL + y0 - lamp.y
        xs = np.arange(columns.start, columns.stop)[None] * _LAMP_CELL + x0 - lamp.x
        far = np.sqrt(xs**2 + ys**2)
        out[rows, columns] += 0.55 / (1 + (far / 6.0) ** 2) ** 1.5 * np.clip((reach - far) / 8, 0, 1)
    return out


def _beams(actors: Sequence[ActorPose], light: Light, eye: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n, 6] of the headlamps that light the scene: position, heading, strength; the nearest to the camera first."""
    found = []
    for actor in actors:
        if actor.mesh_key[0] in ("walker", "prop", "bicycle"):
            continue
        burning = 1.0 if actor.lights & (LOW_BEAM | HIGH_BEAM) else light.night
        strength = 1.8 * burning * (0.25 + 0.75 * light.night) * (1.6 if actor.lights & HIGH_BEAM else 1.0)
        distance = math.hypot(actor.x - eye[0], actor.y - eye[1])
        if strength > 0.02 and distance < 80.0:
            c, s = math.cos(math.radians(actor.yaw)), math.sin(math.radians(actor.yaw))
            reach = actor.mesh_key[1] / 2
            found.append((distance, actor.x + c * reach, actor.y + s * reach, actor.z + 0.65, c, s, strength))
    found.sort()
    return np.array([row[1:] for row in found[:_MAX_BEAMS]], np.float32).reshape(-1, 6)
