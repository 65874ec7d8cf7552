"""Who listens to which stream, and who has been announced and is still on the way.

A client asks for a stream's token (a call) and connects to the stream some time later. A tick waits for those on the way, so
that nobody misses the first frame of a sensor. The wait is bounded; but an announced subscriber is given up only while nothing
lies unread: a town that was itself held up for seconds (a busy machine, a map that loads) must not take its own delay for the
client's.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

from roadworthy.agent.town.connections import Connection
from roadworthy.agent.town.world import Buffer

SUBSCRIBE_WAIT_S = 5.0
GIVE_UP_S = 30.0  # even if other clients never stop talking


class Streams:
    """The subscribers of every stream."""

    def __init__(self, send: Callable[[Connection, Sequence[Buffer]], None], log: Callable[[str], None]) -> None:
        self._send, self._log = send, log
        self._subscribers: dict[int, list[Connection]] = {}
        self._announced: list[tuple[float, int, int]] = []  # (time, stream, client)

    @property
    def any(self) -> bool:
        """Whether anybody listens to anything."""
        return bool(self._subscribers)

    @property
    def awaited(self) -> bool:
        """Whether an announced subscriber has not come yet."""
        return bool(self._announced)

    @property
    def deadline(self) -> float:
        """When the first of those on the way may be given up (monotonic clock)."""
        return self._announced[0][0] + SUBSCRIBE_WAIT_S if self._announced else float("inf")

    def announce(self, stream: int, client: int) -> None:
        """A client is about to subscribe."""
        self._announced.append((time.monotonic(), stream, client))

    def give_up(self, *, idle: bool) -> None:
        """Stop waiting for those who are overdue; `idle`: nothing that anybody has sent lies unread."""
        now, patience = time.monotonic(), SUBSCRIBE_WAIT_S if idle else GIVE_UP_S
        for entry in [entry for entry in self._announced if entry[0] + patience <= now]:
            self._announced.remove(entry)
            self._log(f"client {entry[2]} announced a subscriber to stream {entry[1]}, and none came in {now - entry[0]:.0f} s")

    def receive(self, connection: Connection, data: bytes) -> bool:
        """Take what a stream's connection says: which stream it wants. Returns whether it is subscribed by this."""
        if connection.stream:
            return False  # a subscriber has nothing more to say
        connection.received += data
        if len(connection.received) < 4:
            return False
        (connection.stream,) = struct.unpack_from("<I", connection.received)
        connection.received = b""
        self._subscribers.setdefault(connection.stream, []).append(connection)
        for entry in self._announced:
            if entry[1] == connection.stream:
                self._announced.remove(entry)
                break
        return True

    def watched(self, stream: int) -> bool:
        """Whether anybody listens to a stream."""
        return stream in self._subscribers

    def publish(self, stream: int, parts: Sequence[Buffer]) -> None:
        """Send a message to all subscribers of a stream."""
        for connection in list(self._subscribers.get(stream, ())):
            self.tell(connection, parts)

    def tell(self, connection: Connection, parts: Sequence[Buffer]) -> None:
        """Send a message, its length before it, to one subscriber."""
        self._send(connection, (struct.pack("<I", sum(map(len, parts))), *parts))

    def end(self, stream: int) -> None:
        """A sensor is gone. The sockets stay open until the client closes them: it would reconnect at once to a closed one."""
        self._subscribers.pop(stream, None)
        self._announced = [entry for entry in self._announced if entry[1] != stream]

    def forget(self, connection: Connection) -> None:
        """A connection is gone, of a subscriber or of a client that has announced some."""
        members = self._subscribers.get(connection.stream, [])
        if connection in members:
            members.remove(connection)
            if not members:
                del self._subscribers[connection.stream]
        if connection.unpacker is not None:
            self._announced = [entry for entry in self._announced if entry[2] != connection.number]
