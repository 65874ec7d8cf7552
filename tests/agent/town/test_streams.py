"""Nobody misses the first frame of a sensor: ticks wait for announced subscribers, and not for ever."""

import os
import queue
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from roadworthy.agent.town import streams
from roadworthy.agent.town.connections import Connection
from roadworthy.agent.town.process import TownProcess
from roadworthy.agent.town.streams import GIVE_UP_S, SUBSCRIBE_WAIT_S, Streams

carla = pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(streams.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def connection() -> Iterator[Connection]:
    near, far = socket.socketpair()
    yield Connection(near, 7, None)
    near.close()
    far.close()


def test_waiting_for_a_subscriber(clock: list[float], connection: Connection) -> None:
    sent: list[Any] = []
    complaints: list[str] = []
    table = Streams(lambda to, parts: sent.append((to.number, b"".join(parts))), complaints.append)
    table.announce(5, client=1)
    table.announce(6, client=1)
    assert table.awaited
    assert not table.receive(connection, struct.pack("<I", 5)[:3])
    assert table.receive(connection, struct.pack("<I", 5)[3:])
    assert table.watched(5)
    assert table.awaited, "the other one is still on the way"
    clock[0] += SUBSCRIBE_WAIT_S + 0.1
    table.give_up(idle=False)
    assert table.awaited, "something lies unread: it may be the subscriber"
    table.give_up(idle=True)
    assert not table.awaited
    assert "stream 6" in complaints[0]
    table.announce(6, client=1)
    clock[0] += GIVE_UP_S + 0.1
    table.give_up(idle=False)
    assert not table.awaited, "a talkative client cannot hold up the others for ever"
    table.publish(5, (b"ab", b"c"))
    assert sent == [(7, b"\x03\x00\x00\x00abc")]
    table.forget(connection)
    assert not table.watched(5)


def test_the_first_frame_survives_a_stall_of_the_town() -> None:
    """A town that the machine does not let run for longer than it waits for subscribers."""
    with TownProcess("Grid01") as town:
        client = carla.Client("127.0.0.1", town.port)
        client.set_timeout(30.0)
        world = client.get_world()
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        sensor = world.spawn_actor(world.get_blueprint_library().find("sensor.other.imu"), carla.Transform())
        data: queue.Queue[Any] = queue.Queue()
        waiting = threading.Timer(SUBSCRIBE_WAIT_S + 1.0, os.kill, (town.pid, signal.SIGCONT))
        sensor.listen(data.put)  # the call is answered, the connection follows
        os.kill(town.pid, signal.SIGSTOP)
        waiting.start()
        frame = world.tick()
        assert data.get(timeout=20.0).frame == frame, town.said()
        sensor.stop()
        sensor.destroy()
