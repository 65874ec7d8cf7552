"""The switch for programs that expect CARLA 0.9.15's latitude."""

import json
import os
import queue
import subprocess
import sys
from typing import Any

import pytest

carla = pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")


def test_mirrored_latitude() -> None:
    command = [sys.executable, "-m", "roadworthy.agent.town", "--port", "0", "--owner", str(os.getpid()), "--mirror-latitude"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as town:
        try:
            assert town.stdout
            client = carla.Client("127.0.0.1", json.loads(town.stdout.readline())["port"])
            client.set_timeout(20.0)
            world = client.get_world()
            settings = world.get_settings()
            settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
            world.apply_settings(settings)
            blueprint = world.get_blueprint_library().find("sensor.other.gnss")
            sensor = world.spawn_actor(blueprint, carla.Transform(carla.Location(40.0, 120.0, 2.0)))
            data: queue.Queue[Any] = queue.Queue()
            sensor.listen(data.put)
            world.tick()
            measured = data.get(timeout=10)
            expected = world.get_map().transform_to_geolocation(carla.Location(40.0, -120.0, 2.0))
            assert abs(measured.latitude - expected.latitude) < 1e-7
            assert abs(measured.longitude - expected.longitude) < 1e-7
            assert measured.latitude != world.get_map().transform_to_geolocation(carla.Location(40.0, 120.0, 2.0)).latitude
            sensor.stop()
        finally:
            town.terminate()
