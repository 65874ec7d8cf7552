"""Boxes that touch: overlap against shapely, impulses against momentum, answers that separate."""

import math

import numpy as np
import pytest
import shapely
import shapely.affinity

from roadworthy.agent.town.blueprints import BLUEPRINTS, Blueprint
from roadworthy.agent.town.bodies import (
    BOTTOM,
    HALF_LENGTH,
    HALF_WIDTH,
    REACH,
    REVERSE,
    THROTTLE,
    TOP,
    YAW,
    Bodies,
    Kind,
)
from roadworthy.agent.town.boxes import StaticBoxes, overlap
from roadworthy.agent.town.collisions import advance, is_free
from roadworthy.agent.town.physics import DRY, set_model

NOTHING = StaticBoxes.build(np.zeros((0, 6)))
CATALOGUE: dict[str, Blueprint] = {blueprint.id: blueprint for blueprint in BLUEPRINTS}


def put(bodies: Bodies, x: float, y: float, yaw: float, type_id: str = "vehicle.tesla.model3") -> int:
    slot, blueprint = bodies.take(), CATALOGUE[type_id]
    length, width, height = blueprint.extent
    bodies.kind[slot] = {"vehicle": Kind.VEHICLE, "walker": Kind.WALKER, "static": Kind.PROP}[blueprint.kind]
    bodies.simulated[slot] = blueprint.kind != "static"
    bodies.solid[slot] = True
    bodies.pose[slot] = (x, y, -blueprint.box_bottom_m, 0.0, yaw, 0.0)
    shape = bodies.shape[slot]
    shape[HALF_LENGTH], shape[HALF_WIDTH], shape[REACH] = length, width, math.hypot(length, width)
    shape[BOTTOM], shape[TOP] = blueprint.box_bottom_m, blueprint.box_bottom_m + 2 * height
    bodies.ground[slot] = (0.0, 1.0, 0.0)
    bodies.model[slot, :2] = blueprint.mass_kg
    if blueprint.drive:
        set_model(bodies, slot, blueprint.drive, *blueprint.size_m[:2])
    return slot


def box(x: float, y: float, yaw: float, length: float, width: float) -> shapely.Polygon:
    flat = shapely.box(-length, -width, length, width)
    return shapely.affinity.translate(shapely.affinity.rotate(flat, yaw, (0, 0), use_radians=True), x, y)


def test_overlap_agrees_with_shapely() -> None:
    dice = np.random.default_rng(0)
    touching = 0
    for _ in range(500):
        a = (*dice.uniform(-3, 3, 2), dice.uniform(-4, 4), *dice.uniform(0.2, 3, 2))
        b = (*dice.uniform(-3, 3, 2), dice.uniform(-4, 4), *dice.uniform(0.2, 3, 2))
        depth, nx, ny, px, py = overlap(*a, *b)
        first, second = box(*a), box(*b)
        shared = first.intersection(second)
        assert (depth > 0) == (shared.area > 0)
        if depth > 0:
            touching += 1
            assert math.hypot(nx, ny) == pytest.approx(1.0)
            assert (px, py) == pytest.approx((shared.centroid.x, shared.centroid.y), abs=1e-6)
            moved = shapely.affinity.translate(second, nx * (depth + 1e-6), ny * (depth + 1e-6))
            assert first.intersection(moved).area < 1e-6, "moving along the normal by the depth separates them"
    assert touching > 100


def test_head_on_crash_keeps_momentum() -> None:
    bodies = Bodies()
    light, heavy = put(bodies, 0, 0, 0, "vehicle.audi.a2"), put(bodies, 6.5, 0, 180, "vehicle.mercedes.sprinter")
    bodies.velocity[light], bodies.velocity[heavy] = (9, 0, 0), (-6, 0, 0)
    masses = [CATALOGUE[name].drive.mass_kg for name in ("vehicle.audi.a2", "vehicle.mercedes.sprinter")]  # type: ignore[union-attr]
    found = []
    for _ in range(20):
        before = bodies.velocity[[light, heavy], 0].copy()
        contacts = advance(bodies, np.array([light, heavy]), 0.02, DRY, NOTHING)
        if contacts:
            after = bodies.velocity[[light, heavy], 0]
            found += contacts
            total = [float(np.dot(masses, speeds)) for speeds in (before, after)]
            assert total[0] == pytest.approx(total[1], rel=0.05)
            assert contacts[0].impulse_ns[0] == pytest.approx(masses[0] * (after[0] - before[0]), rel=0.05)
            break
    assert len(found) == 1
    assert found[0].impulse_ns[0] < -5000


def test_bodies_do_not_pass_through_a_wall() -> None:
    bodies = Bodies()
    car = put(bodies, 0, 0, 0)
    wall = StaticBoxes.build(np.array([[20.0, 0.0, 0.3, 0.2, 30.0, 3.0]]))
    bodies.control[car, 0] = 1.0
    hits = []
    for _ in range(200):
        hits += advance(bodies, np.array([car]), 0.1, DRY, wall)
    assert hits
    assert hits[0].other == -1
    assert math.hypot(*hits[0].impulse_ns[:2]) > 5000
    x, y, yaw = bodies.pose[car, 0], bodies.pose[car, 1], math.radians(bodies.pose[car, 4])
    assert overlap(x, y, yaw, *CATALOGUE["vehicle.tesla.model3"].extent[:2], 20.0, 0.0, 0.3, 0.2, 30.0)[0] < 0.1


