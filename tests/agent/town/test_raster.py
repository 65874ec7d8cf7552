"""The renderer against geometry that can be worked out by hand, against carla's own transforms, and against itself."""

import math
from dataclasses import replace

import carla
import numpy as np
import pytest

from roadworthy.agent.town import maps, static_mesh
from roadworthy.agent.town.raster import (
    GREEN,
    LOW_BEAM,
    RED,
    ActorPose,
    CameraPose,
    Frame,
    Renderer,
)
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import build_scenery
from roadworthy.agent.town.sky import CLEAR_NOON
from roadworthy.agent.town.tags import Tag

NIGHT = (10.0, 0.0, 0.0, 10.0, 0.0, -60.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)
FOG = (60.0, 0.0, 0.0, 10.0, 0.0, 45.0, 80.0, 0.0, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)
RAIN = (90.0, 80.0, 80.0, 60.0, 0.0, 45.0, 7.0, 0.75, 0.1, 100.0, 1.0, 0.03, 0.0331, 0.0)
HIGH = 200.0  # [m] over the roofs, where nothing else is drawn
LEVEL = CameraPose(100.0, 50.0, HIGH, 0.0, 0.0, 0.0, 256, 128, 90.0)


@pytest.fixture(scope="module")
def roads() -> RoadNetwork:
    return RoadNetwork.from_opendrive("Grid01", maps.load("Grid01"))


@pytest.fixture(scope="module")
def renderer(roads: RoadNetwork) -> Renderer:
    return Renderer(build_scenery(roads, 0), roads)


def crate(x: float, y: float, z: float, number: int = 77, size: float = 2.0, yaw: float = 0.0) -> ActorPose:
    return ActorPose(("prop", size, size, size, 0), x, y, z, yaw, (0.8, 0.2, 0.2), number)


def car(x: float, y: float, yaw: float, number: int = 5, lights: int = 0) -> ActorPose:
    return ActorPose(("car", 4.5, 1.8, 1.5, 0), x, y, 0.0, yaw, (0.7, 0.7, 0.7), number, lights)


def street(roads: RoadNetwork, index: int, *, z: float = 1.5, **changes: float) -> CameraPose:
    x, y, _, yaw = roads.spawn_points()[index]
    return replace(CameraPose(x, y, z, 0.0, yaw, 0.0, 256, 128, 90.0), **changes)


def grey(frame: Frame, mask: np.ndarray | None = None) -> float:
    picture = frame.bgra[..., :3].astype(float).mean(2)
    return float(picture.mean() if mask is None else picture[mask].mean())


def test_box_has_the_depth_and_extent_that_geometry_says(renderer: Renderer) -> None:
    # A 2 m crate whose front face is 9 m ahead: half of it spans 1/9 of half the picture's width.
    frame = renderer.render(LEVEL, [crate(110.0, 50.0, HIGH - 1.0)], CLEAR_NOON, {})
    rows, columns = np.nonzero(frame.instance == 77)
    half = 128 / 9
    assert (columns.min(), columns.max()) == (math.ceil(128 - half - 0.5), math.floor(128 + half - 0.5))
    assert (rows.min(), rows.max()) == (math.ceil(64 - half - 0.5), math.floor(64 + half - 0.5))
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert np.allclose(frame.depth[rows, columns], 9.0, atol=1e-3)
    assert (frame.tags[rows, columns] == Tag.STATIC).all()


def test_nearer_things_hide_further_ones(renderer: Renderer) -> None:
    near, far = crate(108.0, 50.0, HIGH - 1.0, 1), crate(116.0, 50.0, HIGH - 1.0, 2)
    for actors in ([near, far], [far, near]):
        frame = renderer.render(LEVEL, actors, CLEAR_NOON, {})
        assert frame.instance[64, 128] == 1
        assert not (frame.instance == 2).any()


