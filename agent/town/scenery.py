"""The static town: ground, houses, plants, street furniture and parked cars from a road network and a seed."""

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.actors import FIRST, SECOND, actor_mesh
from roadworthy.agent.town.buildings import Style, add_building, choose_style
from roadworthy.agent.town.frontage import Frontage, frontages
from roadworthy.agent.town.ground import add_ground, paved_area
from roadworthy.agent.town.mesh import Mesh, MeshBuilder, Paint, Pose
from roadworthy.agent.town.placement import EnvironmentObject, Placement, rectangle
from roadworthy.agent.town.plants import add_bush, add_hedge, add_tree
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.street import (
    NIGHT_LAMP,
    StreetLamp,
    add_fence,
    add_lamp,
    add_sign,
    add_small_thing,
    add_traffic_light,
    add_wall,
)
from roadworthy.agent.town.surfaces import TERRAIN_HEIGHT, Ground
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import Layer

MAX_TREES = 420
CAR_COLOURS = (
    (0.82, 0.82, 0.84), (0.10, 0.10, 0.11), (0.55, 0.08, 0.08), (0.10, 0.17, 0.42), (0.42, 0.43, 0.45),
    (0.90, 0.90, 0.88), (0.18, 0.30, 0.22), (0.66, 0.52, 0.18), (0.30, 0.22, 0.17), (0.48, 0.60, 0.68),
)  # fmt: skip


@dataclass(frozen=True)
class Scenery:
    """Everything that stands still. Same roads and seed, same bytes."""

    mesh: Mesh
    colliders: NDArray[np.float64]  # [K, 6] x, y, yaw [rad], half length, half width, height above the ground [m]
    collider_tags: NDArray[np.uint8]  # [K]
    lamps: tuple[StreetLamp, ...]
    objects: tuple[EnvironmentObject, ...]
    signal_lamps: dict[str, int]  # signal id -> lamp number of its red; yellow and green follow
    lamp_count: int  # lamp numbers run from 0 (unlit) to lamp_count - 1


def build_scenery(roads: RoadNetwork, seed: int = 0) -> Scenery:
    """Furnish a town. The style (facades, heights, colours) also depends on the map's name, so that towns differ."""
    rng = np.random.default_rng([seed, zlib.crc32(roads.name.encode())])
    builder = MeshBuilder()
    # Mitred buffers of degenerate corners divide by zero inside GEOS and come out right all the same.
    with np.errstate(divide="ignore", invalid="ignore"):
        add_ground(builder, roads, rng)
        paved = paved_area(roads)
        placement = Placement(paved.buffer(0.3))
    signal_lamps = _signals(builder, placement, roads, rng)
    lamps = _street_side(builder, placement, roads, frontages(paved, rng, 8.0, 16.0), rng)
    _plots(builder, placement, roads, frontages(paved, rng, 9.0, 22.0), choose_style(rng), rng)
    _background(builder, placement, roads, rng)
    return Scenery(
        builder.build(), placement.collider_array(), np.array(placement.collider_tags, np.uint8), tuple(lamps),
        tuple(placement.objects), signal_lamps, NIGHT_LAMP + 1 + 3 * len(signal_lamps),
    )  # fmt: skip


def _signals(builder: MeshBuilder, placement: Placement, roads: RoadNetwork, rng: np.random.Generator) -> dict[str, int]:
    lamps: dict[str, int] = {}
    for signal in roads.signals:
        z = roads.surface_at(signal.x, signal.y).height
        if signal.kind == "light":
            lamps[signal.id] = NIGHT_LAMP + 1 + 3 * len(lamps)
            add_traffic_light(builder, placement, signal, z, lamps[signal.id], rng)
        elif signal.kind != "other":
            add_sign(builder, placement, signal, z, rng)
    return lamps


def _street_side(
    builder: MeshBuilder, placement: Placement, roads: RoadNetwork, stretches: list[Frontage], rng: np.random.Generator
) -> list[StreetLamp]:
    """Lamps every other stretch, with bins, benches and street trees between."""
    lamps = []
    for number, stretch in enumerate(stretches):
        front = stretch.pose
        # A scrap of sidewalk is no place for a pole: trucks sweep over kerbs.
        inside = all(roads.surface_at(*_point(front, 0.0, y)).ground == Ground.SIDEWALK for y in (-0.45, -1.5))
        y = -0.45 if inside else 0.7
        spot = _shifted(front, 0.0, y, roads)
        if number % 2 == 0:
            lamp = add_lamp(builder, placement, spot, 1.2 + abs(y), rng)
            if lamp is not None:
                lamps.append(lamp)
        elif rng.random() < 0.35 and inside:
            spot = _shifted(front, float(rng.uniform(-3, 3)), -0.35, roads)
            corners = (_point(spot, x, y) for x in (-1.0, 0.0, 1.0) for y in (-0.8, 0.4))
            if all(roads.surface_at(*corner).ground != Ground.ROAD for corner in corners):
                add_small_thing(builder, placement, spot, rng)
        if rng.random() < 0.35:
            tree = _shifted(front, float(rng.uniform(-0.4, 0.4)) * stretch.length, float(rng.uniform(0.9, 2.0)), roads)
            add_tree(builder, placement, tree.x, tree.y, tree.z, rng)
    return lamps


