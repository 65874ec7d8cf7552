"""CARLA's own Town01 and Town02 in the town: loaded by file and by text, with lights, walkers, pictures and traffic."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roadworthy.agent.town.process import TownProcess

DATA = Path(os.environ.get("ROADWORTHY_DATA", Path(__file__).parents[4] / "shared" / "data"))
LIGHTS = {"Town01": 36, "Town02": 24}  # signals of the files
PLACES = {"Town01": 100, "Town02": 70}  # spawn points at the least
CLIENT = """
import json, queue, sys, carla, numpy as np
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
client.set_files_base_folder(sys.argv[3])
world = client.generate_opendrive_world(open(sys.argv[2]).read())
settings = world.get_settings()
settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
world.apply_settings(settings)
places = world.get_map().get_spawn_points()
lights = list(world.get_actors().filter("traffic.traffic_light*"))
camera = world.get_blueprint_library().find("sensor.camera.semantic_segmentation")
camera.set_attribute("image_size_x", "160")
camera.set_attribute("image_size_y", "80")
frames, seen = queue.Queue(), set()
for place in places[::25]:
    eye = world.spawn_actor(camera, carla.Transform(place.location + carla.Location(z=1.2), place.rotation))
    eye.listen(frames.put)
    world.tick()
    picture = frames.get(timeout=30.0)
    tags = np.frombuffer(picture.raw_data, np.uint8).reshape(80, 160, 4)[..., 2]
    seen |= set(np.unique(tags).tolist())
    assert (tags[60:, 70:90] == 1).mean() + (tags[60:, 70:90] == 24).mean() > 0.8, "the street lies before the camera"
    eye.destroy()
walk = [world.get_random_location_from_navigation() for _ in range(20)]
print(json.dumps({
    "places": len(places), "lights": len(lights), "stops": min(len(light.get_stop_waypoints()) for light in lights),
    "groups": min(len(light.get_group_traffic_lights()) for light in lights), "tags": sorted(seen),
    "walk": sum(place is not None for place in walk), "walk_z": max(abs(place.z) for place in walk),
    "crossings": len(world.get_map().get_crosswalks()),
}))
"""


@pytest.mark.parametrize("name", ["Town01", "Town02"])
def test_a_town_of_carla_s_own_works(name: str, tmp_path: Path) -> None:
    path = DATA / "towns" / f"{name}.xodr"
    if not path.is_file():
        pytest.skip(f"needs {path}; set ROADWORTHY_DATA to the folder with towns/")
    with TownProcess(str(path)) as town:
        assert town.map == name
        command = [sys.executable, "-c", CLIENT, str(town.port), str(path), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.strip(), done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["places"] >= PLACES[name]
    assert found["lights"] == LIGHTS[name]
    assert found["stops"] >= 1
    assert found["groups"] >= 2
    assert found["walk"] == 20
    assert found["walk_z"] < 1.0
    assert set(found["tags"]) >= {1, 2, 3, 6, 9, 10, 11, 24}  # roads, walks, houses, poles, plants, ground, sky, lines
