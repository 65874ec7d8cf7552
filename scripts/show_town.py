"""A sheet for every shipped town, from above and in every weather: `python -m roadworthy.scripts.show_town [FOLDER] [MAP ...]`.

Colour stands beside tags. The pictures are drawn straight by the renderer, with traffic from a seed; `docs/town.md` shows them.
A map may also be the path of an .xodr file.
"""

import math
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roadworthy.agent.town import maps
from roadworthy.agent.town.raster import ActorPose, CameraPose, Renderer
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import CAR_COLOURS, build_scenery
from roadworthy.agent.town.tags import Tag

TOWNS = ("Grid01", "Grid02", "Crooked01", "Ring01")
WIDTH, HEIGHT = 320, 160  # [px] of one picture
WEATHERS = {  # CARLA's 14 parameters
    "clear": (5, 0, 0, 10, 30, 55, 2, 0.75, 0.1, 0, 1, 0.03, 0.0331, 0),
    "cloudy": (85, 0, 0, 30, 120, 45, 3, 0.75, 0.1, 0, 1, 0.03, 0.0331, 0),
    "rain": (90, 80, 80, 60, 0, 40, 7, 0.75, 0.1, 100, 1, 0.03, 0.0331, 0),
    "fog": (60, 0, 0, 10, 0, 45, 55, 0.75, 0.1, 10, 1, 0.03, 0.0331, 0),
    "dusk": (20, 0, 0, 10, 200, 7, 2, 0.75, 0.1, 0, 1, 0.03, 0.0331, 0),
    "wet night": (30, 0, 60, 10, 0, -60, 2, 0.75, 0.1, 70, 1, 0.03, 0.0331, 0),
}
PALETTE = {  # Cityscapes' colours
    Tag.ROADS: (128, 64, 128), Tag.SIDEWALKS: (244, 35, 232), Tag.BUILDINGS: (70, 70, 70), Tag.WALLS: (102, 102, 156),
    Tag.FENCES: (190, 153, 153), Tag.POLES: (153, 153, 153), Tag.TRAFFIC_LIGHT: (250, 170, 30),
    Tag.TRAFFIC_SIGNS: (220, 220, 0), Tag.VEGETATION: (107, 142, 35), Tag.TERRAIN: (152, 251, 152),
    Tag.SKY: (70, 130, 180), Tag.PEDESTRIANS: (220, 20, 60), Tag.RIDER: (255, 0, 0), Tag.CAR: (0, 0, 142),
    Tag.TRUCK: (0, 0, 70), Tag.BUS: (0, 60, 100), Tag.MOTORCYCLE: (0, 0, 230), Tag.BICYCLE: (119, 11, 32),
    Tag.STATIC: (110, 190, 160), Tag.ROAD_LINES: (157, 234, 50),
}  # fmt: skip
VEHICLES = (
    ("car", 4.5, 1.85, 1.48, 0), ("car", 3.8, 1.7, 1.52, 0), ("van", 5.2, 2.0, 2.3, 0), ("truck", 7.6, 2.5, 3.2, 0),
    ("bus", 10.2, 2.6, 3.1, 0), ("motorcycle", 2.1, 0.8, 1.6, 0), ("bicycle", 1.8, 0.6, 1.75, 2),
)  # fmt: skip


def traffic(roads: RoadNetwork, rng: np.random.Generator, keep_clear: tuple[float, float]) -> list[ActorPose]:
    """Vehicles on half of the spawn points and walkers on the sidewalks."""
    actors: list[ActorPose] = []
    for x, y, _, yaw in roads.spawn_points(16.0):
        if rng.random() < 0.5 or math.hypot(x - keep_clear[0], y - keep_clear[1]) < 9:
            continue
        key = VEHICLES[int(rng.choice(len(VEHICLES), p=(0.4, 0.2, 0.1, 0.08, 0.06, 0.08, 0.08)))]
        r, g, b = np.array(CAR_COLOURS[int(rng.integers(len(CAR_COLOURS)))]) * rng.uniform(0.8, 1.1)
        actors.append(ActorPose(key, x, y, 0.0, yaw, (float(r), float(g), float(b)), 100 + len(actors)))
    for lane in roads.lanes:
        if lane.span.kind == "sidewalk" and lane.span.junction < 0:
            for k in rng.integers(0, len(lane.centre), 4):
                x, y = lane.centre[k, :2] + rng.uniform(-0.6, 0.6, 2)
                heading = math.degrees(lane.yaw[k]) + 180.0 * float(rng.integers(2))
                key = ("walker", 0.5, 0.5, float(rng.uniform(1.55, 1.9)), int(rng.integers(8)))
                r, g, b = rng.uniform(0.1, 0.9, 3)
                colour = (float(r), float(g), float(b))
                actors.append(ActorPose(key, float(x), float(y), 0.15, heading, colour, 100 + len(actors)))
    return actors


def sheet(name: str, text: str, seed: int) -> NDArray[np.uint8]:
    """One town: a pair of pictures, colour and tags, from above and one for each weather."""
    roads = RoadNetwork.from_opendrive(name, text)
    renderer = Renderer(build_scenery(roads, seed), roads)
    colours = np.zeros((256, 3), np.uint8)
    for tag, colour in PALETTE.items():
        colours[tag] = colour
    rng = np.random.default_rng(seed)
    lights = {signal.id: int(rng.integers(3)) for signal in roads.signals if signal.kind == "light"}
    points = roads.spawn_points()

    def pair(camera: CameraPose, weather: tuple[float, ...], number: int) -> NDArray[np.uint8]:
        ego = ActorPose(VEHICLES[0], camera.x, camera.y, 0.0, camera.yaw, (0.5, 0.5, 0.5), 1)  # unseen, with its headlamps
        actors = [ego, *traffic(roads, rng, (camera.x, camera.y))]
        frame = renderer.render(camera, actors, weather, lights, frame=number, seed=seed, hidden=1)
        return np.hstack([frame.bgra[..., 2::-1], colours[frame.tags]])

    x0, _, x1, y1 = roads.drivable.bounds
    above = CameraPose((x0 + x1) / 2, y1 + 30.0, 110.0, -32.0, -90.0, 0.0, WIDTH, HEIGHT, 90.0)
    pairs = [pair(above, WEATHERS["clear"], 0)]
    for number, weather in enumerate(WEATHERS.values()):
        x, y, _, yaw = points[int(rng.integers(len(points)))]
        pairs.append(pair(CameraPose(x, y, 1.6, 0.0, yaw, 0.0, WIDTH, HEIGHT, 90.0), weather, number))
    return np.vstack(pairs)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("docs/towns"))
@click.argument("towns", nargs=-1)
def main(folder: Path, towns: tuple[str, ...]) -> None:
    """Write one sheet per town to FOLDER (docs/towns): TOWNS are names of shipped maps (all) or .xodr files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(towns or TOWNS):
        text = Path(name).read_text() if name.endswith(".xodr") else maps.load(name)
        path = folder / f"{Path(name).stem}.png"
        Image.fromarray(sheet(Path(name).stem, text, seed)).save(path, optimize=True)
        click.echo(f"{path} {path.stat().st_size // 1024} kB: from above, then {', '.join(WEATHERS)}")


if __name__ == "__main__":
    main()
