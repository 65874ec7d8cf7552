"""Street furniture: traffic lights, signs, street lamps, fences, walls, and small static things."""

import math
from dataclasses import dataclass

import numpy as np

from roadworthy.agent.town.mesh import ALWAYS, NEAR_ONLY, MeshBuilder, Paint, Pose
from roadworthy.agent.town.placement import Placement, rectangle
from roadworthy.agent.town.signals import Signal
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import SPEED_LIMITS, Layer

NIGHT_LAMP = 1  # lamp number of everything that burns at night
LAMP_COLOURS = ((1.0, 0.10, 0.08), (1.0, 0.72, 0.10), (0.12, 0.95, 0.40))  # red, yellow, green
_STEEL = ((0.36, 0.37, 0.36), (0.55, 0.56, 0.57), (0.25, 0.27, 0.26), (0.42, 0.40, 0.36))


@dataclass(frozen=True)
class StreetLamp:
    """A lamp that burns at night."""

    id: int
    x: float
    y: float
    z: float  # [m] of the bulb


def steel(rng: np.random.Generator, number: int) -> Paint:
    """A pole's paint."""
    colour = np.array(_STEEL[int(rng.integers(len(_STEEL)))]) * rng.uniform(0.8, 1.2)
    return Paint(Layer.METAL, Tag.POLES, instance=number).tinted(colour)


def add_traffic_light(
    builder: MeshBuilder, placement: Placement, signal: Signal, z: float, first_lamp: int, rng: np.random.Generator
) -> None:
    """A pole at the kerb with one head, and an arm with a second head where it commands more than one lane."""
    pose = Pose(signal.x, signal.y, z, math.radians(signal.yaw))
    placement.take(rectangle(pose, 0.3, 0.3))
    number = placement.record(Tag.TRAFFIC_LIGHT, "traffic_light", pose, (0.12, 0.12, 2.1))
    pole = steel(rng, number)
    lanes = [stop for stop in signal.stops if math.hypot(stop.x - signal.x, stop.y - signal.y) < 15]
    wide = len(lanes) > 1
    top = 5.6 if wide else 4.0
    builder.cylinder(0.10, -0.2, top, pole, pose, sides=6, end_radius=0.08)
    _head(builder, pose, -0.05, 0.0, 2.6, first_lamp, number)
    if wide:
        middle = np.mean([(stop.x - signal.x, stop.y - signal.y) for stop in lanes], axis=0)
        reach = float(-middle[0] * math.sin(pose.yaw) + middle[1] * math.cos(pose.yaw))  # local y of the lanes' middle
        low, high = min(reach, 0.0), max(reach, 0.0)
        builder.box((-0.06, low, top - 0.15), (0.06, high, top), pole, pose, floor=True)
        _head(builder, pose, -0.05, reach, top - 1.45, first_lamp, number)


def _head(builder: MeshBuilder, pose: Pose, x: float, y: float, z: float, first_lamp: int, number: int) -> None:
    """Three lamps in a dark box that looks towards local -x; red on top."""
    box = Paint(Layer.PLAIN, Tag.TRAFFIC_LIGHT, (0.07, 0.08, 0.07), number)
    builder.box((x - 0.26, y - 0.26, z), (x + 0.12, y + 0.26, z + 1.32), box, pose, floor=True)
    for k, colour in enumerate(LAMP_COLOURS):
        centre = pose.place(np.array([[x - 0.275, y, z + 1.08 - 0.42 * k]]))[0]
        lamp = Paint(Layer.PLAIN, Tag.TRAFFIC_LIGHT, colour, number, first_lamp + k)
        builder.disc(0.175, lamp, Pose(float(centre[0]), float(centre[1]), float(centre[2]), pose.yaw), sides=7)


