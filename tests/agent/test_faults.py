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
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.session import SimulatorLost, free_port
from roadworthy.agent.stage import Stage
from roadworthy.agent.supervisor import supervise
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
