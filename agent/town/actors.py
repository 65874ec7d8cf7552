"""Meshes of everything that moves: cars, vans, trucks, buses, two-wheelers with riders, walkers and props.

Origin on the ground in the middle of the box, front towards +x. The instance column of these meshes is not an instance but
which of the actor's colours the face takes (`OWN`, `FIRST`, `SECOND`), and the lamp column says which lamp a face is.
"""

import math
from functools import lru_cache

import numpy as np

from roadworthy.agent.town.mesh import Mesh, MeshBuilder, Paint, Pose
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import Layer

OWN, FIRST, SECOND = 0, 1, 2  # colour as painted, tinted with the actor's colour, tinted with its second colour
NO_LAMP, HEADLAMP, TAIL_LAMP, LEFT_BLINKER, RIGHT_BLINKER, REVERSE_LAMP = range(6)
LAMPS_PER_ACTOR = 6
WALK_PHASES = 8  # poses of one stride: phase k is k / 8 of it
MESH_KINDS = ("car", "van", "truck", "bus", "motorcycle", "bicycle", "walker", "prop")
_GLASS = (0.13, 0.15, 0.18)
_RUBBER = (0.06, 0.06, 0.065)
_SKIN = (0.78, 0.58, 0.46)


@lru_cache(maxsize=512)
def actor_mesh(base_type: str, length: float, width: float, height: float, phase: int = 0) -> Mesh:
    """The mesh of an actor of these outer sizes [m]. `phase` (0 to WALK_PHASES - 1) is the walker's or cyclist's stride.

    Raises ValueError for an unknown `base_type` (known: MESH_KINDS).
    """
    builder = MeshBuilder()
    if base_type == "car":
        _car(builder, length, width, height)
    elif base_type == "van":
        _van(builder, length, width, height, Tag.CAR)
    elif base_type == "truck":
        _truck(builder, length, width, height)
    elif base_type == "bus":
        _bus(builder, length, width, height)
    elif base_type in ("motorcycle", "bicycle"):
        _two_wheeler(builder, length, width, height, base_type == "motorcycle", phase)
    elif base_type == "walker":
        _person(builder, height, phase)
    elif base_type == "prop":
        _prop(builder, length, width, height)
    else:
        raise ValueError(f"unknown base_type {base_type!r}; known: {', '.join(MESH_KINDS)}")
    return builder.build()


def _paint(tag: Tag, colour: tuple[float, float, float] = (1.0, 1.0, 1.0), which: int = OWN, lamp: int = NO_LAMP) -> Paint:
    return Paint(Layer.PLAIN, tag, colour, which, lamp)


def _wheels(builder: MeshBuilder, tag: Tag, length: float, width: float, radius: float, axles: tuple[float, ...]) -> None:
    """Wheels at `axles` (fractions of the length from the middle)."""
    for axle in axles:
        for side in (-1, 1):
            inner, outer = sorted((side * (width / 2 - 0.22), side * (width / 2 + 0.005)))
            at = Pose(axle * length, 0.0, radius)
            builder.cylinder(radius, inner, outer, _paint(tag, _RUBBER), at, sides=9, axis="y", caps=False)
            for share, colour in ((1.0, _RUBBER), (0.62, (0.5, 0.5, 0.52))):
                rim = np.arange(9) * 2 * math.pi / 9
                y = side * (width / 2 + 0.006 + 0.004 * (share < 1))
                points = np.stack(
                    [axle * length + radius * share * np.cos(rim), 0 * rim + y, radius + radius * share * np.sin(rim)], 1
                )
                fan = [[0, i, i + 1] for i in range(1, 8)]
                builder.add(points, fan, (0.0, float(side), 0.0), np.zeros((9, 2)), _paint(tag, colour))


