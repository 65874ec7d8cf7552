"""Triangle meshes: the arrays that the rasteriser draws, and a builder for boxes, cylinders, blobs and flat polygons.

UE axes (x forward, y right, z up). Every face is turned so that it is front-facing from the side its normal points to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

Floats = NDArray[np.float64]
UNLIT = 0  # lamp number of a face that gives no light
ALWAYS, NEAR_ONLY, FAR_ONLY = 0, 1, 2  # whether a face is drawn close to the camera, far from it, or both


@dataclass(frozen=True)
class Mesh:
    """Triangles with per-vertex shading inputs and per-face facts."""

    vertices: NDArray[np.float32]  # [V, 3] metres
    normals: NDArray[np.float32]  # [V, 3]
    uv: NDArray[np.float32]  # [V, 2] texture repeats
    colours: NDArray[np.float32]  # [V, 3] multiplies the texture, 1 = as painted
    faces: NDArray[np.int32]  # [F, 3] vertex numbers
    surface: NDArray[np.int32]  # [F, 4] texture layer, semantic tag, instance, lamp
    detail: NDArray[np.uint8]  # [F] ALWAYS, NEAR_ONLY or FAR_ONLY

    @property
    def tags(self) -> NDArray[np.int32]:
        """[F] semantic tag of every face."""
        return self.surface[:, 1]


@dataclass(frozen=True)
class Paint:
    """How a surface looks and what it is."""

    layer: int  # texture layer
    tag: int  # CARLA semantic tag
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    instance: int = 0
    lamp: int = UNLIT

    def tinted(self, colour: Sequence[float] | Floats) -> "Paint":
        """The same surface in another colour."""
        return Paint(self.layer, self.tag, (float(colour[0]), float(colour[1]), float(colour[2])), self.instance, self.lamp)


@dataclass(frozen=True)
class Pose:
    """Where a local shape stands: position [m] and heading [rad, clockwise seen from above]."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def place(self, points: Floats) -> Floats:
        """[n, 3] local points in the world."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        x, y = points[:, 0], points[:, 1]
        return np.stack([c * x - s * y + self.x, s * x + c * y + self.y, points[:, 2] + self.z], 1)

    def turn(self, vectors: Floats) -> Floats:
        """[n, 3] local directions in the world."""
        return Pose(yaw=self.yaw).place(vectors)


HERE = Pose()


def _cross(a: Floats, b: Floats) -> Floats:
    """Cross products [..., 3]; `np.cross` takes three times as long for a few vectors, and a town is made of such."""
    out = np.empty(a.shape)
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out


@dataclass
class MeshBuilder:
    """Collects shapes; `build()` joins them. What is added while `detail` is NEAR_ONLY or FAR_ONLY is drawn only there."""

    detail: int = ALWAYS
    _parts: list[tuple[Floats, Floats, Floats, Floats, NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]] = field(
        default_factory=list
    )
    _count: int = 0

    def add(
        self, points: ArrayLike, faces: ArrayLike, normals: ArrayLike, uv: ArrayLike, paint: Paint, tint: ArrayLike = 1.0
    ) -> None:
        """World points [n, 3], faces [m, 3], normals [n, 3] or [3], uv [n, 2]; `tint` scales the paint's colour per vertex."""
        p = np.asarray(points, np.float64)
        f = np.asarray(faces, np.int32).reshape(-1, 3).copy()
        n = np.broadcast_to(np.asarray(normals, np.float64), p.shape)
        a, b, c = p[f[:, 0]], p[f[:, 1]], p[f[:, 2]]
        away = np.einsum("ij,ij->i", _cross(b - a, c - a), n[f].sum(1)) < 0
        f[away] = f[away][:, ::-1]
        colour = np.asarray(paint.colour) * np.broadcast_to(np.asarray(tint, np.float64), p.shape)
        facts = np.broadcast_to(np.array([paint.layer, paint.tag, paint.instance, paint.lamp], np.int32), (len(f), 4))
        self._parts.append(
            (
                p,
                n,
                np.asarray(uv, np.float64).reshape(-1, 2),
                colour,
                f + self._count,
                facts,
                np.full(len(f), self.detail, np.uint8),
            )
        )
        self._count += len(p)

    def quad(
        self, points: ArrayLike, normal: ArrayLike, paint: Paint, uv: ArrayLike = ((0, 0), (1, 0), (1, 1), (0, 1))
    ) -> None:
        """A flat four-sided face, corners in order round it."""
        self.add(points, ((0, 1, 2), (0, 2, 3)), normal, uv, paint)

    def box(
        self, low: Sequence[float], high: Sequence[float], paint: Paint, at: Pose = HERE, *, repeat: float = 0.25,
        taper: tuple[float, float] = (1.0, 1.0), top: Paint | None = None, floor: bool = False, shift: float = 0.0,
        walls: bool = True,
    ) -> None:  # fmt: skip
        """A box between two local corners.

        `taper` shrinks its top in x and y, `shift` moves the top in x; `repeat` is texture repeats per metre.
        """
        (x0, y0, z0), (x1, y1, z1) = low, high
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        base = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        roof = (base - (cx, cy)) * taper + (cx + shift, cy)
        lift = np.array([0.0, 0.0, 0.0, 0.0])
        bottom3, top3 = np.column_stack([base, lift + z0]), np.column_stack([roof, lift + z1])
        if walls:
            corners, normals, uv = [], [], []
            for i in range(4):
                j = (i + 1) % 4
                side = base[j] - base[i]
                length = float(np.hypot(*side))
                up = (top3[i] + top3[j] - bottom3[i] - bottom3[j]) / 2
                normal = _cross(np.array([side[0], side[1], 0.0]), up)
                corners += [bottom3[i], bottom3[j], top3[j], top3[i]]
                normals += [normal / max(float(np.linalg.norm(normal)), 1e-9)] * 4
                u, v = length * repeat, (z1 - z0) * repeat
                uv += [(0, 0), (u, 0), (u, v), (0, v)]
            faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(4)])
            self.add(at.place(np.array(corners)), faces, at.turn(np.array(normals)), uv, paint)
        flat_uv = np.array([[0, 0], [x1 - x0, 0], [x1 - x0, y1 - y0], [0, y1 - y0]]) * repeat
        self.quad(at.place(top3), (0, 0, 1), top or paint, flat_uv)
        if floor:
            self.quad(at.place(bottom3), (0, 0, -1), paint, flat_uv)

    def cylinder(
        self, radius: float, z0: float, z1: float, paint: Paint, at: Pose = HERE, *, sides: int = 6,
        end_radius: float | None = None, axis: str = "z", caps: bool = True, lean: float = 0.0,
    ) -> None:  # fmt: skip
        """A cylinder or cone along local z (or y, lying), from `z0` to `z1`; `lean` moves its far end in x."""
        angles = np.arange(sides) * 2 * math.pi / sides
        c, s = np.cos(angles), np.sin(angles)
        end = radius if end_radius is None else end_radius
        near = np.stack([radius * c, radius * s, np.full(sides, z0)], 1)
        far = np.stack([end * c + lean, end * s, np.full(sides, z1)], 1)
        points, normals = np.concatenate([near, far]), np.tile(np.stack([c, s, 0 * c], 1), (2, 1))
        around = np.arange(sides)
        after = (around + 1) % sides
        faces = [np.stack([around, after, sides + after], 1), np.stack([around, sides + after, sides + around], 1)]
        turns = angles / math.pi
        uv = np.concatenate([np.stack([turns, 0 * turns], 1), np.stack([turns, 0 * turns + (z1 - z0)], 1)])
        if axis == "y":  # (x, y, z) -> (x, z, y): lying across
            points, normals = points[:, [0, 2, 1]], normals[:, [0, 2, 1]]
        self.add(at.place(points), np.concatenate(faces), at.turn(normals), uv, paint)
        if caps:
            fan = np.array([[0, i, i + 1] for i in range(1, sides - 1)])
            for ring, sign in ((near, -1.0), (far, 1.0)):
                lid = ring[:, [0, 2, 1]] if axis == "y" else ring
                normal = np.array([[0.0, sign, 0.0]]) if axis == "y" else np.array([[0.0, 0.0, sign]])
                self.add(at.place(lid), fan, at.turn(normal)[0], uv[:sides], paint)

    def disc(self, radius: float, paint: Paint, at: Pose, *, sides: int = 10, corner: float = 0.0) -> None:
        """A flat regular polygon facing local -x, its centre at `at`, one corner `corner` radians off the right."""
        angles = corner + np.arange(sides) * 2 * math.pi / sides
        points = np.stack([0 * angles, np.cos(angles) * radius, np.sin(angles) * radius], 1)
        fan = [[0, i, i + 1] for i in range(1, sides - 1)]
        uv = np.stack([0.5 + 0.5 * np.cos(angles), 0.5 + 0.5 * np.sin(angles)], 1)
        self.add(at.place(points), fan, at.turn(np.array([[-1.0, 0, 0]]))[0], uv, paint)

    def blob(
        self, radii: Sequence[float], paint: Paint, at: Pose, rng: np.random.Generator | None = None, detail: int = 1
    ) -> None:
        """An uneven ball (a tree's crown, a head)."""
        unit, faces = icosphere(detail)
        bumps = 1.0 if rng is None else 1 + rng.uniform(-0.2, 0.2, (len(unit), 1))
        # Foliage is darker below and inside: the tint stands in for the light that leaves take from each other.
        tint = 0.78 + 0.22 * unit[:, 2:3] if rng is not None else 1.0
        self.add(at.place(unit * bumps * np.asarray(radii)), faces, at.turn(unit), unit[:, [0, 2]] * 1.2, paint, tint)

    def flat(
        self, shape: BaseGeometry, heights: Floats | float, paint: Paint, repeat: float, tint: Floats | None = None
    ) -> None:
        """A flat polygon (triangulated). `heights` and `tint` may be functions' values per vertex; see `triangles`."""
        corners = triangles(shape)
        if len(corners) == 0:
            return
        xy = corners.reshape(-1, 2)
        points = np.column_stack([xy, np.broadcast_to(heights, len(xy))])
        faces = np.arange(len(points)).reshape(-1, 3)
        self.add(points, faces, (0, 0, 1), xy * repeat, paint, 1.0 if tint is None else tint)

    def build(self) -> Mesh:
        """Everything added so far."""
        if not self._parts:
            raise ValueError("an empty mesh: add a shape first")
        points, normals, uv, colours, faces, facts, detail = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        return Mesh(
            points.astype(np.float32), normals.astype(np.float32), uv.astype(np.float32), colours.astype(np.float32),
            faces.astype(np.int32), facts.astype(np.int32), detail.astype(np.uint8),
        )  # fmt: skip


