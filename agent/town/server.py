"""The town's two sockets: calls on one port, sensor streams on the next. One thread, no locks.

Everything happens in one loop: a call is read, made, answered; a tick runs inside the call that asks for it. What needs
waiting for is parked: a tick waits (at most `SUBSCRIBE_WAIT_S`) for subscribers that have been announced, so that
nobody misses the first frame of a sensor; its answer is held back by `MANAGER_HOLD_S` while a client runs a Traffic Manager
(whose client-side loop can miss a wake-up when ticks come too fast), with other calls answered meanwhile.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgpack

from roadworthy.agent.town import batch, calls_actors, calls_traffic, calls_world
from roadworthy.agent.town.calls import Context, TrafficManagers, call
from roadworthy.agent.town.errors import PortInUse
from roadworthy.agent.town.loaded_map import MapShelf
from roadworthy.agent.town.protocol import STATE_STREAM, ok, response
from roadworthy.agent.town.world import Buffer, Outlet, World

HANDLERS = (batch, calls_actors, calls_traffic, calls_world)  # importing them fills the table of calls
SUBSCRIBE_WAIT_S = 5.0
MANAGER_HOLD_S = 0.001
MAX_MESSAGE_BYTES = 64 << 20  # of one call
MAX_BACKLOG_BYTES = 256 << 20  # of unsent data per connection; a client that reads nothing for so long is dropped
MAX_CONNECTIONS = 512
ORPHAN_CHECK_S = 1.0
Log = Callable[[str], None]


@dataclass
class Connection:
    """One client's socket and what is still to be sent on it."""

    socket: socket.socket
    number: int
    unpacker: msgpack.Unpacker | None  # None: a stream
    stream: int = 0  # 0 until the client has said which
    received: bytes = b""
    backlog: deque[memoryview] = field(default_factory=deque)
    waiting: int = 0  # bytes in the backlog
    closed: bool = False


