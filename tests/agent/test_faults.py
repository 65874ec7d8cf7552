"""What can go wrong between client and server, each once: it ends in a clear error or in another try.

Others are beside what they happen to: killed servers, dying and hanging clients, Ctrl-C and orphans in test_vector.py,
test_shared.py, test_env.py and test_supervisor.py, nobody there and wrong versions in test_session.py, a port in use in
town/test_hostile.py.
"""

import importlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadworthy.agent.camera import CameraFeed, CameraRig
from roadworthy.agent.carla_client import carla
from roadworthy.agent.ego import Assignment
from roadworthy.agent.routes import make_routes
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.session import SimulatorLost, free_port
from roadworthy.agent.stage import Stage
from roadworthy.agent.supervisor import supervise
from roadworthy.agent.town import maps
from roadworthy.agent.world import World
from roadworthy.runtime.errors import BadInput


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent))  # spawned processes import by name
    try:
        model = importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
        result: dict[str, Any] = supervise(importlib.import_module("fault_tasks").faults, model, attempts=1)
    finally:
        sys.path.remove(str(Path(__file__).parent))
    return result


def test_a_traffic_manager_takes_another_port(found: dict[str, Any]) -> None:
    assert found["traffic"] == {"cars": 2, "offered": 2, "moved_on": True}


def test_a_map_that_the_server_lacks_is_named(found: dict[str, Any]) -> None:
    assert "has no map 'Atlantis', expected one of:" in found["Atlantis"]
    assert "Grid01" in found["Atlantis"]
    assert "no such OpenDRIVE file" in found["no/such/file.xodr"]


def test_a_hanging_server_truncates_the_episode_and_is_replaced(found: dict[str, Any]) -> None:
    assert found["before"] is None
    ended, truncated, info = found["hanging"]
    assert (ended, truncated, info["ended"]) == (False, True, "error")
    assert "stopped answering" in info["error"]
    assert found["waited_s"] < 40.0
    assert not found["town_left"]
    assert found["after"] is None


@pytest.mark.parametrize("crowded", [True, False])
def test_a_server_lost_with_a_traffic_manager_spoils_the_process(crowded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "spoilt", False)
    stage = Stage(DriveConfig(carla=f"127.0.0.1:{free_port()}"), [()])
    ego: Any = SimpleNamespace(world=SimpleNamespace(crowded=crowded))
    stage.egos = [ego]
    stage.lose()
    # Without traffic it goes on: it looks for a server again.
    error, message = (SimulatorLost, "another process") if crowded else (BadInput, "no CARLA server")
    with pytest.raises(error, match=message):
        stage.attempt(lambda world: world)


class MortalServer:
    """A session with a server that dies at the tick, or at the call to destroy actors, that it is told."""

    def __init__(self, dies_at: str = "") -> None:
        self.dies_at = dies_at
        self.shut_down: list[bool] = []
        town = carla.Map("Grid01", maps.load("Grid01"))
        places = [carla.Transform(carla.Location(x=1e4 * i, y=1e4)) for i in (1, 2)]  # far from any ego
        self.map = SimpleNamespace(
            get_spawn_points=lambda: places, get_topology=town.get_topology, get_waypoint=town.get_waypoint, name=town.name
        )
        self.route = make_routes(town, 0, 1, "straight")[0]
        blueprint = SimpleNamespace(id="vehicle.one", has_attribute=lambda _: False, set_attribute=lambda *_: None)
        library = SimpleNamespace(filter=lambda _: [blueprint])
        self.world = SimpleNamespace(
            get_blueprint_library=lambda: library, set_weather=lambda _: None, reset_all_traffic_lights=lambda: None
        )
        nothing = dict.fromkeys(
            (
                "set_synchronous_mode", "set_random_device_seed", "set_global_distance_to_leading_vehicle",
                "vehicle_percentage_speed_difference", "update_vehicle_lights",
            ),
            lambda *_: None,
        )  # fmt: skip
        manager = SimpleNamespace(get_port=lambda: 8000, shut_down=lambda: self.shut_down.append(True), **nothing)
        self.client = SimpleNamespace(get_trafficmanager=lambda _: manager)
        self.town = None
        self.closed = False

    def spawn(self, *_: object, **__: object) -> Any:
        self.spawned = True
        box = SimpleNamespace(extent=SimpleNamespace(x=2.4, y=1.0))
        return SimpleNamespace(id=1, set_autopilot=lambda *_: None, bounding_box=box)

    def tick(self) -> int:
        if self.dies_at == "spawning" and hasattr(self, "spawned"):
            raise SimulatorLost("the server died")
        return 1

    def destroy(self, *_: object) -> None:
        if self.dies_at == "destroying":
            raise RuntimeError("time-out while waiting for the simulator")

    def close(self) -> None:
        self.closed = True


