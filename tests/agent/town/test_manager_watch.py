"""A Traffic Manager that has slept through its call is called by the town, and only such a one."""

import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from roadworthy.agent.town import manager_watch
from roadworthy.agent.town.manager_watch import LOST_S, ManagerWatch
from roadworthy.agent.town.server import Server


def test_who_always_sends_commands_after_a_tick_owes_them() -> None:
    watch = ManagerWatch()
    watch.ticked(1, 0.0)
    assert watch.overdue(100.0) == [], "it has never sent any: it may have no cars, or its own pace"
    watch.commanded(1)
    watch.ticked(1, 100.0)
    assert watch.overdue(100.0 + LOST_S - 0.1) == []
    assert watch.overdue(100.0 + LOST_S + 0.1) == [1]
    assert watch.overdue(200.0) == [], "once is enough"
    watch.commanded(1)
    watch.ticked(1, 200.0)
    watch.commanded(1)
    assert watch.overdue(300.0) == [], "a client that takes its time between ticks owes nothing"
    watch.ticked(1, 300.0)
    watch.forget(1)
    assert watch.overdue(400.0) == []


class Manager:
    """Listens like a Traffic Manager, answers every call, and tells what was called."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.calls: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        line, _ = self._listener.accept()
        calls = msgpack.Unpacker(raw=False)
        while data := line.recv(4096):
            calls.feed(data)
            for _, number, name, arguments in calls:
                self.calls.put((name, arguments))
                line.sendall(msgpack.packb([1, number, None, None]))


@pytest.fixture
def log() -> "queue.Queue[str]":
    return queue.Queue()


@pytest.fixture
def server(log: "queue.Queue[str]", monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A synchronous town in a thread."""
    monkeypatch.setattr(manager_watch, "LOST_S", 0.3)
    server = Server("Grid02", log=log.put)
    server.world.settings = replace(server.world.settings, synchronous=True)
    server.world.tick()  # compiles, where that has not been done
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join()


def test_the_town_wakes_it(server: Server, log: "queue.Queue[str]") -> None:
    manager = Manager()
    line = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    answers = msgpack.Unpacker(raw=False, strict_map_key=False)

    def call(name: str, *arguments: Any) -> Any:
        line.sendall(msgpack.packb([0, 1, name, [[False], *arguments]]))
        while True:
            answers.feed(line.recv(1 << 20))
            for message in answers:
                return message[3]

    assert call("add_traffic_manager_running", ["10.1.2.3", manager.port]) == [[1, True]]
    for _ in range(3):
        call("tick_cue")
        call("apply_batch", [], False)
    with pytest.raises(queue.Empty):
        manager.calls.get(timeout=1.5)
    call("tick_cue")  # and no commands after it
    assert manager.calls.get(timeout=10.0) == ("set_synchronous_mode", [False])
    assert manager.calls.get(timeout=10.0) == ("set_synchronous_mode", [True])
    call("version")
    line.close()
    assert "was woken" in log.get(timeout=10.0)