def _lights(builder: MeshBuilder, tag: Tag, length: float, width: float, z: float, size: tuple[float, float]) -> None:
    """Head and tail lamps, blinkers, and number plates on flat ends at local x = +-length / 2."""
    half_w, half_h = size[0] / 2, size[1] / 2
    for end, lamp, colour in ((1, HEADLAMP, (0.95, 0.93, 0.85)), (-1, TAIL_LAMP, (0.75, 0.06, 0.05))):
        x = end * (length / 2 + 0.008)
        for side in (-1, 1):
            y = side * (width / 2 - half_w - 0.06)
            _plate(builder, _paint(tag, colour, OWN, lamp), x, y, z, half_w, half_h, end)
            blinker = LEFT_BLINKER if side < 0 else RIGHT_BLINKER
            _plate(builder, _paint(tag, (0.85, 0.45, 0.08), OWN, blinker), x, y, z - half_h - 0.05, half_w * 0.8, 0.035, end)
        _plate(builder, _paint(tag, (0.88, 0.88, 0.80)), x, 0.0, z - 0.2, 0.26, 0.06, end)
    _plate(
        builder,
        _paint(tag, (0.8, 0.8, 0.8), OWN, REVERSE_LAMP),
        -length / 2 - 0.008,
        width / 2 - size[0] - 0.16,
        z,
        0.06,
        half_h,
        -1,
    )


def _plate(builder: MeshBuilder, paint: Paint, x: float, y: float, z: float, half_w: float, half_h: float, end: int) -> None:
    corners = [
        [x, y - half_w, z - half_h],
        [x, y + half_w, z - half_h],
        [x, y + half_w, z + half_h],
        [x, y - half_w, z + half_h],
    ]
    builder.quad(corners, (float(end), 0.0, 0.0), paint)


def _seam(builder: MeshBuilder, paint: Paint, x: float, y: float, low: float, high: float) -> None:
    """A door's upright gap on the side of a car."""
    corners = [[x, y, low], [x + 0.02, y, low], [x + 0.02, y, high], [x, y, high]]
    builder.quad(corners, (0.0, 1.0 if y > 0 else -1.0, 0.0), paint)


def _car(builder: MeshBuilder, length: float, width: float, height: float) -> None:
    body, dark = _paint(Tag.CAR, which=FIRST), _paint(Tag.CAR, (0.10, 0.10, 0.11))
    glass = _paint(Tag.CAR, _GLASS)
    long, wide = length / 2, width / 2
    sill, belt = 0.19 * height, 0.60 * height
    builder.box((-long, -wide, sill), (long, wide, 0.42 * height), body, floor=True)
    builder.box((-long, -wide, 0.42 * height), (long, wide, belt), body, taper=(0.97, 0.93))
    builder.box((-long - 0.004, -wide + 0.02, sill), (long + 0.004, wide - 0.02, sill + 0.12), dark)
    # The cabin sits behind the middle; its glass leans, its roof is painted, and pillars divide the side windows.
    front, back = 0.24 * length, -0.43 * length
    lean = -0.02 * length
    builder.box((back, -wide * 0.92, belt), (front, wide * 0.92, height), glass, top=body, taper=(0.66, 0.80), shift=lean)
    middle = (front + back) / 2
    builder.box(
        (middle - 0.05, -wide * 0.925, belt), (middle + 0.05, wide * 0.925, height - 0.02), body, taper=(1.0, 0.80), shift=-0.01
    )
    for side in (-1, 1):
        y = side * (wide + 0.07)
        builder.box((front - 0.28, y - 0.08, belt - 0.02), (front - 0.13, y + 0.08, belt + 0.13), body, floor=True)
        for x in (-0.02 * length, 0.24 * length):
            _seam(builder, dark, x, side * (wide + 0.003), sill + 0.05, 0.42 * height)
    _wheels(builder, Tag.CAR, length, width, min(0.34, 0.24 * height), (-0.30, 0.31))
    _lights(builder, Tag.CAR, length, width, 0.40 * height, (0.36, 0.14))


