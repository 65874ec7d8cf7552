"""The town's two listening sockets and everybody who is connected to them: accept, read, send, drop. One thread, no locks."""

from __future__ import annotations

import errno
import itertools
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgpack

from roadworthy.agent.town.errors import PortInUse
from roadworthy.agent.town.protocol import Wire
from roadworthy.agent.town.world import Buffer

MAX_MESSAGE_BYTES = 128 << 20  # of one call
MAX_UNREAD_BYTES = 256 << 20  # of calls that are not yet complete, of all clients together
MAX_BACKLOG_BYTES = 256 << 20  # of unsent data per connection; a client that reads nothing for so long is dropped
MAX_CONNECTIONS = 512
READ_BYTES = 1 << 18


@dataclass
class Connection:
    """One client's socket and what is still to be sent on it."""

    socket: socket.socket
    number: int
    unpacker: msgpack.Unpacker | None  # None: a stream
    stream: int = 0  # 0 until the client has said which
    received: bytes = b""
    fed: int = 0  # bytes given to the unpacker so far
    unread: int = 0  # of these, bytes of a call that is not complete yet
    backlog: deque[memoryview] = field(default_factory=deque)
    waiting: int = 0  # bytes in the backlog
    closed: bool = False


class Connections:
    """Sockets of one server. `on_data(connection, bytes)` is called for what comes in, `on_gone(connection)` after a drop."""

    def __init__(
        self,
        host: str,
        port: int,
        on_data: Callable[[Connection, bytes], None],
        on_gone: Callable[[Connection], None],
        log: Callable[[str], None],
    ) -> None:
        """Listen on `port` and the next one (0: a free pair). Raises `PortInUse`."""
        self._on_data, self._on_gone, self._log = on_data, on_gone, log
        self._listeners = _listen_pair(host, port)
        self.port: int = self._listeners[0].getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count(1)
        self._open: dict[int, Connection] = {}
        self._unread = 0
        for listener, accept in zip(self._listeners, (self._accept_rpc, self._accept_stream), strict=True):
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, accept)

    def serve(self, patience_s: float) -> bool:
        """Handle what is ready, waiting at most `patience_s` for it; returns whether there was anything."""
        ready = self._selector.select(patience_s)
        for key, events in ready:
            if isinstance(key.data, Connection):
                self._attend(key.data, events)
            else:
                key.data()
        return bool(ready)

    def send(self, connection: Connection, parts: Sequence[Buffer]) -> None:
        """Send now what the socket takes, the rest when it can."""
        if connection.closed:
            return
        views = [memoryview(part) for part in parts if len(part)]
        if not connection.backlog:
            try:
                sent = connection.socket.sendmsg(views)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(connection)
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
            self.drop(connection)

    def host_of(self, number: int) -> str | None:
        """The address that a connection comes from; None when it is gone."""
        connection = self._open.get(number)
        try:
            return str(connection.socket.getpeername()[0]) if connection else None
        except OSError:  # it is about to be dropped
            return None

    def drop(self, connection: Connection) -> None:
        """Close one connection; the others do not notice."""
        if connection.closed:
            return
        connection.closed = True
        self._open.pop(connection.number, None)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.backlog.clear()
        self._unread -= connection.unread
        self._on_gone(connection)

    def close(self) -> None:
        """Close every socket."""
        for connection in list(self._open.values()):
            self.drop(connection)
        for listener in self._listeners:
            listener.close()
        self._selector.close()

    def read(self, connection: Connection, data: bytes) -> Iterator[Wire]:
        """The msgpack values that are complete with `data`. Raises ValueError when clients hoard too much unfinished."""
        unpacker = connection.unpacker
        assert unpacker is not None
        unpacker.feed(data)
        connection.fed += len(data)
        yield from unpacker
        before, connection.unread = connection.unread, connection.fed - unpacker.tell()
        self._unread += connection.unread - before
        if self._unread > MAX_UNREAD_BYTES:
            raise ValueError(f"more than {MAX_UNREAD_BYTES} bytes of unfinished calls")

    def _accept_rpc(self) -> None:
        unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            max_buffer_size=MAX_MESSAGE_BYTES,
            unicode_errors="surrogateescape",
            max_ext_len=0,
            max_map_len=1 << 12,
        )
        self._accept(self._listeners[0], unpacker)

    def _accept_stream(self) -> None:
        self._accept(self._listeners[1], None)

    def _accept(self, listener: socket.socket, unpacker: msgpack.Unpacker | None) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # gone again before it was taken
        if len(self._open) >= MAX_CONNECTIONS:
            accepted.close()
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, next(self._numbers), unpacker)
        self._open[connection.number] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _attend(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(connection)
        if events & selectors.EVENT_READ and not connection.closed:
            try:
                data = connection.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._on_data(connection, data)
            else:
                self.drop(connection)

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
            self.drop(connection)
            return
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)


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
