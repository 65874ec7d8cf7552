"""Bytes and calls that no sane client sends: each is refused or its sender dropped, and the town lives on."""

import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import psutil
import pytest

from roadworthy.agent.town.calls_refused import REFUSED, REFUSED_VALUES
from roadworthy.agent.town.errors import PortInUse, TownDied
from roadworthy.agent.town.process import TownProcess

VOID_OK: Any = [[False]]


@pytest.fixture(scope="module")
def town() -> Iterator[TownProcess]:
    with TownProcess("Grid01") as process:
        yield process


class Caller:
    """A msgpack-rpc connection that says whatever it likes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The error of the rpc layer, or the result."""
        self.socket.sendall(msgpack.packb([0, 1, name, [[False], *arguments]]))
        while True:
            data = self.socket.recv(1 << 20)
            assert data, "the town hung up"
            self.unpacker.feed(data)
            for message in self.unpacker:
                assert message[:2] == [1, 1]
                return message[2] if message[2] is not None else message[3]


@pytest.fixture
def ask(town: TownProcess) -> Iterator[Caller]:
    caller = Caller(town.port)
    yield caller
    caller.socket.close()
    assert Caller(town.port)("version") == [[1, "0.9.16"]], "the town must still answer everybody else"
    assert town.alive()


CAR = [1, "vehicle.tesla.model3", []]


def error_of(result: Any) -> str:
    """The message of a refused call, whichever way it is wrapped."""
    if isinstance(result, str):
        return result
    flag, payload = result[0]
    assert flag in (0, True), result
    return payload[0]


def place(x: Any = 0.0, yaw: Any = 0.0) -> Any:
    return [[x, 0.0, 500.0], [0.0, yaw, 0.0]]


def test_unknown_calls_and_wrong_numbers_of_arguments(ask: Caller) -> None:
    assert "no function 'make_coffee'" in error_of(ask("make_coffee", 1, 2))
    assert "expected 2" in error_of(ask("spawn_actor", CAR))
    assert "expected 0" in error_of(ask("version", 1))
    assert "__init__" in error_of(ask("__init__"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, None, "1", [], {}, True, b"1"])
def test_impossible_transforms(ask: Caller, value: Any) -> None:
    assert error_of(ask("spawn_actor", CAR, place(value)))
    actor = ask("spawn_actor", CAR, place())[0][1]
    assert error_of(ask("set_actor_transform", actor[0], place(value)))
    assert ask("destroy_actor", actor[0]) == [[1, True]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("spawn_actor", ([10**9, "vehicle.tesla.model3", []], place())),
        ("spawn_actor", ([1, "sensor.camera.rgb", []], place())),
        ("spawn_actor", ([1, "vehicle.tesla.model3", [["color", 1, "x" * 10**6]]], place())),
        ("spawn_actor_with_parent", (CAR, place(), 10**6, 0)),
        ("spawn_actor", (None, None)),
        ("get_actors_by_id", ("all",)),
        ("get_actor_bounding_box", (-5,)),
        ("apply_control_to_vehicle", (10**7, [0.0] * 7)),
        ("set_episode_settings", ([True] * 11,)),
        ("set_episode_settings", (None,)),
        ("set_weather_parameters", ([float("nan")] * 14,)),
        ("set_traffic_light_state", (10**7, 2)),
        ("load_new_episode", ("../../etc/passwd", True, 0)),
        ("load_new_episode", (7, True, 0)),
        ("request_file", ("/etc/passwd",)),
        ("copy_opendrive_to_file", ("<OpenDRIVE/>", [])),
        ("copy_opendrive_to_file", ("not xml at all", [])),
        ("copy_opendrive_to_file", ("<!DOCTYPE a [<!ENTITY b 'c'>]><OpenDRIVE>&b;</OpenDRIVE>", [])),
        ("get_sensor_token", ("one",)),
        ("cast_ray", ([0, 0], [1, 1, 1])),
        ("add_traffic_manager_running", ("here",)),
    ],
)
def test_refusals(ask: Caller, name: str, arguments: tuple[Any, ...]) -> None:
    assert error_of(ask(name, *arguments))


