"""A connection to a CARLA server through the unmodified client, in synchronous mode; starts the embedded town if none is named.

The client library can abort the whole process (a lost server while a Traffic Manager lives, some orders of clean-up), so
long jobs open their session in a worker process that someone watches: see `roadworthy.agent.supervisor`.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from roadworthy.agent.carla_client import carla
from roadworthy.runtime.errors import BadInput, RoadworthyError

if TYPE_CHECKING:
    from roadworthy.agent.town.process import TownProcess

FIXED_DELTA_S = 0.1  # [s] simulated time of one tick
RELOAD_TICKS = 60  # after which an episode begins; more than the client needs to see that the map was loaded
DEFAULT_PORT = 2000  # CARLA's own
PROBE_TIMEOUT_S = 3.0  # [s] to find out whether anything listens
LOAD_TIMEOUT_S = 120.0  # [s] a real CARLA server takes its time to load a map
START_HINT = "start one (CarlaUE4.sh, or `roadworthy town --port {port}`), or leave --carla out to use the embedded town"


class SimulatorLost(RoadworthyError):
    """The server stopped answering; a fresh session may go on."""


class Session:
    """One client on one server. Use it as a context manager, or call `close`."""

    def __init__(self, client: carla.Client, address: str, town: TownProcess | None = None, timeout_s: float = 20.0) -> None:
        """Take over a connected `client`; `Session.open` is the usual way in."""
        self.client = client
        self.address = address
        self.town = town
        self.timeout_s = timeout_s  # [s] for every call
        self.fixed_delta_s = FIXED_DELTA_S  # [s] simulated time of one tick
        self.frame = 0  # of the simulator, after the last tick
        self.world: carla.World = None
        self.map: carla.Map = None
        self._actors: list[carla.Actor] = []
        self._original: carla.WorldSettings = None
        self._cache = tempfile.TemporaryDirectory(prefix="roadworthy-carla-", ignore_cleanup_errors=True)

    @classmethod
    def open(
        cls,
        carla: str | None = None,
        map: str | None = None,
        seed: int = 0,
        *,
        fixed_delta_s: float = FIXED_DELTA_S,
        timeout_s: float = 20.0,
    ) -> Self:
        """Connect to the server at `carla` ("HOST:PORT"), or to an embedded town of our own if None, and load `map`.

        `map` is a name that the server has, or the path of an OpenDRIVE file; None keeps what is loaded. `seed` seeds an
        embedded town. Raises `BadInput` for no server there, another CARLA version or an unknown map.
        """
        town = None
        if carla is None:
            town = _start_town(map or "Grid01", seed)
            carla = f"127.0.0.1:{town.port}"
        session = None
        try:
            client = connect(carla, timeout_s)
            session = cls(client, carla, town, timeout_s)
            session.fixed_delta_s = fixed_delta_s
            session._enter(map if town is None else None)
            if town is not None:
                session.reload()  # it has ticked by its own clock so far
        except BaseException:
            if session is not None:
                session.close()
            elif town is not None:
                town.close()
            raise
        return session

    def load_map(self, name: str) -> None:
        """Load another map (a name, or an OpenDRIVE file), in synchronous mode. Raises `BadInput` for an unknown one.

        Never with live traffic: a client with a Traffic Manager crashes. Every actor is gone afterwards.
        """
        self._load_anew(name)

    def reload(self) -> None:
        """Start the loaded map afresh, without actors and at the first tick: what follows can be repeated exactly.

        Never with live traffic: a client with a Traffic Manager crashes.
        """
        self._load_anew("")

    def _load_anew(self, name: str) -> None:
        before = self.world.get_snapshot().frame
        self._enter(name)
        if self.town is None:
            return
        # The client ticks until it sees the new episode, the more often the busier the machine. Noise and rain go by the ticks
        # of an episode, so fill them up to a number that is always the same. A town counts its frames on, over all episodes.
        while self.tick() < before + RELOAD_TICKS:
            pass

    def _enter(self, name: str | None) -> None:
        # The navigation mesh that the client downloads must not litter the user's home.
        self.client.set_files_base_folder(self._cache.name)
        try:
            self.world = self.client.get_world()
            if self._original is None:
                self._original = self.world.get_settings()
            if name is not None:  # "" reloads
                self.client.set_timeout(LOAD_TIMEOUT_S)
                self.world = self._load(name)
                self.client.set_timeout(self.timeout_s)
                self._actors.clear()
            self.map = self.world.get_map()
            settings = self.world.get_settings()
            if not settings.synchronous_mode or settings.fixed_delta_seconds != self.fixed_delta_s:
                settings.synchronous_mode = True
                settings.fixed_delta_seconds = self.fixed_delta_s
                self.world.apply_settings(settings)  # takes a few ticks, how many depends on timing
        except RuntimeError as error:
            raise self._lost(error) from error

    def _load(self, name: str) -> carla.World:
        if not name:
            return self.client.reload_world(False)
        # A strange server may have been left without rendering. A town of ours stays synchronous: its episodes begin alike.
        reset = self.town is None
        if name.endswith(".xodr"):
            path = Path(name)
            if not path.is_file():
                raise BadInput(f"{path}: no such OpenDRIVE file")
            return self.client.generate_opendrive_world(path.read_text(encoding="utf-8"), reset_settings=reset)
        available = {entry.rsplit("/", 1)[-1]: entry for entry in self.client.get_available_maps()}
        if name.rsplit("/", 1)[-1] not in available:
            raise BadInput(
                f"the CARLA server at {self.address} has no map {name!r}, expected one of: {', '.join(sorted(available))}"
            )
        return self.client.load_world(available[name.rsplit("/", 1)[-1]], reset_settings=reset)

    @property
    def map_name(self) -> str:
        """The map's name without its folders."""
        return str(self.map.name).rsplit("/", 1)[-1]

    def tick(self) -> int:
        """Advance the simulation by one step and return the frame number. Raises `SimulatorLost`."""
        try:
            self.frame = int(self.world.tick(self.timeout_s))
            return self.frame
        except RuntimeError as error:
            raise self._lost(error) from error

    def spawn(
        self, blueprint: carla.ActorBlueprint, transform: carla.Transform, attach_to: carla.Actor | None = None
    ) -> carla.Actor | None:
        """Spawn an actor that `close` destroys; None where something is in the way."""
        actor = self.world.try_spawn_actor(blueprint, transform, attach_to=attach_to)
        if actor is not None:
            self._actors.append(actor)
        return actor

    def destroy(self, *actors: carla.Actor) -> None:
        """Destroy actors, sensors stopped first."""
        for actor in actors:
            if isinstance(actor, carla.Sensor) and actor.is_listening():
                actor.stop()
        gone = {actor.id for actor in actors}
        self.client.apply_batch_sync([carla.command.DestroyActor(actor_id) for actor_id in gone], False)
        self._actors = [actor for actor in self._actors if actor.id not in gone]

    def close(self) -> None:
        """Destroy what was spawned, give the server its settings back, stop an embedded town. Safe to call twice."""
        try:
            if self.world is not None and (self.town is None or self.town.alive()):
                self.client.set_timeout(min(self.timeout_s, 5.0))
                with contextlib.suppress(RuntimeError):  # a server that died has nothing left to restore
                    self.destroy(*reversed(self._actors))
                    if self.town is None and self._original is not None:
                        self.world.apply_settings(self._original)
        finally:
            self.world = self.map = None
            if self.town is not None:
                self.town.close()
            self._cache.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _lost(self, error: RuntimeError) -> SimulatorLost:
        return SimulatorLost(f"the CARLA server at {self.address} stopped answering ({error}); start it again and repeat")


