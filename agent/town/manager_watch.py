"""Wakes a Traffic Manager that has slept through its call in the client.

In synchronous mode the client waits inside `world.tick()` for the manager's step, and the manager's thread waits to be told to
begin it. LibCarla tells it without holding the lock that the thread looks under (`TrafficManagerLocal::SynchronousTick`): when
the system interrupts the thread between looking and falling asleep, the word is lost, and both wait for ever. On a very busy
machine that happens about once in 300,000 ticks.

From here it looks like this: a tick has been answered, and the manager's commands, which come after every tick, do not. Then
the manager's own port is called: out of synchronous mode and back into it, which tells the thread to begin. The step that it
makes is the one that the client waits for; none is left out or made twice.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import msgpack

LOST_S = 5.0  # [s] without commands after a tick
CALL_S = 5.0  # [s] that calling a manager may take


class ManagerWatch:
    """Which client's manager owes its commands, and since when. Clients are numbers."""

    def __init__(self) -> None:
        self._commanding: set[int] = set()  # have sent commands since their last tick
        self._due: dict[int, float] = {}

    def ticked(self, client: int, now: float) -> None:
        """A client's tick was answered. Who sent commands after the last one owes some after this one."""
        self._due.pop(client, None)
        if client in self._commanding:
            self._commanding.remove(client)
            self._due[client] = now + LOST_S

    def commanded(self, client: int) -> None:
        """Commands have come."""
        self._commanding.add(client)
        self._due.pop(client, None)

    def overdue(self, now: float) -> list[int]:
        """Whose commands have not come in time; each is named once."""
        late = [client for client, due in self._due.items() if due <= now]
        for client in late:
            del self._due[client]
        return late

    def forget(self, client: int) -> None:
        """A client has gone."""
        self._commanding.discard(client)
        self._due.pop(client, None)


def wake(host: str, port: int, log: Callable[[str], None]) -> None:
    """Call the manager at `host`:`port` without waiting: it answers only after calls of its own to the town."""

    def call() -> None:
        modes = (False, True)
        answers = msgpack.Unpacker()
        try:
            with socket.create_connection((host, port), timeout=CALL_S) as line:
                line.sendall(b"".join(msgpack.packb([0, n, "set_synchronous_mode", [mode]]) for n, mode in enumerate(modes)))
                heard = 0
                while heard < len(modes) and (data := line.recv(4096)):
                    answers.feed(data)
                    heard += sum(1 for _ in answers)
        except (OSError, OverflowError, ValueError, msgpack.UnpackException) as error:
            log(f"the Traffic Manager at {host}:{port} has stopped and could not be woken: {error}")
        else:
            log(f"the Traffic Manager at {host}:{port} had slept through a tick and was woken")

    threading.Thread(target=call, name="wake-manager", daemon=True).start()