def add_sign(builder: MeshBuilder, placement: Placement, signal: Signal, z: float, rng: np.random.Generator) -> None:
    """A stop, yield or speed sign on its pole."""
    pose = Pose(signal.x, signal.y, z, math.radians(signal.yaw))
    placement.take(rectangle(pose, 0.2, 0.2))
    number = placement.record(Tag.TRAFFIC_SIGNS, f"sign_{signal.kind}", pose, (0.05, 0.05, 1.3))
    builder.cylinder(0.04, -0.2, 2.75, steel(rng, number), pose, sides=4, caps=False)
    face = Paint(Layer.PLAIN, Tag.TRAFFIC_SIGNS, (1, 1, 1), number)

    def plate(out: float) -> Pose:
        spot = pose.place(np.array([[-out, 0.0, 2.4]]))[0]
        return Pose(float(spot[0]), float(spot[1]), float(spot[2]), pose.yaw)

    sides, corner, radius = 12, 0.0, 0.46
    if signal.kind == "stop":
        sides, corner, radius = 8, math.pi / 8, 0.52
        builder.disc(radius, Paint(Layer.STOP, Tag.TRAFFIC_SIGNS, instance=number), plate(0.06), sides=sides, corner=corner)
    elif signal.kind == "yield":
        sides, corner, radius = 3, -math.pi / 2, 0.62
        builder.disc(radius, face.tinted((0.78, 0.10, 0.10)), plate(0.06), sides=sides, corner=corner)
        builder.disc(0.37, face.tinted((0.9, 0.9, 0.9)), plate(0.075), sides=sides, corner=corner)
    elif signal.kind == "speed":
        nearest = int(np.argmin([abs(limit - signal.value) for limit in SPEED_LIMITS]))
        builder.disc(radius, Paint(Layer.SPEED + nearest, Tag.TRAFFIC_SIGNS, instance=number), plate(0.06), sides=sides)
    else:
        builder.disc(radius, face.tinted((0.12, 0.25, 0.65)), plate(0.06), sides=sides)
    back = plate(0.05)
    behind = Pose(back.x, back.y, back.z, back.yaw + math.pi)
    builder.disc(radius, face.tinted((0.45, 0.46, 0.47)), behind, sides=sides, corner=math.pi - corner)


def add_lamp(
    builder: MeshBuilder, placement: Placement, edge: Pose, reach: float, rng: np.random.Generator
) -> StreetLamp | None:
    """A street lamp at `edge` whose arm reaches `reach` metres towards local -y; None when the spot is taken."""
    if not placement.free(rectangle(edge, 0.3, 0.3), on_street=True):
        return None
    placement.take(rectangle(edge, 0.3, 0.3))
    height = float(rng.uniform(5.2, 7.0))
    number = placement.record(Tag.POLES, "street_lamp", edge, (0.09, 0.09, height / 2))
    pole = steel(rng, number)
    builder.cylinder(0.09, -0.2, height, pole, edge, sides=4, end_radius=0.06, caps=False)
    builder.box((-0.05, -reach, height - 0.08), (0.05, 0.05, height + 0.02), pole, edge, floor=True)
    builder.box((-0.14, -reach - 0.35, height - 0.06), (0.14, -reach + 0.25, height + 0.06), pole, edge)
    bulb = Paint(Layer.PLAIN, Tag.POLES, (1.0, 0.88, 0.62), number, NIGHT_LAMP)
    z = height - 0.065
    corners = np.array(
        [[-0.12, -reach - 0.33, z], [0.12, -reach - 0.33, z], [0.12, -reach + 0.23, z], [-0.12, -reach + 0.23, z]]
    )
    builder.quad(edge.place(corners), (0, 0, -1), bulb)
    spot = edge.place(np.array([[0.0, -reach, z]]))[0]
    return StreetLamp(number, float(spot[0]), float(spot[1]), float(spot[2]))


