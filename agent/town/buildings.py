"""Buildings: boxes with facade textures, three kinds of roof, doors and balconies. A town has a style of its own."""

from dataclasses import dataclass

import numpy as np

from roadworthy.agent.town.mesh import MeshBuilder, Paint, Pose
from roadworthy.agent.town.placement import Placement, rectangle
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import FACADES, STOREY, Layer, facade_repeat


@dataclass(frozen=True)
class Style:
    """What a town's houses have in common."""

    facades: tuple[int, ...]
    storeys: tuple[int, ...]  # drawn from at random
    pitched: float  # share of low houses with a pitched roof
    set_back: tuple[float, float]  # [m] from the edge of the street
    depth: tuple[float, float]  # [m]


def choose_style(rng: np.random.Generator) -> Style:
    """A town's style: a handful of facades and its own mix of heights."""
    facades = tuple(int(k) for k in rng.permutation(FACADES)[: rng.integers(6, 9)])
    storeys = ((1, 2, 2, 3, 4), (2, 3, 4, 5, 6), (1, 1, 2, 3, 7))[int(rng.integers(3))]
    near = float(rng.uniform(0.8, 2.0))
    return Style(facades, storeys, float(rng.uniform(0.3, 0.9)), (near, near + float(rng.uniform(1, 4))), (9.0, 16.0))


def add_building(
    builder: MeshBuilder, placement: Placement, front: Pose, length: float, style: Style, rng: np.random.Generator
) -> bool:
    """Build a house whose facade stands behind `front` (local y points away from the street); False when there is no room."""
    depth = float(rng.uniform(*style.depth))
    set_back = float(rng.uniform(*style.set_back))
    centre = front.place(np.array([[0.0, set_back + depth / 2, 0.0]]))[0]
    pose = Pose(float(centre[0]), float(centre[1]), front.z, front.yaw)
    half_length = length / 2 - float(rng.uniform(0.1, 1.2))
    if half_length < 3.0 or not placement.free(rectangle(pose, half_length, depth / 2, 0.4)):
        return False
    placement.take(rectangle(pose, half_length, depth / 2))
    storeys = int(rng.choice(style.storeys))
    height = storeys * STOREY + float(rng.uniform(0.2, 0.9))
    number = placement.record(Tag.BUILDINGS, "house", pose, (half_length, depth / 2, height / 2))
    draw_building(builder, pose, (half_length, depth / 2, height), storeys, style, rng, number)
    return True


def draw_building(
    builder: MeshBuilder, pose: Pose, size: tuple[float, float, float], storeys: int, style: Style,
    rng: np.random.Generator, number: int,
) -> None:  # fmt: skip
    """Walls, roof, door and trim of one house of half length, half depth and height `size`."""
    a, b, height = size
    facade = int(rng.choice(style.facades))
    colour = rng.uniform(0.72, 1.22) * rng.uniform(0.86, 1.12, 3)
    wall = Paint(Layer.FACADE + facade, Tag.BUILDINGS, instance=number).tinted(colour)
    roof = Paint(Layer.TILES, Tag.BUILDINGS, instance=number)
    flat_roof = Paint(Layer.GRAVEL, Tag.BUILDINGS, (0.8, 0.8, 0.8), number)
    plain = Paint(Layer.PLAIN, Tag.BUILDINGS, instance=number)
    builder.box((-a, -b, -0.5), (a, b, height), wall, pose, repeat=facade_repeat(facade), top=flat_roof)
    roof_colours = ((0.62, 0.32, 0.25), (0.40, 0.36, 0.35), (0.52, 0.40, 0.32), (0.34, 0.38, 0.44))
    tile = roof.tinted(np.array(roof_colours[int(rng.integers(4))]) * rng.uniform(0.8, 1.2))
    if storeys <= 3 and rng.random() < style.pitched:
        rise = float(rng.uniform(1.8, 3.4))
        ridge = 0.02 if rng.random() < 0.5 else 0.35  # gable-like or hipped
        builder.box(
            (-a - 0.4, -b - 0.4, height), (a + 0.4, b + 0.4, height + rise), tile, pose, taper=(1 - ridge, 0.04), floor=True
        )
        if rng.random() < 0.6:
            x = float(rng.uniform(-0.6, 0.6)) * a
            brick = plain.tinted((0.45, 0.28, 0.22))
            builder.box((x - 0.35, -0.35, height), (x + 0.35, 0.35, height + rise + 0.7), brick, pose)
    else:
        rim = plain.tinted(colour * rng.uniform(0.6, 0.95))
        builder.box((-a - 0.15, -b - 0.15, height - 0.35), (a + 0.15, b + 0.15, height + 0.35), rim, pose, top=flat_roof)
        if storeys > 3:
            x, y = rng.uniform(-0.5, 0.5, 2) * (a, b)
            builder.box((x - 1.5, y - 1.2, height), (x + 1.5, y + 1.2, height + 2.2), plain.tinted((0.55, 0.55, 0.56)), pose)
    door_x = float(rng.uniform(-0.6, 0.6)) * a
    door = Paint(Layer.PLANKS, Tag.BUILDINGS, instance=number).tinted(rng.uniform(0.3, 1.0, 3))
    y = -b - 0.05
    corners = np.array([[door_x - 0.6, y, 0.0], [door_x + 0.6, y, 0.0], [door_x + 0.6, y, 2.2], [door_x - 0.6, y, 2.2]])
    builder.quad(pose.place(corners), pose.turn(np.array([[0.0, -1.0, 0.0]]))[0], door)
    plinth = plain.tinted(colour * 0.55)
    builder.box((-a - 0.04, -b - 0.04, -0.5), (a + 0.04, b + 0.04, 0.5), plinth, pose)
    if storeys >= 3 and rng.random() < 0.4:
        for floor in range(1, storeys):
            z = floor * STOREY
            builder.box(
                (door_x - 1.4, -b - 1.0, z - 0.15), (door_x + 1.4, -b, z + 0.9), plinth.tinted(colour * 0.8), pose, floor=True
            )