def _van(builder: MeshBuilder, length: float, width: float, height: float, tag: Tag) -> None:
    body, glass, dark = _paint(tag, which=FIRST), _paint(tag, _GLASS), _paint(tag, (0.12, 0.12, 0.13))
    long, wide = length / 2, width / 2
    belt = 0.52 * height
    builder.box((-long, -wide, 0.16 * height), (long, wide, belt), body, floor=True)
    builder.box((-long, -wide, 0.16 * height), (long, wide, 0.22 * height), dark)
    builder.box((-long, -wide, belt), (0.36 * length, wide, height), body, taper=(0.94, 0.92), shift=-0.02 * length)
    for side in (-1, 1):
        for x0, x1 in ((0.10, 0.30), (-0.16, 0.05), (-0.42, -0.21)):
            y0, y1 = side * (wide + 0.004), side * (wide * 0.945 + 0.004)
            points = [
                [x0 * length, y0, belt + 0.04],
                [x1 * length, y0, belt + 0.04],
                [x1 * length, y1, 0.88 * height],
                [x0 * length, y1, 0.88 * height],
            ]
            builder.quad(points, (0.0, float(side), 0.1), glass)
    rise = 0.06 * (long + 0.36 * length) / 2
    low, high = 0.365 * length, 0.35 * length - rise
    points = [[low, -wide * 0.9, belt + 0.05], [low, wide * 0.9, belt + 0.05]]
    points += [[high, wide * 0.84, 0.92 * height], [high, -wide * 0.84, 0.92 * height]]
    builder.quad(points, (1.0, 0.0, 0.2), glass)
    _plate(builder, glass, -long - 0.004, 0.0, 0.7 * height, wide * 0.7, 0.14 * height, -1)
    _wheels(builder, tag, length, width, min(0.38, 0.2 * height), (-0.31, 0.32))
    _lights(builder, tag, length, width, 0.36 * height, (0.32, 0.18))


def _truck(builder: MeshBuilder, length: float, width: float, height: float) -> None:
    tag = Tag.TRUCK
    cab, load = _paint(tag, which=FIRST), _paint(tag, which=SECOND)
    glass, dark = _paint(tag, _GLASS), _paint(tag, (0.12, 0.12, 0.13))
    long, wide = length / 2, width / 2
    nose = long - min(2.1, 0.28 * length)
    builder.box((-long, -wide * 0.7, 0.5), (long - 0.2, wide * 0.7, 0.85), dark, floor=True)
    builder.box(
        (-long, -wide, 0.85), (nose - 0.15, wide, height), Paint(Layer.METAL, tag, (1, 1, 1), SECOND), floor=True, repeat=0.4
    )
    builder.box((nose, -wide * 0.97, 0.45), (long, wide * 0.97, 0.8 * height), cab, taper=(0.9, 0.95), shift=-0.05, floor=True)
    builder.box((-long + 0.1, -wide - 0.01, 0.55), (nose - 0.3, wide + 0.01, 0.8), load.tinted((0.4, 0.4, 0.4)))
    x = long - 0.07
    points = [
        [x, -wide * 0.85, 0.46 * height],
        [x, wide * 0.85, 0.46 * height],
        [x - 0.08, wide * 0.82, 0.72 * height],
        [x - 0.08, -wide * 0.82, 0.72 * height],
    ]
    builder.quad(points, (1.0, 0.0, 0.1), glass)
    for side in (-1, 1):
        y = side * (wide * 0.965)
        points = [
            [nose + 0.5, y, 0.47 * height],
            [long - 0.35, y, 0.47 * height],
            [long - 0.4, y, 0.7 * height],
            [nose + 0.5, y, 0.7 * height],
        ]
        builder.quad(points, (0.0, float(side), 0.0), glass)
    _wheels(builder, tag, length, width, 0.48, (-0.34, -0.20, 0.36) if length > 7 else (-0.30, 0.33))
    _lights(builder, tag, length, width, 0.75, (0.3, 0.2))