def _plots(
    builder: MeshBuilder, placement: Placement, roads: RoadNetwork, stretches: list[Frontage], style: Style,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Each stretch of street front becomes a house, a garden behind a fence, hedge or wall, or a drive with a parked car."""
    for stretch in stretches:
        front = Pose(stretch.pose.x, stretch.pose.y, _ground(roads, stretch.pose), stretch.pose.yaw)
        half = stretch.length / 2 - 0.3
        built = rng.random() < 0.72 and add_building(builder, placement, front, stretch.length, style, rng)
        kind = rng.random()
        if built and kind < 0.35:
            continue
        edge = _shifted(front, 0.0, 0.75, roads)
        if kind < 0.55:
            add_fence(builder, placement, edge, half, rng)
        elif kind < 0.7:
            add_wall(builder, placement, edge, half, rng)
        elif kind < 0.82:
            add_hedge(builder, placement, edge, half, rng)
        elif not built and stretch.length > 6:
            _drive(builder, placement, roads, front, rng)
        if not built:
            for _ in range(int(rng.integers(0, 4))):
                spot = _shifted(front, float(rng.uniform(-half, half)), float(rng.uniform(1.5, 9.0)), roads)
                add_tree(builder, placement, spot.x, spot.y, spot.z, rng)
        for _ in range(int(rng.integers(0, 3))):
            spot = _shifted(front, float(rng.uniform(-half, half)), float(rng.uniform(0.9, 1.6)), roads)
            if placement.free(rectangle(spot, 0.4, 0.4)):
                add_bush(builder, spot.x, spot.y, spot.z, rng)


def _drive(builder: MeshBuilder, placement: Placement, roads: RoadNetwork, front: Pose, rng: np.random.Generator) -> None:
    """A gravel pad behind the walk with a parked car on it."""
    turned = float(rng.choice([math.pi / 2, -math.pi / 2, 0.0]))
    spot = _shifted(front, 0.0, 3.2 if turned else 1.9, roads)
    length, width, height = ((4.4, 1.8, 1.46), (4.0, 1.74, 1.55), (4.85, 1.9, 1.75))[int(rng.integers(3))]
    car = Pose(spot.x, spot.y, spot.z + 0.03, front.yaw + turned + float(rng.normal(0, 0.03)))
    if not placement.free(rectangle(car, length / 2, width / 2, 0.3)):
        return
    placement.take(rectangle(car, length / 2, width / 2, 0.3))
    pad = Pose(spot.x, spot.y, spot.z, car.yaw)
    gravel = Paint(Layer.GRAVEL, Tag.TERRAIN).tinted([rng.uniform(0.7, 1.0)] * 3)
    a, b = length / 2 + 0.6, width / 2 + 0.7
    corners = np.array([[-a, -b, 0.02], [a, -b, 0.02], [a, b, 0.02], [-a, b, 0.02]])
    builder.quad(pad.place(corners), (0, 0, 1), gravel, uv=corners[:, :2] * 0.4)
    number = placement.record(Tag.CAR, "parked_car", car, (length / 2, width / 2, height / 2))
    colour = np.array(CAR_COLOURS[int(rng.integers(len(CAR_COLOURS)))]) * rng.uniform(0.8, 1.1)
    insert_actor(builder, actor_mesh("car", length, width, height), car, number, colour, colour)


def insert_actor(
    builder: MeshBuilder, mesh: Mesh, pose: Pose, number: int, first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    """Copy an actor's mesh into the scenery with its colours and lamps off."""
    for which in (0, FIRST, SECOND):
        for layer in np.unique(mesh.surface[:, 0]):
            for tag in np.unique(mesh.tags):
                chosen = (mesh.surface[:, 0] == layer) & (mesh.tags == tag) & (mesh.surface[:, 2] == which)
                if not chosen.any():
                    continue
                used, faces = np.unique(mesh.faces[chosen], return_inverse=True)
                paint = Paint(int(layer), int(tag), instance=number)
                tint = mesh.colours[used] * ({FIRST: first, SECOND: second}.get(which, np.ones(3)))
                points = pose.place(mesh.vertices[used].astype(np.float64))
                normals = pose.turn(mesh.normals[used].astype(np.float64))
                builder.add(points, faces.reshape(-1, 3), normals, mesh.uv[used], paint, tint)


def _background(builder: MeshBuilder, placement: Placement, roads: RoadNetwork, rng: np.random.Generator) -> None:
    """Trees scattered over the open ground, so that no horizon is bare."""
    x0, y0, x1, y1 = roads.bounds
    planted = sum(thing.name == "tree" for thing in placement.objects)
    for _ in range(3 * MAX_TREES):
        if planted >= MAX_TREES:
            break
        x, y = float(rng.uniform(x0 + 20, x1 - 20)), float(rng.uniform(y0 + 20, y1 - 20))
        surface = roads.surface_at(x, y)
        if surface.ground == Ground.TERRAIN and rng.random() < 0.5:
            planted += add_tree(builder, placement, x, y, surface.height, rng)


def _point(pose: Pose, x: float, y: float) -> tuple[float, float]:
    spot = pose.place(np.array([[x, y, 0.0]]))[0]
    return float(spot[0]), float(spot[1])


def _shifted(pose: Pose, x: float, y: float, roads: RoadNetwork) -> Pose:
    """A pose moved in its own axes and set on the ground there."""
    px, py = _point(pose, x, y)
    return Pose(px, py, roads.surface_at(px, py).height, pose.yaw)


def _ground(roads: RoadNetwork, pose: Pose) -> float:
    return roads.surface_at(*_point(pose, 0.0, 2.0)).height if not roads.heights.flat else TERRAIN_HEIGHT
