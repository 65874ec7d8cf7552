"""The server: one loop in which a call is read, made and answered, and in which a tick runs inside the call that asks for it.

What needs waiting for is parked: a tick waits for subscribers that have been announced (`streams.py`). While a client runs a
Traffic Manager a tick takes at least `MANAGER_HOLD_S` from call to answer: the manager's loop in the client goes to sleep after
each step and can miss the wake-up of the next one when that comes at once. Other calls are answered meanwhile.

A tick is answered when all its data are out. Only for a client with a Traffic Manager the answer goes out before cameras and
rays look: the manager's step then overlaps with drawing, and the pictures follow at once.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable

import msgpack

from roadworthy.agent.town import batch, calls_actors, calls_refused, calls_traffic, calls_world
from roadworthy.agent.town.calls import Context, TrafficManagers, call
from roadworthy.agent.town.connections import Connection, Connections
from roadworthy.agent.town.loaded_map import MapShelf
from roadworthy.agent.town.manager_watch import ManagerWatch, wake
from roadworthy.agent.town.protocol import STATE_STREAM, Wire, ok, refusal, response
from roadworthy.agent.town.streams import Streams
from roadworthy.agent.town.world import Outlet, World

HANDLERS = (batch, calls_actors, calls_refused, calls_traffic, calls_world)  # importing them fills the table of calls
MANAGER_HOLD_S = 0.001
SHORT_HOLD_S = 0.0004  # a hold that is slept through; a longer one is spent looking
LONGEST_SLEEP_S = 1.0
MAX_NAME = 80  # characters of a call's name that are repeated in a message
Log = Callable[[str], None]


class Server:
    """A CARLA server for any number of clients. Made, it listens; `run` serves until `stop`."""

    def __init__(
        self, map_name: str, *, port: int = 0, seed: int = 0, host: str = "127.0.0.1", shelf: MapShelf | None = None, log: Log
    ) -> None:
        """Take the ports and load the map. Raises `PortInUse`, `MapRefused`."""
        self._log = log
        self._connections = Connections(host, port, self._receive, self._forget, log)
        self.port = self._connections.port
        self._streams = Streams(self._connections.send, log)
        self._order = itertools.count()
        # Ticks that wait for subscribers: when they were asked for, by whom, and their answers.
        self._parked: deque[tuple[float, Connection, int, Wire]] = deque()
        self._held: list[tuple[float, int, Connection, bytes]] = []  # answers that are held back
        self._complained: set[tuple[int, str]] = set()  # (client, call) of refusals in the log
        self._managers = TrafficManagers()
        self._watch = ManagerWatch()
        self._running = True
        outlet = Outlet(self._streams.publish, self._streams.watched, self.port + 1)
        self.world = World(shelf or MapShelf(seed), map_name, seed, outlet)
        self._context = Context(self.world, self._managers, 0, self._announce, self._streams.end)
        self._next_free_tick = time.monotonic()

    def stop(self) -> None:
        """Let `run` return soon."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while self._running:
                busy = self._connections.serve(self._patience(time.monotonic()))
                self._streams.give_up(idle=not busy)
                self._release()
                for client in self._watch.overdue(time.monotonic()):
                    self._wake_manager(client)
        finally:
            self._connections.close()

    def _patience(self, now: float) -> float:
        """How long the loop may sleep [s]."""
        wake = now + LONGEST_SLEEP_S
        if self._held:
            wake = min(wake, self._held[0][0])
        if self._parked:
            wake = min(wake, self._streams.deadline if self._streams.awaited else now)
        if self._free_running:
            wake = min(wake, self._next_free_tick)
        return max(wake - now, 0.0)

    @property
    def _free_running(self) -> bool:
        """Asynchronous mode with somebody watching: the town ticks by its own clock."""
        return not self.world.settings.synchronous and self._streams.any

    def _release(self) -> None:
        """Do what has been waiting and is due."""
        while self._parked and not self._streams.awaited:
            self._tick(*self._parked.popleft())
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, _, connection, data = heapq.heappop(self._held)
            self._connections.send(connection, (data,))
        if self._free_running and now >= self._next_free_tick:
            self._next_free_tick = max(self._next_free_tick + self.world.settings.step_s, now)
            self.world.tick()

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def _receive(self, connection: Connection, data: bytes) -> None:
        if connection.unpacker is not None:
            self._read_calls(connection, data)
        elif self._streams.receive(connection, data) and connection.stream == STATE_STREAM:
            self._next_free_tick = max(self._next_free_tick, time.monotonic())
            if self.world.last_state:  # a late subscriber must not wait for a frame that has gone
                self._streams.tell(connection, self.world.last_state)

    def _forget(self, connection: Connection) -> None:
        self._streams.forget(connection)
        if connection.unpacker is not None:
            self._managers.forget(connection.number)
            self._watch.forget(connection.number)
            self._complained = {entry for entry in self._complained if entry[0] != connection.number}

    def _announce(self, stream: int) -> None:
        self._streams.announce(stream, self._context.client)

    def _read_calls(self, connection: Connection, data: bytes) -> None:
        try:
            for message in self._connections.read(connection, data):
                if not _is_call(message):
                    raise ValueError("not a msgpack-rpc request")
                self._call(connection, message[1], message[2], message[3])
                if connection.closed:
                    return
        except (ValueError, msgpack.UnpackException, RecursionError, MemoryError) as error:
            # Bytes that are no calls: there is no way to find the next one. This client is let go, the others live on.
            self._log(f"client {connection.number} sent no CARLA call ({type(error).__name__}: {error}): dropped")
            self._connections.drop(connection)

    def _call(self, connection: Connection, message_id: int, name: str, arguments: list[Wire]) -> None:
        waits = True  # the client's note, before the arguments, whether it does not wait for the answer
        if arguments and isinstance(arguments[0], list) and len(arguments[0]) == 1 and isinstance(arguments[0][0], bool):
            waits, arguments = not arguments[0][0], arguments[1:]
        if name == "tick_cue":
            self._park(connection, message_id, None)
            return
        if name == "apply_batch":
            self._watch.commanded(connection.number)
        self._context.client = connection.number
        error, result = call(self._context, name[:MAX_NAME], arguments, self._log)
        complaint = error or (None if waits or name == "apply_batch" else refusal(result))
        if complaint and (connection.number, name) not in self._complained:
            self._complained.add((connection.number, name[:MAX_NAME]))
            self._log(f"client {connection.number}: {name[:MAX_NAME]}: {complaint}")
        if name == "apply_batch" and len(arguments) == 2 and arguments[1] is True and error is None:
            self._park(connection, message_id, result)
        else:
            self._connections.send(connection, (response(message_id, error, result),))

    # ---- ticks -------------------------------------------------------------------------------------------------------

    def _park(self, connection: Connection, message_id: int, answer: Wire) -> None:
        """A tick as soon as nobody is on the way to a stream; `answer` (None: the frame) is what its caller gets."""
        self._parked.append((time.monotonic(), connection, message_id, answer))
        if not self._streams.awaited:
            self._release()

    def _tick(self, asked_at: float, connection: Connection, message_id: int, answer: Wire) -> None:
        ticks, managed = self.world.settings.synchronous, bool(self._managers.by_port)
        if ticks:
            self.world.advance()
            if not managed:
                self.world.look()
        frame = self.world.frame if ticks else self.world.frame + 1
        data = response(message_id, None, ok(frame) if answer is None else answer)
        due = asked_at + MANAGER_HOLD_S if managed else asked_at
        left = due - time.monotonic()
        if left > SHORT_HOLD_S:
            heapq.heappush(self._held, (due, next(self._order), connection, data))
        else:
            time.sleep(max(left, 0.0))
            self._connections.send(connection, (data,))
        if ticks and managed:
            self._watch.ticked(connection.number, time.monotonic())
            self.world.look()

    def _wake_manager(self, client: int) -> None:
        for port, (_, owner) in self._managers.by_port.items():
            host = self._connections.host_of(client) if owner == client else None
            if host is not None:  # not the address that the client says: nobody is called but who has called
                wake(host, port, self._log)


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