def _bus(builder: MeshBuilder, length: float, width: float, height: float) -> None:
    tag = Tag.BUS
    body, glass = _paint(tag, which=FIRST), _paint(tag, _GLASS)
    long, wide = length / 2, width / 2
    builder.box((-long, -wide, 0.35), (long, wide, height), body, floor=True, taper=(1.0, 0.97))
    builder.box((-long - 0.002, -wide - 0.004, 0.35), (long + 0.002, wide + 0.004, 0.75), _paint(tag, which=SECOND))
    low, high = 0.46 * height, 0.82 * height
    windows = max(3, int(length / 1.7))
    for side in (-1, 1):
        for k in range(windows):
            x0 = -long + 0.3 + k * (length - 0.5) / windows
            x1 = x0 + (length - 0.5) / windows - 0.16
            y = side * (wide + 0.006)
            builder.quad(
                [[x0, y, low], [x1, y, low], [x1, y * 0.99, high], [x0, y * 0.99, high]], (0.0, float(side), 0.0), glass
            )
    _plate(builder, glass, long + 0.006, 0.0, 0.62 * height, wide * 0.9, 0.2 * height, 1)
    _plate(builder, glass, -long - 0.006, 0.0, 0.66 * height, wide * 0.8, 0.14 * height, -1)
    _wheels(builder, tag, length, width, 0.48, (-0.28, 0.33))
    _lights(builder, tag, length, width, 0.85, (0.34, 0.2))


def _two_wheeler(builder: MeshBuilder, length: float, width: float, height: float, motor: bool, phase: int) -> None:
    tag = Tag.MOTORCYCLE if motor else Tag.BICYCLE
    frame, rubber = _paint(tag, which=FIRST), _paint(tag, _RUBBER)
    radius = 0.31 if motor else 0.34
    thick = 0.07 if motor else 0.025
    base = length / 2 - radius
    for x in (-base, base):
        builder.cylinder(radius, -thick, thick, rubber, Pose(x, 0.0, radius), sides=10, axis="y")
        builder.cylinder(
            radius * 0.55, -thick - 0.01, thick + 0.01, _paint(tag, (0.5, 0.5, 0.5)), Pose(x, 0.0, radius), sides=8, axis="y"
        )
    seat = 0.80 if motor else 0.92
    if motor:
        builder.box((-0.55, -0.16, 0.35), (0.5, 0.16, 0.68), frame.tinted((0.35, 0.35, 0.36)), floor=True)
        builder.box((-0.05, -0.17, 0.66), (0.48, 0.17, 0.95), frame, taper=(0.8, 0.7), floor=True)
        builder.box((-0.8, -0.15, 0.66), (0.0, 0.15, seat), _paint(tag, (0.08, 0.08, 0.09)), floor=True)
        _plate(builder, _paint(tag, (0.95, 0.93, 0.85), OWN, HEADLAMP), base + 0.02, 0.0, 0.85, 0.12, 0.1, 1)
        _plate(builder, _paint(tag, (0.75, 0.06, 0.05), OWN, TAIL_LAMP), -0.82, 0.0, 0.74, 0.12, 0.06, -1)
        builder.box((base - 0.1, -0.06, radius), (base + 0.02, 0.06, 1.0), frame, floor=True, taper=(1, 1), shift=-0.2)
    else:
        for x0, x1, z0, z1 in ((-base, -0.1, radius, 0.86), (-0.1, 0.35, 0.45, 0.88), (0.3, base, 0.9, radius)):
            along = math.hypot(x1 - x0, z1 - z0)
            nx, nz = -(z1 - z0) / along * 0.03, (x1 - x0) / along * 0.03
            for side in (-1, 1):
                y = side * 0.025
                points = [[x0 - nx, y, z0 - nz], [x1 - nx, y, z1 - nz], [x1 + nx, y, z1 + nz], [x0 + nx, y, z0 + nz]]
                builder.quad(points, (0.0, float(side), 0.0), frame)
        builder.box((-0.28, -0.09, 0.88), (0.0, 0.09, seat), _paint(tag, (0.08, 0.08, 0.09)), floor=True)
    handle = base - (0.35 if motor else 0.28)
    builder.box((handle - 0.03, -width / 2, 1.0), (handle + 0.03, width / 2, 1.05), _paint(tag, (0.15, 0.15, 0.15)), floor=True)
    _rider(builder, seat, max(height, seat + 0.75), handle, motor, phase)


