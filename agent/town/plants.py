"""Trees of several shapes, hedges and bushes. Only trunks are solid."""

import numpy as np

from roadworthy.agent.town.mesh import ALWAYS, FAR_ONLY, NEAR_ONLY, MeshBuilder, Paint, Pose
from roadworthy.agent.town.placement import Placement, rectangle
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import Layer


def add_tree(builder: MeshBuilder, placement: Placement, x: float, y: float, z: float, rng: np.random.Generator) -> bool:
    """Plant a tree where there is room for its trunk; False when there is none."""
    pose = Pose(x, y, z, float(rng.uniform(0, 6.28)))
    trunk = float(rng.uniform(0.11, 0.24))
    if not placement.free(rectangle(pose, trunk, trunk, 0.5)):
        return False
    placement.take(rectangle(pose, trunk, trunk, 0.2))
    height = float(rng.uniform(2.0, 3.2))
    number = placement.record(Tag.VEGETATION, "tree", pose, (trunk, trunk, height / 2))
    bark = Paint(Layer.BARK, Tag.VEGETATION, instance=number).tinted([rng.uniform(0.6, 1.3)] * 3)
    hue = rng.uniform(0.65, 1.3) * (1 + rng.uniform(-1, 1, 3) * (0.35, 0.15, 0.3))
    leaves = Paint(Layer.LEAVES, Tag.VEGETATION, instance=number).tinted(hue)
    crown = float(rng.uniform(1.3, 2.4))
    kind = rng.random()
    if kind < 0.25:  # conifer
        needles = Paint(Layer.NEEDLES, Tag.VEGETATION, instance=number).tinted(hue)
        builder.cylinder(trunk, -0.2, 1.4, bark, pose, sides=5, caps=False)
        top = height + crown * 2.2
        for low, share in ((0.9, 0.55), (0.9 + 0.32 * top, 0.42), (0.9 + 0.6 * top, 0.26)):
            builder.cylinder(
                crown * share * 1.6, low, min(low + 0.48 * top, top + 1), needles, pose, sides=7, end_radius=0.02, caps=False
            )
        return True
    builder.cylinder(trunk * 1.2, -0.2, height + 0.7, bark, pose, sides=4, end_radius=trunk * 0.7, caps=False)
    radii = (crown, crown, crown * float(rng.uniform(0.8, 1.25)))
    middle = Pose(x, y, z + height + crown * 0.65)
    builder.detail = FAR_ONLY
    builder.blob((radii[0] * 1.1, radii[1] * 1.1, radii[2] * 1.15), leaves, middle, rng, detail=0)
    builder.detail = NEAR_ONLY
    builder.blob(radii, leaves, middle, rng)
    if kind < 0.8:
        for _ in range(int(rng.integers(1, 3))):
            dx, dy = rng.uniform(-0.8, 0.8, 2) * crown
            part = crown * float(rng.uniform(0.5, 0.75))
            at = Pose(x + float(dx), y + float(dy), z + height + crown * float(rng.uniform(0.4, 1.4)))
            builder.blob((part, part, part), leaves.tinted(hue * rng.uniform(0.85, 1.15)), at, rng, detail=0)
    builder.detail = ALWAYS
    return True


def add_bush(builder: MeshBuilder, x: float, y: float, z: float, rng: np.random.Generator) -> None:
    """A low bush; nothing collides with it."""
    hue = rng.uniform(0.6, 1.3) * (1 + rng.uniform(-1, 1, 3) * (0.3, 0.1, 0.2))
    size = float(rng.uniform(0.35, 0.9))
    leaves = Paint(Layer.LEAVES, Tag.VEGETATION).tinted(hue)
    builder.detail = NEAR_ONLY
    builder.blob((size, size * rng.uniform(0.8, 1.3), size * 0.9), leaves, Pose(x, y, z + size * 0.5), rng, detail=0)
    builder.detail = ALWAYS


def add_hedge(builder: MeshBuilder, placement: Placement, pose: Pose, half_length: float, rng: np.random.Generator) -> bool:
    """A clipped hedge along local x; solid."""
    if not placement.free(rectangle(pose, half_length, 0.35)):
        return False
    placement.take(rectangle(pose, half_length, 0.35))
    height = float(rng.uniform(0.8, 1.6))
    number = placement.record(Tag.VEGETATION, "hedge", pose, (half_length, 0.35, height / 2))
    layer = (Layer.LEAVES, Layer.NEEDLES)[int(rng.random() < 0.4)]
    paint = Paint(layer, Tag.VEGETATION, instance=number).tinted(rng.uniform(0.7, 1.2) * rng.uniform(0.85, 1.15, 3))
    builder.box((-half_length, -0.35, -0.2), (half_length, 0.35, height), paint, pose, repeat=0.6, taper=(1.0, 0.8))
    return True