def test_a_contact_lets_go() -> None:
    """A car that was pressed against a wall for seconds backs off as one that never touched it."""
    wall = StaticBoxes.build(np.array([[12.0, 0.0, 0.0, 0.2, 30.0, 3.0]]))
    gone = []
    for start, pressed in ((0.0, True), (7.0, False)):
        bodies = Bodies()
        car = put(bodies, start, 0, 0.0)
        if pressed:
            bodies.control[car, THROTTLE] = 0.8
            for _ in range(160):
                advance(bodies, np.array([car]), 0.05, DRY, wall)
            assert math.hypot(*bodies.velocity[car, :2]) < 0.5, "it stands against the wall"
        before = bodies.pose[car, :2].copy()
        bodies.control[car] = 0.0
        bodies.control[car, THROTTLE] = bodies.control[car, REVERSE] = 1.0
        for _ in range(60):
            advance(bodies, np.array([car]), 0.05, DRY, wall)
        gone.append(math.dist(before, bodies.pose[car, :2]))
    assert gone[0] == pytest.approx(gone[1], rel=0.15)
    assert gone[1] > 3.0


def test_a_car_slides_along_what_it_grazes() -> None:
    bodies = Bodies()
    car = put(bodies, 0, 0, 12.0)
    bodies.velocity[car] = (10 * math.cos(math.radians(12)), 10 * math.sin(math.radians(12)), 0)
    rail = StaticBoxes.build(np.array([[30.0, 2.5, 0.0, 60.0, 0.2, 1.0]]))
    bodies.control[car, THROTTLE] = 0.4
    for _ in range(60):
        advance(bodies, np.array([car]), 0.05, DRY, rail)
    assert bodies.pose[car, 0] > 15.0
    assert bodies.pose[car, 1] < 2.0
    assert abs(bodies.pose[car, YAW]) < 10.0


def test_heights_count() -> None:
    bodies = Bodies()
    under, over = put(bodies, 0, 0, 0), put(bodies, 0, 0, 0)
    bodies.pose[over, 2] = 10.0
    assert advance(bodies, np.array([under, over]), 0.02, DRY, NOTHING) == []
    assert is_free(bodies, np.array([under, over]), NOTHING, over)
    bodies.pose[over, 2] = 0.5
    assert not is_free(bodies, np.array([under, over]), NOTHING, over)


def test_a_walker_is_thrown_and_the_car_hardly_slows() -> None:
    bodies = Bodies()
    car, walker = put(bodies, 0, 0, 0), put(bodies, 4, 0.2, 0, "walker.pedestrian.0001")
    bodies.velocity[car] = (8, 0, 0)
    contacts = []
    for _ in range(40):
        contacts += advance(bodies, np.array([car, walker]), 0.05, DRY, NOTHING)
    assert contacts
    assert bodies.pose[walker, 0] > 6
    assert bodies.velocity[walker, 0] == pytest.approx(0.0, abs=0.5) or bodies.pose[walker, 0] > bodies.pose[car, 0]


def test_props_do_not_give_way() -> None:
    bodies = Bodies()
    car, cone = put(bodies, 0, 0, 0), put(bodies, 6, 0, 0, "static.prop.vendingmachine")
    bodies.velocity[car] = (8, 0, 0)
    for _ in range(20):
        advance(bodies, np.array([car, cone]), 0.05, DRY, NOTHING)
    assert bodies.pose[cone, 0] == 6
    assert bodies.pose[car, 0] < 4


def test_grid_finds_every_box() -> None:
    dice = np.random.default_rng(1)
    boxes = np.column_stack([dice.uniform(-200, 200, (300, 2)), dice.uniform(-3, 3, 300), dice.uniform(0.2, 12, (300, 3))])
    static = StaticBoxes.build(boxes)
    bodies = Bodies()
    car = put(bodies, 0, 0, 0)
    bodies.simulated[car] = True
    for _ in range(200):
        x, y, yaw = dice.uniform(-220, 220), dice.uniform(-220, 220), dice.uniform(-180, 180)
        bodies.pose[car], bodies.velocity[car], bodies.spin[car] = (x, y, 0, 0, yaw, 0), 0.0, 0.0
        depth = max(overlap(x, y, math.radians(yaw), 2.395, 1.08, *b[:5])[0] for b in boxes)
        near = depth > 0.02
        if 0.0 < depth <= 0.02:
            continue  # resting contacts are left alone
        assert is_free(bodies, np.array([car]), static, car) == (not near)
        before = bodies.pose[car, :2].copy()
        advance(bodies, np.array([car]), 0.001, DRY, static)
        assert (math.dist(before, bodies.pose[car, :2]) > 1e-4) == near