def _rider(builder: MeshBuilder, seat: float, top: float, handle: float, motor: bool, phase: int) -> None:
    tag = Tag.RIDER
    shirt, trousers, skin = _paint(tag, which=SECOND), _paint(tag, (0.22, 0.24, 0.30)), _paint(tag, _SKIN)
    hip, shoulder = (-0.22, seat), (0.02, top - 0.32)
    builder.cylinder(
        0.15, hip[1], shoulder[1] + 0.08, shirt, Pose(hip[0], 0.0), sides=7, end_radius=0.19, lean=shoulder[0] - hip[0]
    )
    head = Pose(shoulder[0] + 0.06, 0.0, top - 0.14)
    builder.blob((0.13, 0.12, 0.15), _paint(tag, which=FIRST) if motor else skin, head, detail=1)
    for side in (-1, 1):
        turn = math.sin(2 * math.pi * phase / WALK_PHASES) * side * (0.0 if motor else 0.13)
        foot = (0.05, 0.36 + turn)
        knee = (0.2, seat - 0.12 + turn * 0.6)
        for (x0, z0), (x1, z1) in ((hip, knee), (knee, foot)):
            builder.cylinder(0.075, z1, z0, trousers, Pose(x1, side * 0.13), sides=5, lean=x0 - x1, caps=False)
        builder.cylinder(
            0.05, 1.02, shoulder[1], shirt, Pose(handle - 0.03, side * 0.24), sides=5, lean=shoulder[0] - handle, caps=False
        )


def _person(builder: MeshBuilder, height: float, phase: int) -> None:
    """A walker; the stride swings legs and arms against each other."""
    tag = Tag.PEDESTRIANS
    shirt, trousers, skin = _paint(tag, which=FIRST), _paint(tag, which=SECOND), _paint(tag, _SKIN)
    scale = height / 1.78
    swing = math.sin(2 * math.pi * phase / WALK_PHASES)
    builder.cylinder(0.17 * scale, 0.84 * scale, 1.46 * scale, shirt, sides=8, end_radius=0.21 * scale)
    builder.cylinder(0.06 * scale, 1.45 * scale, 1.55 * scale, skin, sides=5, caps=False)
    builder.blob((0.105 * scale, 0.095 * scale, 0.13 * scale), skin, Pose(0.01, 0.0, 1.65 * scale), detail=1)
    builder.blob(
        (0.112 * scale, 0.105 * scale, 0.10 * scale), _paint(tag, (0.16, 0.11, 0.08)), Pose(-0.02, 0.0, 1.70 * scale), detail=0
    )
    for side in (-1, 1):
        stride = 0.30 * swing * side * scale
        builder.cylinder(
            0.07 * scale,
            0.06,
            0.88 * scale,
            trousers,
            Pose(stride, side * 0.09 * scale),
            sides=5,
            lean=-stride,
            end_radius=0.095 * scale,
            caps=False,
        )
        foot = stride
        builder.box(
            (foot - 0.08, side * 0.09 * scale - 0.05, 0.0),
            (foot + 0.17, side * 0.09 * scale + 0.05, 0.09),
            _paint(tag, (0.1, 0.09, 0.08)),
        )
        reach = -0.24 * swing * side * scale
        arm = Pose(reach, side * 0.26 * scale)
        builder.cylinder(0.045 * scale, 0.82 * scale, 1.43 * scale, shirt, arm, sides=5, lean=-reach, caps=False)
        builder.blob((0.05, 0.045, 0.06), skin, Pose(reach * 1.05, side * 0.26 * scale, 0.78 * scale), detail=0)


def _prop(builder: MeshBuilder, length: float, width: float, height: float) -> None:
    """A crate of the given size (tag Static)."""
    paint = Paint(Layer.PLANKS, Tag.STATIC, (1.0, 1.0, 1.0), FIRST)
    builder.box((-length / 2, -width / 2, 0.0), (length / 2, width / 2, height), paint, repeat=0.8, floor=True)