def free_port() -> int:
    """Return a TCP port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def parse_address(address: str) -> tuple[str, int]:
    """Split "HOST:PORT" (or "HOST", with CARLA's default port). Raises `BadInput`."""
    host, _, port = address.rpartition(":") if ":" in address else (address, "", str(DEFAULT_PORT))
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65535:  # streaming takes the next port
        raise BadInput(f"--carla {address!r} is not an address, expected HOST:PORT such as 127.0.0.1:2000")
    return host, int(port)


def connect(address: str, timeout_s: float) -> carla.Client:
    """Return a client of the CARLA server at `address` (HOST:PORT). Raises `BadInput` when none of its version answers."""
    host, port = parse_address(address)
    hint = START_HINT.format(port=port)
    try:
        socket.create_connection((host, port), PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise BadInput(f"no CARLA server answers at {host}:{port} ({error}): {hint}") from error
    client = carla.Client(host, port)
    client.set_timeout(min(timeout_s, 10.0))
    try:
        server, own = client.get_server_version(), client.get_client_version()
    except RuntimeError as error:
        raise BadInput(f"what listens at {host}:{port} does not answer as a CARLA server ({error}): {hint}") from error
    if server != own:
        raise BadInput(
            f"the CARLA server at {host}:{port} is version {server}, the installed client is {own}; they must be the same: "
            f"start a {own} server"
        )
    client.set_timeout(timeout_s)
    return client


def _start_town(map_name: str, seed: int) -> TownProcess:
    from roadworthy.agent.town import maps
    from roadworthy.agent.town.errors import TownDied, TownError
    from roadworthy.agent.town.process import TownProcess

    if not map_name.endswith(".xodr") and map_name not in maps.names():
        raise BadInput(
            f"the town has no map {map_name!r}, expected one of: {', '.join(maps.names())}, or the path of an .xodr file"
        )
    if map_name.endswith(".xodr") and not Path(map_name).is_file():
        raise BadInput(f"{map_name}: no such OpenDRIVE file")
    try:
        return TownProcess(map=map_name, seed=seed)
    except TownDied as error:
        raise RoadworthyError(f"the embedded town did not start: {error}") from error
    except TownError as error:
        raise BadInput(str(error)) from error
