"""Rays: the tree finds what trying every triangle finds; moving things are met where they stand; same seed, same points."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from roadworthy.agent.town.actors import actor_mesh
from roadworthy.agent.town.bvh import Tree
from roadworthy.agent.town.instruments import Lidar, make_sensor
from roadworthy.agent.town.mesh import Mesh, MeshBuilder, Paint, Pose
from roadworthy.agent.town.raster import ActorPose
from roadworthy.agent.town.ray_sensors import Surroundings, lidar_scan
from roadworthy.agent.town.tags import Tag
from roadworthy.agent.town.textures import Layer
from roadworthy.agent.town.tracing import SCENERY, Tracer

CAR = ("car", 4.6, 1.9, 1.5, 0)


@pytest.fixture(scope="module")
def scenery() -> Mesh:
    """A floor, a wall whose near side is at x = 10, and two hundred boxes."""
    rng = np.random.default_rng(3)
    builder = MeshBuilder()
    builder.quad([[-60, -60, 0], [60, -60, 0], [60, 60, 0], [-60, 60, 0]], (0, 0, 1), Paint(Layer.PLAIN, Tag.ROADS))
    builder.box((10, -5, 0), (11, 5, 4), Paint(Layer.PLAIN, Tag.BUILDINGS))
    for _ in range(200):
        x, y, size = rng.uniform(-50, 50), rng.uniform(-50, 50), rng.uniform(0.2, 2.0)
        if math.hypot(x, y) > 14:
            builder.box((-size, -size, 0), (size, size, size), Paint(Layer.PLAIN, Tag.WALLS), Pose(x, y, 0, rng.uniform(0, 3)))
    return builder.build()


def directions(count: int) -> NDArray[np.float64]:
    rays = np.random.default_rng(1).normal(size=(count, 3))
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def nearest(mesh: Mesh, origin: NDArray[np.float64], ray: NDArray[np.float64]) -> float:
    """Distance to the nearest front face by trying all (solving for barycentric coordinates)."""
    a, b, c = mesh.vertices[mesh.faces].astype(np.float64).transpose(1, 0, 2)
    system = np.stack([b - a, c - a, np.broadcast_to(-ray, a.shape)], 2)  # [F, 3, 3]
    facing = np.cross(b - a, c - a) @ ray < -1e-12
    solved = np.linalg.solve(np.where(facing[:, None, None], system, np.eye(3)), (origin - a)[..., None])[..., 0]
    u, v, t = solved.T
    hit = facing & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 0)
    return float(t[hit].min()) if hit.any() else math.inf


def test_the_tree_finds_what_all_triangles_hold(scenery: Mesh) -> None:
    origin, rays = np.array([0.0, 0.0, 2.0]), directions(300)
    hits = Tracer(scenery).cast(origin.tolist(), rays, 500.0, [])
    expected = np.array([nearest(scenery, origin, ray) for ray in rays])
    assert np.isfinite(expected).sum() > 100
    assert (np.isfinite(hits.distance) == np.isfinite(expected)).all()
    met = np.isfinite(expected)
    assert np.abs(hits.distance[met] - expected[met]).max() < 1e-9


def test_known_distances_tags_and_angles(scenery: Mesh) -> None:
    slant = np.array([1.0, 0.0, 0.2]) / math.hypot(1.0, 0.2)
    rays = np.array([[1.0, 0, 0], [0, 0, -1], [0, 0, 1], slant])
    hits = Tracer(scenery).cast((0.0, 0.0, 1.5), rays, 50.0, [])
    assert np.allclose(hits.distance, [10.0, 1.5, math.inf, 10.0 * math.hypot(1.0, 0.2)])
    assert hits.tag[[0, 1, 3]].tolist() == [Tag.BUILDINGS, Tag.ROADS, Tag.BUILDINGS]
    assert np.allclose(hits.cosine[[0, 1, 3]], [1.0, 1.0, 1.0 / math.hypot(1.0, 0.2)])
    assert Tracer(scenery).cast((0.0, 0.0, 1.5), rays, 9.99, []).distance[0] == math.inf, "out of reach"


@pytest.mark.parametrize("yaw", [0.0, 37.0, 180.0])
def test_a_moving_thing_is_met_in_its_own_place(scenery: Mesh, yaw: float) -> None:
    car = ActorPose(CAR, 6.0, 0.5, 0.0, yaw, (1, 0, 0), 77, pitch=2.0, roll=-3.0)
    mesh = actor_mesh(*CAR)
    p, y, r = math.radians(car.pitch), math.radians(car.yaw), math.radians(car.roll)
    cp, sp, cy, sy, cr, sr = math.cos(p), math.sin(p), math.cos(y), math.sin(y), math.cos(r), math.sin(r)
    turn = np.array(
        [[cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
         [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr], [sp, -cp * sr, cp * cr]]
    )  # fmt: skip
    placed = mesh.vertices @ turn.T + np.array([car.x, car.y, car.z])
    world = Mesh(placed.astype(np.float32), mesh.normals, mesh.uv, mesh.colours, mesh.faces, mesh.surface, mesh.detail)
    origin = np.array([0.0, 0.0, 1.2])
    rays = np.array([[1.0, 0.02 * k, -0.01 * j] for k in range(-8, 16) for j in range(0, 12, 3)])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hits = Tracer(scenery).cast(origin.tolist(), rays, 100.0, [ActorPose(CAR, 300, 0, 0, 0, (1, 0, 0), 5), car])
    expected = np.array([nearest(world, origin, ray) for ray in rays])
    met = hits.actor == 1
    assert met.sum() > 20
    assert np.allclose(hits.distance[met], expected[met], atol=1e-5)
    assert set(hits.tag[met]) == {Tag.CAR}
    assert set(hits.actor) == {1, SCENERY}


def test_a_tree_holds_every_triangle_once(scenery: Mesh) -> None:
    tree = Tree.over(scenery)
    leaves = tree.links[tree.links[:, 1] > 0]
    covered = np.concatenate([np.arange(first, first + count) for first, count in leaves])
    assert sorted(covered.tolist()) == list(range(len(scenery.faces)))


def test_same_seed_same_points(scenery: Mesh) -> None:
    around = Surroundings(Tracer(scenery), [], np.zeros(0, np.int64), np.zeros((0, 3)))
    pose = np.array([0.0, 0.0, 2.0, 0.0, 10.0, 0.0])

    def scan(seed: str) -> bytes:
        sensor = make_sensor("sensor.lidar.ray_cast", {"range": "60", "noise_stddev": "0.05", "noise_seed": seed}, 2)
        assert isinstance(sensor.instrument, Lidar)
        return b"".join(lidar_scan(sensor, sensor.instrument, pose, 0.05, around) for _ in range(3))

    assert scan("4") == scan("4")
    assert scan("4") != scan("5")