class Server:
    """A CARLA server for any number of clients. Made, it listens; `run` serves until `stop`."""

    def __init__(
        self, map_name: str, *, port: int = 0, seed: int = 0, host: str = "127.0.0.1", shelf: MapShelf | None = None, log: Log
    ) -> None:
        """Take the ports and load the map. Raises `PortInUse`, `MapRefused`."""
        self._log = log
        self._rpc, self._streams = _listen_pair(host, port)
        self.port: int = self._rpc.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._subscribers: dict[int, list[Connection]] = {}
        self._expected: list[tuple[float, int, int]] = []  # (deadline, stream, client) of announced subscribers
        self._parked: deque[tuple[Connection, int]] = deque()  # ticks that wait for subscribers
        self._held: list[tuple[float, int, Connection, bytes]] = []  # answers that are held back
        self._managers = TrafficManagers()
        self._running = True
        outlet = Outlet(self._send_stream, self._watched, self.port + 1)
        self.world = World(shelf or MapShelf(seed), map_name, seed, outlet)
        self._context = Context(self.world, self._managers, 0, self._expect, self._end_stream)
        self._next_free_tick = time.monotonic()
        for listener, handler in ((self._rpc, self._accept_rpc), (self._streams, self._accept_stream)):
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, handler)

    def stop(self) -> None:
        """Let `run` return soon."""
        self._running = False

    def run(self, parent: int | None = None) -> None:
        """Serve until `stop`, or until the process `parent` is no longer ours."""
        next_check = time.monotonic()
        try:
            while self._running:
                now = time.monotonic()
                if parent is not None and now >= next_check:
                    next_check = now + ORPHAN_CHECK_S
                    if os.getppid() != parent:
                        break
                for key, events in self._selector.select(self._patience(now)):
                    handler = key.data
                    if isinstance(handler, Connection):
                        self._serve(handler, events)
                    else:
                        handler()
                self._release()
        finally:
            self.close()

    def close(self) -> None:
        """Close every socket."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        for listener in (self._rpc, self._streams):
            listener.close()
        self._selector.close()

    def _patience(self, now: float) -> float:
        """How long the loop may sleep [s]."""
        wake = now + ORPHAN_CHECK_S
        if self._held:
            wake = min(wake, self._held[0][0])
        if self._parked and self._expected:
            wake = min(wake, min(entry[0] for entry in self._expected))
        elif self._parked:
            wake = now
        if self._free_running:
            wake = min(wake, self._next_free_tick)
        return max(wake - now, 0.0)

    @property
    def _free_running(self) -> bool:
        """Asynchronous mode with somebody watching: the town ticks by its own clock."""
        return not self.world.settings.synchronous and bool(self._subscribers)

    def _release(self) -> None:
        """Do what has been waiting and is due."""
        now = time.monotonic()
        for entry in [entry for entry in self._expected if entry[0] <= now]:
            self._expected.remove(entry)
            self._log(f"client {entry[2]} announced a subscriber to stream {entry[1]}, and none came in {SUBSCRIBE_WAIT_S} s")
        if self._parked and not self._expected:
            for connection, message_id in self._take_parked():
                self._tick(connection, message_id)
            now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, _, connection, data = heapq.heappop(self._held)
            self._send(connection, (data,))
        if self._free_running and now >= self._next_free_tick:
            self._next_free_tick = max(self._next_free_tick + self.world.settings.step_s, now)
            self.world.tick()

    def _take_parked(self) -> list[tuple[Connection, int]]:
        taken = list(self._parked)
        self._parked.clear()
        return taken

    # ---- connections -------------------------------------------------------------------------------------------------

    def _accept_rpc(self) -> None:
        unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            max_buffer_size=MAX_MESSAGE_BYTES,
            unicode_errors="surrogateescape",
            max_ext_len=0,
            max_map_len=1 << 12,
        )
        self._accept(self._rpc, unpacker)

    def _accept_stream(self) -> None:
        self._accept(self._streams, None)

    def _accept(self, listener: socket.socket, unpacker: msgpack.Unpacker | None) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # gone again before it was taken
        if len(self._connections) >= MAX_CONNECTIONS:
            accepted.close()
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, next(self._numbers), unpacker)
        self._connections[connection.number] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _drop(self, connection: Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        self._connections.pop(connection.number, None)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        members = self._subscribers.get(connection.stream, [])
        if connection in members:
            members.remove(connection)
            if not members:
                del self._subscribers[connection.stream]
        if connection.unpacker is not None:
            self._managers.forget(connection.number)
            self._expected = [entry for entry in self._expected if entry[2] != connection.number]

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(connection)
        if events & selectors.EVENT_READ and not connection.closed:
            try:
                data = connection.socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(connection)
            elif connection.unpacker is None:
                self._subscribe(connection, data)
            else:
                self._read_calls(connection, data)

    def _send(self, connection: Connection, parts: Sequence[Buffer]) -> None:
        """Send now what the socket takes, the rest when it can."""
        if connection.closed:
            return
        views = [memoryview(part) for part in parts]
        if not connection.backlog:
            try:
                sent = connection.socket.sendmsg(views)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection)
                return
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if not views:
                return
            views[0] = views[0][sent:]
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        connection.backlog.extend(views)
        connection.waiting += sum(map(len, views))
        if connection.waiting > MAX_BACKLOG_BYTES:
            self._log(f"client {connection.number} reads too slowly: dropped")
            self._drop(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.backlog:
                view = connection.backlog[0]
                sent = connection.socket.send(view)
                connection.waiting -= sent
                if sent < len(view):
                    connection.backlog[0] = view[sent:]
                    return
                connection.backlog.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    # ---- streams -----------------------------------------------------------------------------------------------------

    def _subscribe(self, connection: Connection, data: bytes) -> None:
        if connection.stream:
            return  # a subscriber has nothing more to say
        connection.received += data
        if len(connection.received) < 4:
            return
        (connection.stream,) = struct.unpack_from("<I", connection.received)
        self._subscribers.setdefault(connection.stream, []).append(connection)
        for entry in self._expected:
            if entry[1] == connection.stream:
                self._expected.remove(entry)
                break
        if connection.stream == STATE_STREAM:
            self._next_free_tick = max(self._next_free_tick, time.monotonic())
            if self.world.last_state:  # a late subscriber must not wait for a frame that has gone
                self._send(connection, _framed(self.world.last_state))

    def _expect(self, stream: int) -> None:
        self._expected.append((time.monotonic() + SUBSCRIBE_WAIT_S, stream, self._context.client))

    def _end_stream(self, stream: int) -> None:
        # The sockets stay open until the client closes them: it would reconnect at once to a closed one.
        self._subscribers.pop(stream, None)
        self._expected = [entry for entry in self._expected if entry[1] != stream]

    def _watched(self, stream: int) -> bool:
        return stream in self._subscribers

    def _send_stream(self, stream: int, parts: Sequence[Buffer]) -> None:
        for connection in list(self._subscribers.get(stream, ())):
            self._send(connection, _framed(parts))

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _read_calls(self, connection: Connection, data: bytes) -> None:
        unpacker = connection.unpacker
        assert unpacker is not None
        try:
            unpacker.feed(data)
            for message in unpacker:
                if not self._is_call(message):
                    raise ValueError("not a msgpack-rpc request")
                self._call(connection, message[1], message[2], message[3])
                if connection.closed:
                    return
        except (ValueError, msgpack.UnpackException, RecursionError, MemoryError) as error:
            # Bytes that are no calls: there is no way to find the next one. This client is let go, the others live on.
            self._log(f"client {connection.number} sent no CARLA call ({type(error).__name__}: {error}): dropped")
            self._drop(connection)

    @staticmethod
    def _is_call(message: object) -> bool:
        return (
            isinstance(message, list)
            and len(message) == 4
            and message[0] == 0
            and isinstance(message[1], int)
            and 0 <= message[1] < 1 << 32
            and isinstance(message[2], str)
            and isinstance(message[3], list)
        )

    def _call(self, connection: Connection, message_id: int, name: str, arguments: list[object]) -> None:
        if arguments and isinstance(arguments[0], list) and len(arguments[0]) == 1 and isinstance(arguments[0][0], bool):
            arguments = arguments[1:]  # the client's note whether it waits for the answer
        if name == "tick_cue":
            self._parked.append((connection, message_id))
            if not self._expected:
                for waiting, number in self._take_parked():
                    self._tick(waiting, number)
            return
        self._context.client = connection.number
        error, result = call(self._context, name[:80], arguments, self._log)
        if error:
            self._log(f"client {connection.number}: {error}")
        self._send(connection, (response(message_id, error, result),))

    def _tick(self, connection: Connection, message_id: int) -> None:
        frame = self.world.tick() if self.world.settings.synchronous else self.world.frame + 1
        answer = response(message_id, None, ok(frame))
        if self._managers.by_port:
            heapq.heappush(self._held, (time.monotonic() + MANAGER_HOLD_S, next(self._numbers), connection, answer))
        else:
            self._send(connection, (answer,))


def _framed(parts: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """A stream message: its length before it."""
    return (struct.pack("<I", sum(map(len, parts))), *parts)


def _listen_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Two listening sockets on `port` and the next; 0 finds a free pair. Raises `PortInUse`."""
    for _ in range(64 if port == 0 else 1):
        rpc = _listen(host, port)
        try:
            return rpc, _listen(host, rpc.getsockname()[1] + 1)
        except (PortInUse, OverflowError):
            rpc.close()
            if port:
                raise
    raise PortInUse(f"no two neighbouring free ports found on {host}; give one with --port")


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            reason = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by you"
            raise PortInUse(
                f"port {port} on {host} {reason} (the town needs a port and the next one): choose another with --port"
            ) from error
        raise
    return listener