def add_fence(builder: MeshBuilder, placement: Placement, pose: Pose, half_length: float, rng: np.random.Generator) -> bool:
    """A fence of boards or of rails along local x."""
    if not placement.free(rectangle(pose, half_length, 0.08)):
        return False
    placement.take(rectangle(pose, half_length, 0.08))
    height = float(rng.uniform(0.9, 1.7))
    number = placement.record(Tag.FENCES, "fence", pose, (half_length, 0.06, height / 2))
    paint = Paint(Layer.PLANKS, Tag.FENCES, instance=number).tinted(rng.uniform(0.5, 1.4) * rng.uniform(0.8, 1.2, 3))
    posts = max(2, round(half_length * 2 / 2.2) + 1)
    builder.detail = NEAR_ONLY
    for x in np.linspace(-half_length + 0.06, half_length - 0.06, posts):
        builder.box((x - 0.06, -0.06, -0.2), (x + 0.06, 0.06, height + 0.08), paint.tinted(np.array(paint.colour) * 0.8), pose)
    builder.detail = ALWAYS
    if rng.random() < 0.5:
        builder.box((-half_length, -0.03, 0.08), (half_length, 0.03, height), paint, pose, repeat=0.7)
    else:
        for z in np.linspace(0.3, height - 0.08, 3):
            builder.box((-half_length, -0.03, z - 0.07), (half_length, 0.03, z + 0.07), paint, pose, repeat=0.7, floor=True)
    return True


def add_wall(builder: MeshBuilder, placement: Placement, pose: Pose, half_length: float, rng: np.random.Generator) -> bool:
    """A masonry wall along local x."""
    if not placement.free(rectangle(pose, half_length, 0.2)):
        return False
    placement.take(rectangle(pose, half_length, 0.2))
    height = float(rng.uniform(0.9, 2.3))
    number = placement.record(Tag.WALLS, "wall", pose, (half_length, 0.15, height / 2))
    paint = Paint((Layer.MASONRY, Layer.CONCRETE)[int(rng.random() < 0.35)], Tag.WALLS, instance=number)
    paint = paint.tinted(rng.uniform(0.7, 1.25) * rng.uniform(0.9, 1.1, 3))
    builder.box((-half_length, -0.15, -0.2), (half_length, 0.15, height), paint, pose, repeat=0.45)
    cap = paint.tinted(np.array(paint.colour) * 0.75)
    builder.box((-half_length - 0.03, -0.2, height), (half_length + 0.03, 0.2, height + 0.1), cap, pose, floor=True)
    return True


def add_small_thing(builder: MeshBuilder, placement: Placement, pose: Pose, rng: np.random.Generator) -> bool:
    """A bin, bench, post box, hydrant or cabinet beside the walk (tag Static)."""
    if not placement.free(rectangle(pose, 0.5, 0.3), on_street=True):
        return False
    placement.take(rectangle(pose, 0.5, 0.3))
    number = placement.next_instance()
    paint = Paint(Layer.METAL, Tag.STATIC, instance=number).tinted(rng.uniform(0.15, 0.8, 3))
    kind = int(rng.integers(4))
    if kind == 0:
        builder.cylinder(0.28, 0.0, 0.95, paint, pose, sides=8)
        placement.record(Tag.STATIC, "bin", pose, (0.28, 0.28, 0.5))
    elif kind == 1:
        wood = Paint(Layer.PLANKS, Tag.STATIC, (0.8, 0.7, 0.6), number)
        builder.box((-0.8, -0.22, 0.38), (0.8, 0.22, 0.46), wood, pose, floor=True)
        builder.box((-0.8, 0.18, 0.46), (0.8, 0.24, 0.9), wood, pose)
        for x in (-0.65, 0.65):
            builder.box((x - 0.05, -0.18, 0.0), (x + 0.05, 0.18, 0.4), paint, pose)
        placement.record(Tag.STATIC, "bench", pose, (0.8, 0.24, 0.45))
    elif kind == 2:
        builder.box((-0.3, -0.2, 0.0), (0.3, 0.2, 1.2), paint, pose)
        placement.record(Tag.STATIC, "cabinet", pose, (0.3, 0.2, 0.6))
    else:
        builder.cylinder(0.14, 0.0, 0.6, paint, pose, sides=6)
        builder.blob((0.16, 0.16, 0.14), paint, Pose(pose.x, pose.y, pose.z + 0.62), detail=0)
        placement.record(Tag.STATIC, "hydrant", pose, (0.14, 0.14, 0.35))
    return True
