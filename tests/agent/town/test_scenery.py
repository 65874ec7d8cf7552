"""The furnished town: every class occurs, things stand where physics thinks they are, the seed decides everything."""

import math
from functools import lru_cache

import numpy as np
import pytest
import shapely

from roadworthy.agent.town import maps
from roadworthy.agent.town.actors import MESH_KINDS, actor_mesh
from roadworthy.agent.town.mesh import Pose
from roadworthy.agent.town.placement import rectangle
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import Scenery, build_scenery
from roadworthy.agent.town.tags import Tag

STATIC_TAGS = {
    Tag.ROADS, Tag.SIDEWALKS, Tag.BUILDINGS, Tag.WALLS, Tag.FENCES, Tag.POLES, Tag.TRAFFIC_LIGHT, Tag.TRAFFIC_SIGNS,
    Tag.VEGETATION, Tag.TERRAIN, Tag.CAR, Tag.STATIC, Tag.ROAD_LINES,
}  # fmt: skip


@lru_cache
def town(name: str, text: str) -> tuple[RoadNetwork, Scenery]:
    roads = RoadNetwork.from_opendrive(name, text)
    return roads, build_scenery(roads, 0)


def test_every_static_class_of_cityscapes_occurs(town_map: tuple[str, str]) -> None:
    _, scenery = town(*town_map)
    assert set(np.unique(scenery.mesh.tags)) == {int(tag) for tag in STATIC_TAGS}


def test_moving_classes_occur_in_actor_meshes() -> None:
    tags = set()
    for kind in MESH_KINDS:
        tags |= set(np.unique(actor_mesh(kind, 4.0, 1.8, 1.8).tags).tolist())
    assert tags == {Tag.PEDESTRIANS, Tag.RIDER, Tag.CAR, Tag.TRUCK, Tag.BUS, Tag.MOTORCYCLE, Tag.BICYCLE, Tag.STATIC}


@pytest.mark.parametrize(
    "size", [("car", 4.4, 1.8, 1.5), ("truck", 8.0, 2.5, 3.2), ("bus", 10.0, 2.6, 3.1), ("van", 5.2, 2.0, 2.4)]
)
def test_actor_meshes_fill_their_box(size: tuple[str, float, float, float]) -> None:
    kind, length, width, height = size
    points = actor_mesh(kind, length, width, height).vertices
    low, high = points.min(0), points.max(0)
    assert np.allclose(high[0] - low[0], length, atol=0.08)
    assert width - 0.02 <= high[1] - low[1] < width + 0.35  # mirrors stand out
    assert np.allclose([low[2], high[2]], [0.0, height], atol=0.05)


def test_unknown_actor_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="walker"):
        actor_mesh("dragon", 1, 1, 1)


def test_walkers_swing_their_legs() -> None:
    still, stride = actor_mesh("walker", 0.5, 0.5, 1.8, 0).vertices, actor_mesh("walker", 0.5, 0.5, 1.8, 2).vertices
    assert still.shape == stride.shape
    assert np.abs(still - stride).max() > 0.25


def test_same_seed_same_bytes_other_seed_other_town() -> None:
    roads, first = town("Grid01", maps.load("Grid01"))
    again, other = build_scenery(roads, 0), build_scenery(roads, 1)
    for name in ("vertices", "normals", "uv", "colours", "faces", "surface"):
        assert getattr(first.mesh, name).tobytes() == getattr(again.mesh, name).tobytes()
    assert first.colliders.tobytes() == again.colliders.tobytes()
    assert first.colliders.shape != other.colliders.shape