@pytest.mark.parametrize(
    "command",
    [None, [], [[0, []]], [[99, [1]]], [[2, [1, 2, 3]]], [["x", "y"]], [[0, [CAR, place(float("nan")), [False], 0, "", []]]]],
)
def test_bad_commands_fail_one_by_one(ask: Caller, command: Any) -> None:
    good = [[0, [CAR, place(50.0), [False], 176, "", []]]]
    bad, answer = ask("apply_batch", [command, good], False)
    assert bad[0][0] == 0
    assert answer[0][0] == 1
    ask("destroy_actor", answer[0][1])


def test_commands_nested_without_end(ask: Caller) -> None:
    nested: Any = []
    for level in range(40):
        nested = [[[0, [CAR, place(60.0 + 8.0 * level), [False], 0, "", nested]]]]
    (answer,) = ask("apply_batch", nested, False)
    assert answer[0][0] == 1


def test_ten_thousand_spawns(ask: Caller) -> None:
    cone = [
        next(entry[0] for entry in ask("get_actor_definitions")[0][1] if entry[1] == "sensor.other.imu"),
        "sensor.other.imu",
        [],
    ]
    spawn = [[0, [cone, place(), [False], 0, "", []]]]
    answers = ask("apply_batch", [spawn] * 10_000, False)
    born = [answer[0][1] for answer in answers if answer[0][0] == 1]
    assert 1000 < len(born) < 10_000
    assert "too many actors" in error_of(answers[-1])
    ask("apply_batch", [[[1, [id_]]] for id_ in born], False)


@pytest.mark.parametrize("size", [(0, 0), (20000, 20000), (-5, 10), (1, 10**9)])
def test_impossible_images(ask: Caller, size: tuple[int, int]) -> None:
    definition = next(entry for entry in ask("get_actor_definitions")[0][1] if entry[1] == "sensor.camera.rgb")
    attributes = [["image_size_x", 2, str(size[0])], ["image_size_y", 2, str(size[1])]]
    assert "image" in error_of(ask("spawn_actor", [definition[0], definition[1], attributes], place()))


@pytest.mark.usefixtures("ask")
def test_bytes_that_are_no_calls(town: TownProcess) -> None:
    dice = random.Random(0)
    junk = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xdb\xff\xff\xff\xff",  # a string of four billion
        b"\xc1" * 10,
        b"\x91" * 100_000,  # nested lists
        msgpack.packb({"a": 1}),
        msgpack.packb([2, "notify", []]),
        msgpack.packb([0, "id", 5, None]),
        *(dice.randbytes(dice.randrange(1, 4000)) for _ in range(40)),
    ]
    for port in (town.port, town.port + 1):
        for data in junk:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(data)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"\x94\x00")  # half a call, and gone