@pytest.mark.parametrize(
    ("pitch", "yaw", "roll", "fov"), [(0, 0, 0, 90), (20, 40, 0, 60), (-35, 200, 15, 110), (10, -100, -30, 75)]
)
def test_camera_agrees_with_carlas_transform(renderer: Renderer, pitch: float, yaw: float, roll: float, fov: float) -> None:
    pose = carla.Transform(carla.Location(100, 50, HIGH), carla.Rotation(pitch, yaw, roll))
    camera = CameraPose(100, 50, HIGH, pitch, yaw, roll, 320, 200, fov)
    spot = pose.transform(carla.Location(20.0, 3.0, -2.0))
    frame = renderer.render(camera, [crate(spot.x, spot.y, spot.z - 0.25, size=0.5)], CLEAR_NOON, {})
    rows, columns = np.nonzero(frame.instance == 77)
    local = np.array(pose.get_inverse_matrix()) @ (spot.x, spot.y, spot.z, 1.0)
    focal = 160 / math.tan(math.radians(fov) / 2)
    assert local[:3] == pytest.approx((20, 3, -2), abs=1e-3)
    assert columns.mean() + 0.5 == pytest.approx(160 + focal * 3 / 20, abs=1.2)
    assert rows.mean() + 0.5 == pytest.approx(100 + focal * 2 / 20, abs=1.2)
    assert frame.depth[rows, columns].mean() == pytest.approx(20, abs=0.4)


def test_looking_straight_down_measures_the_height(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 3, z=5.0, pitch=-90.0)
    frame = renderer.render(camera, [], CLEAR_NOON, {})
    on_road = frame.tags == Tag.ROADS
    assert on_road.sum() > 3000
    assert np.allclose(frame.depth[on_road], 5.0, atol=0.01)
    assert np.allclose(frame.depth[frame.tags == Tag.ROAD_LINES], 4.988, atol=0.01)