def test_colliders_enclose_what_is_drawn(town_map: tuple[str, str]) -> None:
    """Every house, wall, fence, parked car: drawn no wider than its box (roofs and eaves aside), and not much narrower."""
    _, scenery = town(*town_map)
    mesh = scenery.mesh
    by_id = {thing.id: thing for thing in scenery.objects}
    checked = 0
    for tag in (Tag.BUILDINGS, Tag.WALLS, Tag.FENCES, Tag.CAR):
        faces = mesh.tags == tag
        instances = mesh.surface[faces, 2]
        for number in np.unique(instances)[:25]:
            thing = by_id[int(number)]
            points = mesh.vertices[np.unique(mesh.faces[faces][instances == number])].astype(np.float64)
            ground = thing.z - thing.half_height
            points = points[points[:, 2] < ground + 1.8]  # below balconies and eaves
            back = Pose(yaw=-thing.yaw)
            local = back.place(points - (thing.x, thing.y, 0.0))
            assert np.abs(local[:, 0]).max() < thing.half_length + 0.12
            assert np.abs(local[:, 1]).max() < thing.half_width + (0.2 if tag == Tag.CAR else 0.12)
            assert np.abs(local[:, 0]).max() > thing.half_length - 0.12
            checked += 1
    assert checked > 40


def test_nothing_solid_stands_on_the_road(town_map: tuple[str, str]) -> None:
    roads, scenery = town(*town_map)
    shapely.prepare(roads.drivable)
    for x, y, yaw, half_length, half_width, height in scenery.colliders:
        footprint = rectangle(Pose(x, y, 0.0, yaw), half_length, half_width)
        assert footprint.intersection(roads.drivable).area < 0.02, (x, y, height)
    assert len(scenery.colliders) == len(scenery.collider_tags)


def test_buildings_do_not_overlap(town_map: tuple[str, str]) -> None:
    _, scenery = town(*town_map)
    houses = scenery.colliders[scenery.collider_tags == Tag.BUILDINGS]
    assert len(houses) > 60
    tree = shapely.STRtree([rectangle(Pose(x, y, 0.0, yaw), a - 0.05, b - 0.05) for x, y, yaw, a, b, _ in houses])
    pairs = tree.query(tree.geometries, predicate="intersects")
    assert (pairs[0] == pairs[1]).all()


def test_each_light_has_three_lamps_in_the_mesh(town_map: tuple[str, str]) -> None:
    roads, scenery = town(*town_map)
    lights = {signal.id for signal in roads.signals if signal.kind == "light"}
    assert set(scenery.signal_lamps) == lights
    used = set(np.unique(scenery.mesh.surface[:, 3]).tolist())
    for first in scenery.signal_lamps.values():
        assert {first, first + 1, first + 2} <= used
    assert max(used) == scenery.lamp_count - 1


def test_heads_look_at_the_traffic_they_stop(town_map: tuple[str, str]) -> None:
    roads, scenery = town(*town_map)
    mesh = scenery.mesh
    for signal in (s for s in roads.signals if s.kind == "light"):
        red = mesh.surface[:, 3] == scenery.signal_lamps[signal.id]
        normal = mesh.normals[mesh.faces[red][:, 0]]
        toward = -np.array([math.cos(math.radians(signal.yaw)), math.sin(math.radians(signal.yaw))])
        assert (normal[:, :2] @ toward > 0.99).all()
        green = mesh.surface[:, 3] == scenery.signal_lamps[signal.id] + 2
        assert mesh.vertices[mesh.faces[red], 2].mean() > mesh.vertices[mesh.faces[green], 2].mean() + 0.5


def test_faces_are_turned_to_their_normals() -> None:
    _, scenery = town("Grid01", maps.load("Grid01"))
    mesh = scenery.mesh
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    cross = np.cross(b - a, c - a)
    agree = (cross * mesh.normals[mesh.faces].sum(1)).sum(1)
    assert (agree > -1e-6).all()


@pytest.mark.parametrize("seed", [5, 13])
def test_nothing_stands_on_the_road(seed: int) -> None:
    roads = RoadNetwork.from_opendrive("Ring01", maps.load("Ring01"))
    scenery = build_scenery(roads, seed)
    for thing in scenery.objects:
        foot = rectangle(Pose(thing.x, thing.y, 0.0, thing.yaw), thing.half_length, thing.half_width)
        assert not roads.drivable.intersects(foot), thing
