"""Same seed, same inputs: the same states and the same pixels, bit for bit, in two towns of their own."""

import subprocess
import sys

import pytest

from roadworthy.agent.town.process import TownProcess

pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")

DRIVE = """
import hashlib, queue, sys
import carla

client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(30)
digests = []
world = client.get_world()
settings = world.get_settings()
settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.1
world.apply_settings(settings)
for _ in range(2):
    world = client.load_world("Grid02", False)  # stays synchronous: no tick is left to the clock
    world.set_weather(carla.WeatherParameters(sun_altitude_angle=20.0, precipitation=60.0, wetness=70.0, cloudiness=60.0))
    library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
    actors = [world.spawn_actor(library.find(name), points[index]) for index, name in enumerate(
        ("vehicle.tesla.model3", "vehicle.audi.a2", "vehicle.mercedes.sprinter", "vehicle.bh.crossbike"))]
    pictures, sensors = [], []
    for kind in ("rgb", "depth"):
        blueprint = library.find("sensor.camera." + kind)
        blueprint.set_attribute("image_size_x", "160")
        blueprint.set_attribute("image_size_y", "96")
        sensors.append(world.spawn_actor(blueprint, carla.Transform(carla.Location(x=0.5, z=1.8)), attach_to=actors[0]))
        pictures.append(queue.Queue())
        sensors[-1].listen(pictures[-1].put)
    seen, colours = hashlib.sha256(), hashlib.sha256()
    for tick in range(60):
        for index, actor in enumerate(actors):
            steer = 0.2 if (tick // 10 + index) % 3 == 0 else -0.1
            actor.apply_control(carla.VehicleControl(throttle=0.5 + 0.1 * index, steer=steer))
        world.tick()
        for actor in actors:
            pose, velocity = actor.get_transform(), actor.get_velocity()
            seen.update(repr((str(pose), velocity.x, velocity.y, velocity.z)).encode())
        for digest, data in zip((colours, seen), pictures):
            digest.update(bytes(data.get(timeout=30).raw_data))
    digests += [seen.hexdigest(), colours.hexdigest()]
    for sensor in sensors:
        sensor.stop()
print(*digests, flush=True)
"""


def digests(seed: int) -> list[str]:
    with TownProcess("Grid01", seed) as town:
        result = subprocess.run(
            [sys.executable, "-c", DRIVE, str(town.port)], capture_output=True, text=True, timeout=120, check=False
        )
        assert result.stdout, result.stderr + town.said()
        return result.stdout.split()


def test_same_seed_same_bits() -> None:
    first, again, other = digests(3), digests(3), digests(4)
    assert first == again
    assert first[:2] == first[2:], "an episode's motion and colours can be repeated without a restart"
    assert other[0] != first[0], "the seed matters"
