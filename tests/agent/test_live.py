"""Watching a server that someone else drives: the real client in one process, the driver in another."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadworthy.runtime.files import read_rgb

DRIVER = """
import sys, time
from roadworthy.agent.session import Session
with Session.open(seed=0) as session:
    library = session.world.get_blueprint_library()
    blueprint = library.find("vehicle.tesla.model3")
    blueprint.set_attribute("role_name", "hero")
    car = session.spawn(blueprint, session.map.get_spawn_points()[0])
    session.tick()
    print(session.address, flush=True)
    while True:
        session.tick()
        time.sleep(0.02)
"""
WATCHER = """
import itertools, sys
from contextlib import closing
from pathlib import Path
from PIL import Image
from roadworthy.agent.live import live_frames
address, folder = sys.argv[1:]
with closing(live_frames(address, 64, 32, timeout_s=60)) as frames:
    for frame in itertools.islice(frames, 3):
        Image.fromarray(frame.pixels).save(Path(folder) / f"{frame.name}.png")
import carla
client = carla.Client(address.split(":")[0], int(address.split(":")[1]))
client.set_timeout(60)
assert not list(client.get_world().get_actors().filter("sensor.*")), "the camera is still there"
"""


@pytest.fixture
def address() -> Iterator[str]:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        yield driver.stdout.readline().strip()
    finally:
        driver.terminate()
        driver.wait(30)


def test_frames_of_a_car_that_someone_else_drives(address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, address, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    frames = [read_rgb(path) for path in sorted(tmp_path.glob("*.png"))]
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == (32, 64, 3)
        assert frame.std() > 10  # a street, not a blank
    names = [int(path.stem) for path in sorted(tmp_path.glob("*.png"))]
    assert names == sorted(set(names))