def test_pixels_show_the_ground_that_surface_at_knows(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = replace(street(roads, 10, z=30.0, pitch=-90.0, yaw=0.0), width=200, height=200)
    frame = renderer.render(camera, [], CLEAR_NOON, {})
    agree = checked = 0
    expected = {0: {Tag.TERRAIN}, 1: {Tag.ROADS, Tag.ROAD_LINES}, 2: {Tag.SIDEWALKS}}
    for row in range(0, 200, 5):
        for column in range(0, 200, 5):
            tag = int(frame.tags[row, column])
            if tag in (Tag.TERRAIN, Tag.ROADS, Tag.ROAD_LINES, Tag.SIDEWALKS):
                x = camera.x + (100 - row - 0.5) * 30 / 100
                y = camera.y + (column + 0.5 - 100) * 30 / 100
                agree += tag in expected[int(roads.surface_at(x, y).ground)]
                checked += 1
    assert checked > 400
    assert agree / checked > 0.97


def test_no_crack_shows_the_sky_below_the_horizon(renderer: Renderer, roads: RoadNetwork) -> None:
    for index in range(0, 120, 8):
        frame = renderer.render(street(roads, index), [], CLEAR_NOON, {})
        below = frame.tags[66:]
        assert not (below == Tag.SKY).any()
        assert (frame.depth[66:] < 420).all()


def test_depth_is_sky_exactly_where_the_tag_is(renderer: Renderer, roads: RoadNetwork) -> None:
    frame = renderer.render(street(roads, 5), [car(*roads.spawn_points()[6][:2], 30.0)], CLEAR_NOON, {})
    sky = frame.tags == Tag.SKY
    assert 0.05 < sky.mean() < 0.6
    assert (frame.depth[sky] == 1000).all()
    assert (frame.depth[~sky] < 421).all()
    assert (frame.instance[sky] == 0).all()
    assert set(np.unique(frame.tags[frame.instance == 5])) <= {Tag.CAR}


def test_weather_and_noise_change_colours_only(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 20)
    frames = [renderer.render(camera, [], w, {}, frame=f) for w, f in ((CLEAR_NOON, 0), (CLEAR_NOON, 1), (NIGHT, 0), (RAIN, 0))]
    for other in frames[1:]:
        assert (other.tags == frames[0].tags).all()
        assert other.depth.tobytes() == frames[0].depth.tobytes()
        assert (other.bgra != frames[0].bgra).mean() > 0.3
    assert (frames[0].bgra[..., 3] == 255).all()


def test_same_input_same_bytes_whatever_came_between(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 30)
    x, y, _, yaw = roads.spawn_points()[31]
    actors = [car(x, y, yaw), ActorPose(("walker", 0.5, 0.5, 1.8, 3), x + 3, y + 3, 0.15, 20.0, (0.2, 0.5, 0.9), 9)]
    first = renderer.render(camera, actors, RAIN, {}, frame=7, seed=3)
    renderer.render(street(roads, 2), [car(x + 1, y, yaw + 9)], NIGHT, {}, frame=8, seed=1)
    renderer.render(camera, [], CLEAR_NOON, {}, frame=9, seed=1)
    again = renderer.render(camera, actors, RAIN, {}, frame=7, seed=3)
    fresh = Renderer(build_scenery(roads, 0), roads).render(camera, actors, RAIN, {}, frame=7, seed=3)
    for other in (again, fresh):
        for name in ("bgra", "tags", "instance", "depth"):
            assert getattr(first, name).tobytes() == getattr(other, name).tobytes(), name


def test_colours_do_not_depend_on_actor_ids(renderer: Renderer) -> None:
    kinds = (
        ("truck", 7.0, 2.4, 3.2, 0),
        ("bus", 10.0, 2.5, 3.0, 0),
        ("bicycle", 1.8, 0.6, 1.7, 0),
        ("walker", 0.5, 0.5, 1.8, 2),
    )
    actors = [ActorPose(kind, 112.0, 35.0 + 9 * k, HIGH - 1, 60.0, (0.3, 0.4, 0.6), 10 + k) for k, kind in enumerate(kinds)]
    first = renderer.render(LEVEL, actors, CLEAR_NOON, {})
    again = renderer.render(LEVEL, [replace(a, instance_id=a.instance_id + 4321) for a in actors], CLEAR_NOON, {})
    assert len(np.unique(first.instance)) == 5
    assert first.bgra.tobytes() == again.bgra.tobytes()


def test_tiles_that_are_skipped_as_hidden_are_hidden(roads: RoadNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    # One tile for the whole town is always drawn whole: nothing can be skipped.
    scenery = build_scenery(roads, 0)
    with monkeypatch.context() as patch:
        patch.setattr(static_mesh, "TILE", 1e6)
        whole = Renderer(scenery, roads)
    tiled = Renderer(scenery, roads)
    differ = seen = 0
    for index in range(0, 120, 6):
        a, b = (r.render(street(roads, index), [], CLEAR_NOON, {}) for r in (tiled, whole))
        near = b.depth < 40  # further off, the two choose other levels of detail
        seen += int(near.sum())
        differ += int((a.depth[near] != b.depth[near]).sum())
    assert seen > 200_000
    assert differ < 1e-3 * seen


def test_traffic_light_shows_its_state(renderer: Renderer, roads: RoadNetwork) -> None:
    signal = next(s for s in roads.signals if s.kind == "light")
    yaw = math.radians(signal.yaw)
    camera = CameraPose(
        signal.x - 4 * math.cos(yaw), signal.y - 4 * math.sin(yaw), 3.4, 0.0, signal.yaw, 0.0, 256, 128, 40.0
    )  # fmt: skip
    red, green, off = (
        renderer.render(camera, [], CLEAR_NOON, {signal.id: state}).bgra.astype(int) for state in (RED, GREEN, 3)
    )
    assert (red[..., 2] - off[..., 2]).max() > 90
    assert (green[..., 1] - off[..., 1]).max() > 90
    assert np.nonzero(np.abs(red - off).max(2) > 60)[0].mean() < np.nonzero(np.abs(green - off).max(2) > 60)[0].mean() - 8


def test_night_is_dark_and_headlamps_light_the_road(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 12)
    ego = car(camera.x, camera.y, camera.yaw, lights=LOW_BEAM)
    day, dark = (grey(renderer.render(camera, [], w, {}, frame=1)) for w in (CLEAR_NOON, NIGHT))
    assert dark < 0.5 * day
    lit = renderer.render(camera, [ego], NIGHT, {}, frame=1, hidden=ego.instance_id)
    assert not (lit.instance == ego.instance_id).any()
    ahead = np.zeros((128, 256), bool)
    ahead[80:110, 100:156] = True
    assert grey(lit, ahead) > grey(renderer.render(camera, [], NIGHT, {}, frame=1), ahead) + 15


def test_fog_hides_what_is_far(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 12)
    contrast = []
    for weather in (CLEAR_NOON, FOG):
        frame = renderer.render(camera, [], weather, {})
        far = (frame.depth > 60) & (frame.depth < 400)
        assert far.sum() > 200
        contrast.append(frame.bgra[far][:, 1].astype(float).std())
    assert contrast[1] < 0.4 * contrast[0]


def test_sun_casts_the_shadow_of_an_actor(renderer: Renderer, roads: RoadNetwork) -> None:
    camera = street(roads, 12, z=12.0, pitch=-90.0)  # in the open: no house shades it
    sunny = (0.0, 0.0, 0.0, 0.0, 0.0, 45.0, 0.0, 0.0, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)
    without = renderer.render(camera, [], sunny, {})
    shade = renderer.render(camera, [crate(camera.x, camera.y, 0.0)], sunny, {})
    ground = shade.instance != 77
    darker = (without.bgra[..., :3].astype(float).mean(2) - shade.bgra[..., :3].astype(float).mean(2)) > 18
    rows, columns = np.nonzero(darker & ground)
    # The sun stands over +x: the shadow of a 2 m crate reaches 2 m beyond it towards -x.
    away = np.cos(np.radians(camera.yaw)), np.sin(np.radians(camera.yaw))
    up, right = 64 - rows, columns - 128  # picture axes: up is the camera's heading, right is its right
    metres_x = (up * away[0] - right * away[1]) * 12 / 128
    assert len(rows) > 60
    assert metres_x.mean() == pytest.approx(-2.0, abs=0.5)
    assert metres_x.min() == pytest.approx(-3.0, abs=0.5)


def test_every_class_of_cityscapes_is_seen_somewhere(renderer: Renderer, roads: RoadNetwork) -> None:
    seen: set[int] = set()
    kinds = ("truck", "bus", "motorcycle", "bicycle", "walker")
    for index in range(0, 170, 5):
        camera = street(roads, index)
        c, s = math.cos(math.radians(camera.yaw)), math.sin(math.radians(camera.yaw))
        actors = [
            ActorPose((kind, 6.0, 2.0, 2.0, 0), camera.x + c * 12 - s * (3 * k - 7), camera.y + s * 12 + c * (3 * k - 7), 0.0,
                      camera.yaw + 20 * k, (0.5, 0.5, 0.5), 100 + k)
            for k, kind in enumerate(kinds)
        ]  # fmt: skip
        seen |= set(np.unique(renderer.render(camera, actors if index % 2 else actors[:1], CLEAR_NOON, {}).tags).tolist())
    assert seen >= {int(tag) for tag in Tag if 1 <= tag <= 20 and tag != Tag.TRAIN} | {Tag.ROAD_LINES}


def test_scene_is_not_readable_from_colour_alone(renderer: Renderer, roads: RoadNetwork) -> None:
    """Grey levels of road, sidewalk and house overlap widely, and the sky is not one colour."""
    frames = [
        renderer.render(street(roads, k), [], w, {}, frame=k, seed=k) for k in (4, 44, 84) for w in (CLEAR_NOON, FOG, RAIN)
    ]
    values = {
        tag: np.concatenate([f.bgra[f.tags == tag][:, 1] for f in frames]).astype(float)
        for tag in (Tag.ROADS, Tag.SIDEWALKS, Tag.BUILDINGS, Tag.SKY)
    }
    for a, b in ((Tag.ROADS, Tag.BUILDINGS), (Tag.SIDEWALKS, Tag.BUILDINGS), (Tag.ROADS, Tag.SIDEWALKS)):
        low = max(np.percentile(values[a], 10), np.percentile(values[b], 10))
        high = min(np.percentile(values[a], 90), np.percentile(values[b], 90))
        assert high - low > 10, (a, b)
    assert values[Tag.SKY].std() > 12


@pytest.mark.parametrize(("width", "height"), [(1, 1), (97, 61), (640, 360)])
def test_any_picture_size(renderer: Renderer, roads: RoadNetwork, width: int, height: int) -> None:
    frame = renderer.render(replace(street(roads, 8), width=width, height=height), [], CLEAR_NOON, {})
    assert frame.bgra.shape == (height, width, 4)
    assert frame.tags.shape == frame.instance.shape == frame.depth.shape == (height, width)


@pytest.mark.parametrize(
    "changes", [{"width": 0}, {"width": 20000, "height": 20000}, {"fov": 0.0}, {"fov": 180.0}, {"x": float("nan")}]
)
def test_impossible_cameras_are_refused(renderer: Renderer, changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"picture of|field of view|finite"):
        renderer.render(replace(LEVEL, **changes), [], CLEAR_NOON, {})


def test_hundreds_of_actors_find_room(renderer: Renderer) -> None:
    actors = [crate(110.0 + 3 * (k % 20), 20.0 + 3 * (k // 20), HIGH - 1, number=k + 1) for k in range(400)]
    actors += [replace(car(110.0 + 5 * (k % 20), 20.0 + 4 * (k // 20), 0.0, number=1000 + k), z=HIGH - 3) for k in range(400)]
    frame = renderer.render(LEVEL, actors, CLEAR_NOON, {})
    assert len(np.unique(frame.instance)) > 40  # the front rows hide the rest