def triangles(shape: BaseGeometry) -> Floats:
    """[n, 3, 2] triangles that cover a polygon exactly (constrained Delaunay, holes respected)."""
    if shape.is_empty or shape.area < 1e-6:
        return np.zeros((0, 3, 2))
    parts = shapely.get_parts(shapely.constrained_delaunay_triangles(shape))
    if len(parts) == 0:
        return np.zeros((0, 3, 2))
    coordinates = shapely.get_coordinates(parts).reshape(-1, 4, 2)
    result: Floats = coordinates[:, :3]
    return result


def tiles(shape: BaseGeometry, size: float) -> list[Polygon]:
    """A polygon cut along a grid of `size` metres: small pieces cull well and interpolate tints well."""
    x0, y0, x1, y1 = shape.bounds
    columns = np.arange(math.floor(x0 / size), math.ceil(x1 / size)) * size
    rows = np.arange(math.floor(y0 / size), math.ceil(y1 / size)) * size
    shapely.prepare(shape)
    corner_x, corner_y = (grid.ravel() for grid in np.meshgrid(columns, rows))
    cells = shapely.box(corner_x, corner_y, corner_x + size, corner_y + size)
    cells = cells[shapely.intersects(shape, cells)]
    inside = shapely.contains_properly(shape, cells)
    cut = shapely.intersection(shape, cells[~inside])
    pieces = shapely.get_parts(shapely.get_parts(cut))
    return [piece for piece in [*cells[inside], *pieces] if piece.geom_type == "Polygon" and piece.area > 1e-3]


@cache
def icosphere(detail: int) -> tuple[Floats, NDArray[np.int32]]:
    """A unit ball of 20 * 4**detail triangles."""
    g = (1 + math.sqrt(5)) / 2
    corners = [
        (-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g),
        (0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1),
    ]  # fmt: skip
    faces = [
        (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8),
        (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1),
    ]  # fmt: skip
    points = [np.array(corner, np.float64) / math.hypot(1, g) for corner in corners]
    for _ in range(detail):
        middles: dict[tuple[int, int], int] = {}
        finer = []
        for a, b, c in faces:
            ids = []
            for p, q in ((a, b), (b, c), (c, a)):
                key = (min(p, q), max(p, q))
                if key not in middles:
                    middle = points[p] + points[q]
                    points.append(middle / np.linalg.norm(middle))
                    middles[key] = len(points) - 1
                ids.append(middles[key])
            x, y, z = ids
            finer += [(a, x, z), (b, y, x), (c, z, y), (x, y, z)]
        faces = finer
    return np.array(points), np.array(faces, np.int32)