def test_a_hundred_megabytes_of_opendrive(ask: Caller) -> None:
    text = "<OpenDRIVE>" + "<road/>" * (100_000_000 // 7) + "</OpenDRIVE>"
    assert "expected at most" in error_of(ask("copy_opendrive_to_file", text, []))
    assert error_of(ask("load_new_episode", "OpenDriveMap", True, 0)), "nothing of it was kept"


def test_calls_that_never_end(town: TownProcess, ask: Caller) -> None:
    """Clients that send the beginning of a huge call and wait: together they may not fill the memory."""
    hoarders = [socket.create_connection(("127.0.0.1", town.port), timeout=20) for _ in range(6)]
    chunk = bytes(1 << 20)
    gone = 0
    for hoarder in hoarders:
        try:
            hoarder.sendall(b"\xc6\x07\x00\x00\x00")  # 112 MiB of bytes are announced, 90 come
            for _ in range(90):
                hoarder.sendall(chunk)
            assert ask("version") == [[1, "0.9.16"]]
            hoarder.setblocking(False)
            gone += hoarder.recv(1) == b""
        except BlockingIOError:
            pass
        except ConnectionError:
            gone += 1
    assert gone >= 1
    assert psutil.Process(town.pid).memory_info().rss < 1_500_000_000
    for hoarder in hoarders:
        hoarder.close()


@pytest.mark.parametrize("name", sorted(set(REFUSED) | set(REFUSED_VALUES)))
def test_refusals_give_their_reason(ask: Caller, name: str) -> None:
    assert error_of(ask(name, 1, 2)) == (REFUSED | REFUSED_VALUES)[name]


def test_impossible_sensors(ask: Caller) -> None:
    uids = {entry[1]: entry[0] for entry in ask("get_actor_definitions")[0][1]}
    for type_id, key, value in (
        ("sensor.lidar.ray_cast", "channels", "0"), ("sensor.lidar.ray_cast", "channels", "1000000"),
        ("sensor.lidar.ray_cast", "points_per_second", "99999999999"), ("sensor.lidar.ray_cast", "range", "nan"),
        ("sensor.lidar.ray_cast_semantic", "upper_fov", "1e9"), ("sensor.other.radar", "points_per_second", "-1"),
        ("sensor.other.radar", "horizontal_fov", "180"), ("sensor.other.obstacle", "hit_radius", "0"),
        ("sensor.other.obstacle", "distance", "inf"), ("sensor.camera.depth", "fov", "0"),
    ):  # fmt: skip
        message = error_of(ask("spawn_actor", [uids[type_id], type_id, [[key, 4, value]]], place()))
        assert key in message


def test_a_call_in_single_bytes(ask: Caller) -> None:
    for byte in msgpack.packb([0, 1, "version", [[False]]])[:-1]:
        ask.socket.sendall(bytes([byte]))
    ask.socket.sendall(b"\xc2")
    assert ask.unpacker.feed(ask.socket.recv(100)) is None
    assert next(iter(ask.unpacker)) == [1, 1, None, [[1, "0.9.16"]]]


def test_a_client_that_never_reads(town: TownProcess, ask: Caller) -> None:
    greedy = socket.create_connection(("127.0.0.1", town.port), timeout=20)
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.setblocking(False)
    request = msgpack.packb([0, 1, "get_map_data", [[False]]])
    for _ in range(2000):  # 0.6 GB of answers
        try:
            greedy.send(request)
        except (BlockingIOError, ConnectionError):
            break
    assert ask("version") == [[1, "0.9.16"]]
    greedy.close()


def test_many_connections(town: TownProcess, ask: Caller) -> None:
    crowd = []
    for _ in range(700):
        try:
            crowd.append(socket.create_connection(("127.0.0.1", town.port), timeout=5))
        except OSError:
            break
    assert ask("version") == [[1, "0.9.16"]], "who was there first is still served"
    for connection in crowd:
        connection.close()
    time.sleep(0.3)


def test_subscribing_to_nothing(town: TownProcess, ask: Caller) -> None:
    with socket.create_connection(("127.0.0.1", town.port + 1), timeout=20) as stream:
        stream.sendall(struct.pack("<I", 4_000_000_000) + os.urandom(1000))
        assert ask("get_sensor_token", 4_000_000_000)[0][0] == 1


def test_a_port_in_use_and_a_map_that_is_not_there(town: TownProcess) -> None:
    with pytest.raises(PortInUse, match=f"port {town.port} .* in use"):
        TownProcess("Grid01", port=town.port)
    with pytest.raises(TownDied, match="'Atlantis' not found"):
        TownProcess("Atlantis")


def test_no_orphans() -> None:
    """A town whose owner is killed ends by itself."""
    code = """
import os, signal
from roadworthy.agent.town.process import TownProcess
town = TownProcess("Grid01")
print(town.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    owner = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    pid = int(owner.stdout)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the town outlives its owner"
        time.sleep(0.1)
