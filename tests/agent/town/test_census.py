"""Every class that CARLA and Cityscapes share is seen by a semantic camera somewhere in the shipped towns."""

import math
from collections import Counter

import numpy as np
import pytest
import shapely

from roadworthy.agent.town import maps
from roadworthy.agent.town.raster import ActorPose, CameraPose, Renderer
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import Scenery, build_scenery
from roadworthy.agent.town.tags import Tag
from roadworthy.scripts.show_town import VEHICLES, WEATHERS

VIEWS = 10
WALKER = ("walker", 0.5, 0.5, 1.75, 3)
STANDING = (
    Tag.ROADS, Tag.SIDEWALKS, Tag.BUILDINGS, Tag.WALLS, Tag.FENCES, Tag.POLES, Tag.TRAFFIC_LIGHT, Tag.TRAFFIC_SIGNS,
    Tag.VEGETATION, Tag.TERRAIN, Tag.SKY, Tag.CAR, Tag.ROAD_LINES, Tag.STATIC,
)  # fmt: skip
MOVING = (Tag.PEDESTRIANS, Tag.RIDER, Tag.CAR, Tag.TRUCK, Tag.BUS, Tag.MOTORCYCLE, Tag.BICYCLE)


@pytest.fixture(scope="module", params=maps.names())
def town(request: pytest.FixtureRequest) -> tuple[RoadNetwork, Scenery]:
    roads = RoadNetwork.from_opendrive(request.param, maps.load(request.param))
    return roads, build_scenery(roads, 0)


def test_cameras_see_every_class(town: tuple[RoadNetwork, Scenery]) -> None:
    roads, scenery = town
    renderer = Renderer(scenery, roads)
    dice = np.random.default_rng(0)
    places = roads.spawn_points()
    seen: Counter[int] = Counter()
    for k in dice.permutation(len(places))[:VIEWS]:
        x, y, _, yaw = places[int(k)]
        seen.update(look(renderer, CameraPose(x, y, 1.6, 0.0, yaw, 0.0, 192, 96, 100.0), []))
    assert not [tag.name for tag in STANDING if not seen[tag]], "with nobody about; the cars are parked"
    camera = CameraPose(0.0, 0.0, 300.0, 0.0, 0.0, 0.0, 192, 96, 100.0)  # above the roofs, so that nothing is hidden
    row = [
        ActorPose(key, 16.0, 3.0 * n - 10.5, 299.0, 20.0, (0.5, 0.5, 0.5), n + 1) for n, key in enumerate([*VEHICLES, WALKER])
    ]
    seen = look(renderer, camera, row)
    assert not [tag.name for tag in MOVING if not seen[tag]], "with one of each on the way"


def look(renderer: Renderer, camera: CameraPose, actors: list[ActorPose]) -> Counter[int]:
    """Pixels of each tag in one picture."""
    tags, counts = np.unique(renderer.render(camera, actors, WEATHERS["clear"], {}).tags, return_counts=True)
    return Counter(dict(zip(tags.tolist(), counts.tolist(), strict=True)))


def test_parked_cars_crossings_and_lamps_are_everywhere(town: tuple[RoadNetwork, Scenery]) -> None:
    roads, scenery = town
    x0, y0, x1, y1 = roads.drivable.bounds
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)

    def quarters(places: list[tuple[float, float]]) -> set[int]:
        return {int(2 * (x > middle[0]) + (y > middle[1])) for x, y in places}

    for name in ("parked_car", "house", "tree", "street_lamp"):
        assert quarters([(thing.x, thing.y) for thing in scenery.objects if thing.name == name]) == {0, 1, 2, 3}, name
    assert quarters([(c.centroid.x, c.centroid.y) for c in roads.crosswalks]) == {0, 1, 2, 3}
    walks = roads.sidewalk.buffer(1.0)
    streets = [(x, y, math.radians(yaw)) for x, y, _, yaw in roads.spawn_points()]
    beside = [walks.intersects(to_the_right(x, y, yaw)) for x, y, yaw in streets]
    assert np.mean(beside) > 0.9


def to_the_right(x: float, y: float, yaw: float) -> shapely.LineString:
    """From a lane's middle twelve metres to the right."""
    return shapely.LineString([(x, y), (x - 12 * math.sin(yaw), y + 12 * math.cos(yaw))])