def staged(server: Any) -> tuple[Stage, World]:
    """Return a stage with one ego in a world of `server`."""
    world = World(server)
    nowhere = SimpleNamespace(car=server.spawn(), measure=lambda _: None, drain_contacts=tuple)
    ego: Any = SimpleNamespace(**vars(nowhere), take=lambda _: None, place=lambda _: None, world=world)
    del server.spawned
    world.egos = [ego]
    stage = Stage(DriveConfig(), [()])
    stage.session, stage.egos = server, [ego]
    return stage, world


def crowd(world: World, server: MortalServer) -> None:
    world.begin([(world.egos[0], Assignment(server.route, "ClearNoon", vehicles=2))])


def test_a_server_lost_while_its_traffic_is_spawned_spoils_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "spoilt", False)
    server = MortalServer("spawning")
    stage, world = staged(server)
    with pytest.raises(SimulatorLost, match="the server died"):
        crowd(world, server)
    assert not server.shut_down
    stage.lose()
    assert Stage.spoilt


@pytest.mark.parametrize("dies_at", ["", "destroying"])
def test_traffic_that_could_not_be_taken_away_spoils_the_process(dies_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "spoilt", False)
    server = MortalServer(dies_at)
    stage, world = staged(server)
    crowd(world, server)
    assert world.crowded
    stage.drop()
    assert server.closed
    assert bool(server.shut_down) == (not dies_at)
    assert Stage.spoilt == bool(dies_at)


class FakeCamera:
    """Hands over what the test says it saw."""

    def listen(self, hear: Any) -> None:
        self.hear = hear


@pytest.fixture
def feed() -> tuple[CameraFeed, list[FakeCamera]]:
    cameras: list[FakeCamera] = []

    def spawn(*_: object, **__: object) -> FakeCamera:
        cameras.append(FakeCamera())
        return cameras[-1]

    library = SimpleNamespace(find=lambda _: SimpleNamespace(set_attribute=lambda *_: None))
    session: Any = SimpleNamespace(
        world=SimpleNamespace(get_blueprint_library=lambda: library), spawn=spawn, address="127.0.0.1:2000"
    )
    return CameraFeed(session, SimpleNamespace(type_id="car"), CameraRig(), ("rgb", "depth")), cameras


def image(frame: int) -> Any:
    return SimpleNamespace(frame=frame)


def test_a_late_image_is_waited_for_and_old_ones_are_dropped(feed: tuple[CameraFeed, list[FakeCamera]]) -> None:
    cameras = feed[1]
    cameras[0].hear(image(6))
    cameras[0].hear(image(7))
    cameras[1].hear(image(6))
    late = threading.Timer(0.3, cameras[1].hear, (image(7),))
    late.start()
    found = feed[0].read(7, timeout_s=20.0)
    late.join()
    assert {kind: seen.frame for kind, seen in found.items()} == {"rgb": 7, "depth": 7}


def test_an_image_that_never_comes_is_a_lost_simulator(feed: tuple[CameraFeed, list[FakeCamera]]) -> None:
    feed[1][0].hear(image(7))
    with pytest.raises(SimulatorLost, match="the depth camera sent no image of frame 7"):
        feed[0].read(7, timeout_s=0.05)
