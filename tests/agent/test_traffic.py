"""A session and traffic in the town, through the real client: in a process of its own, as the client may take it down."""

import importlib
import sys
from typing import Any

import pytest

from roadworthy.agent.supervisor import supervise

# Spawned processes import the task by name, so it must lie in a module of its own.
TASK = """
import psutil
from roadworthy.agent.session import Session
from roadworthy.agent.traffic import Traffic
from roadworthy.runtime.errors import BadInput

def drive(report):
    found = {}
    with Session.open(None, map="Grid01", seed=5) as session:
        found["map"] = session.map_name
        found["synchronous"] = session.world.get_settings().synchronous_mode
        frames = [session.tick() for _ in range(5)]
        found["steps"] = [b - a for a, b in zip(frames, frames[1:])]
        before = {actor.id for actor in session.world.get_actors()}
        clear = session.map.get_spawn_points()[0].location
        ends = []
        for _ in range(2):  # the same seed on a freshly loaded map
            traffic = Traffic(session, vehicles=6, walkers=6, seed=1, clear=clear)
            found["spawned"] = (len(traffic.vehicles), len(traffic.walkers))
            everybody = traffic.vehicles + traffic.walkers
            starts = [actor.get_location() for actor in everybody]
            for _ in range(100):
                session.tick()
            stops = [actor.get_location() for actor in everybody]
            found["nearest"] = min(start.distance(clear) for start in starts)
            found["moved"] = [a.distance(b) for a, b in zip(starts, stops)]
            found["heights"] = [stop.z for stop in stops]
            found["off_lane"] = [
                session.map.get_waypoint(stop).transform.location.distance_2d(stop) for stop in stops[: len(traffic.vehicles)]
            ]
            ends.append([(round(stop.x, 2), round(stop.y, 2)) for stop in stops])
            traffic.destroy()
            session.tick()
            found["left_over"] = len({actor.id for actor in session.world.get_actors()} - before)
            session.reload()
            before = {actor.id for actor in session.world.get_actors()}
        found["repeatable"] = ends[0] == ends[1]
        found["ends"] = ends
        try:
            session.load_map("Atlantis")
        except BadInput as error:
            found["unknown_map"] = str(error)
        # A second client of the same server, as with --carla: it takes nothing down and leaves everything as it was.
        with Session.open(session.address, map="Grid02") as guest:
            found["guest_map"] = guest.map_name
            guest.tick()
            car = guest.world.get_blueprint_library().find("vehicle.tesla.model3")
            guest.spawn(car, guest.map.get_spawn_points()[0])
            guest.tick()
            found["guest_cars"] = len(guest.world.get_actors().filter("vehicle.*"))
        world = session.client.get_world()
        world.tick()
        found["cars_after_guest"] = len(world.get_actors().filter("vehicle.*"))
        found["settings_after_guest"] = (world.get_settings().synchronous_mode, world.get_settings().fixed_delta_seconds)
        children = psutil.Process().children(recursive=True)
        town = [child for child in children if "roadworthy.agent.town" in " ".join(child.cmdline())]
    found["towns"] = len(town)
    _, alive = psutil.wait_procs(town, timeout=10)
    found["towns_left"] = len(alive)
    return found
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "traffic_task.py").write_text(TASK)
    sys.path.insert(0, str(folder))
    try:
        result: dict[str, Any] = supervise(importlib.import_module("traffic_task").drive)
    finally:
        sys.path.remove(str(folder))
    return result


def test_session_steps_the_town_and_takes_it_down(found: dict[str, Any]) -> None:
    assert found["map"] == "Grid01"
    assert found["synchronous"]
    assert found["steps"] == [1, 1, 1, 1]
    assert (found["towns"], found["towns_left"]) == (1, 0)
    assert "Atlantis" in found["unknown_map"]
    assert "Crooked01, Grid01, Grid02" in found["unknown_map"]


def test_a_guest_leaves_a_server_as_it_was(found: dict[str, Any]) -> None:
    assert found["guest_map"] == "Grid02"
    assert found["guest_cars"] == 1
    assert found["cars_after_guest"] == 0
    assert found["settings_after_guest"] == (True, pytest.approx(0.1))


def test_cars_drive_and_people_walk(found: dict[str, Any]) -> None:
    assert found["spawned"] == (6, 6)
    cars, people = found["moved"][:6], found["moved"][6:]
    assert max(cars) > 20  # some wait at a light
    assert sum(car > 5 for car in cars) >= 3
    assert max(found["off_lane"]) < 2.0
    assert sum(walker > 4 for walker in people) >= 4
    assert max(people) < 35  # nobody runs faster than 3.5 m/s
    assert all(-0.5 < height < 2.0 for height in found["heights"])


def test_nobody_starts_where_it_must_stay_clear_and_nobody_is_left(found: dict[str, Any]) -> None:
    assert found["nearest"] > 6.0
    assert found["left_over"] == 0


def test_the_same_seed_gives_the_same_traffic(found: dict[str, Any]) -> None:
    assert found["repeatable"], found["ends"]
