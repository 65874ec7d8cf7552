"""Work on the machines of a Ray cluster: the same supervised processes as here, started by a host on each machine.

Ray only places hosts and carries messages. What a host does is what this machine does without Ray: it starts a process for the
work and watches it. Files stay where they are: every machine must see the folders that are worked in under the same path, and
have the same version of this package; both are checked. Nothing of a user's is pickled: functions travel by name, arguments
are our own dataclasses of names, numbers and paths.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from roadworthy.agent.parallel import Progress, Task, run_tasks
from roadworthy.agent.supervisor import Cancelled, Report, WorkerFailed, supervise
from roadworthy.export.revision import roadworthy_version
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError

LOCAL = "local"  # instead of an address: a Ray of our own on this machine
OBJECT_STORE_BYTES = 128 * 2**20  # of a Ray of our own; only small messages pass through it
NEWS_WAIT_S = 0.5  # [s] that a host waits for news before it says that there is none
PROBE_TIMEOUT_S = 5.0  # [s] to find out whether anything listens
CHECK_TIMEOUT_S = 60.0  # [s] for a machine to answer
STOP_GRACE_S = 15.0  # [s] between asking a host to stop its work and killing it


class HostLost(RoadworthyError):
    """A host's process or machine died."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    cores: int


@dataclass(frozen=True)
class News:
    """What a host has to say since it was last asked."""

    messages: Sequence[Any]
    outcome: tuple[str, Any] | None  # ("done", result), ("bad input" | "failed" | "retry", message); None while it works


class Cluster:
    """A connection to a Ray cluster. Use it as a context manager, or call `close`."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Take over the connection that `open` made."""
        self.nodes = tuple(nodes)

    @classmethod
    def open(cls, address: str, folder: Path, *, cores: int | None = None) -> Cluster:
        """Connect to the cluster at `address` (HOST:PORT, or "auto" on one of its machines), or start one: "local".

        `folder` is made if need be, and will be worked in; see `check`. `cores` are those of a local cluster, None = what Ray
        finds. Raises `BadInput` when no cluster answers, has no cores or does not see the folder; `MissingExtra` without Ray.
        """
        ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        if address == LOCAL:
            options |= {"num_cpus": cores, "object_store_memory": OBJECT_STORE_BYTES}
        else:
            del options["include_dashboard"]
        try:
            if address not in (LOCAL, "auto"):  # Ray itself would wait for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), PROBE_TIMEOUT_S).close()
            ray.init(address=address, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise BadInput(
                f"no Ray cluster answers at {address!r} ({error}); expected HOST:PORT, auto or local (ray start --head)"
            ) from error
        found = [
            Node(str(node["NodeID"]), str(node["NodeManagerHostname"]), int(node["Resources"].get("CPU", 0)))
            for node in ray.nodes()
            if node["Alive"]
        ]
        cluster = cls([node for node in found if node.cores > 0])
        try:
            if not cluster.nodes:
                raise BadInput(f"the Ray cluster at {address!r} has no CPU to work on; start its machines with --num-cpus")
            folder.mkdir(parents=True, exist_ok=True)
            cluster.check(folder)
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def cores(self) -> int:
        """The cores of all machines."""
        return sum(node.cores for node in self.nodes)

    @property
    def widest(self) -> int:
        """The cores of the largest machine: no piece of work gets more."""
        return max(node.cores for node in self.nodes)

    def check(self, folder: Path) -> None:
        """Raise `BadInput` unless every machine sees `folder` under this path and has this version of the package."""
        ray = _ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = folder.absolute() / f".cluster-{uuid.uuid4().hex}"
        probe.touch()
        try:
            look = ray.remote(_look)
            answers = [
                look.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
                    str(probe)
                )
                for node in self.nodes
            ]
            for node, answer in zip(self.nodes, answers, strict=True):
                try:
                    sees, version = ray.get(answer, timeout=CHECK_TIMEOUT_S)
                except ray.exceptions.RayError as error:
                    raise BadInput(
                        f"{node.name} cannot run roadworthy ({str(error).strip().splitlines()[-1]}); install this version there"
                    ) from error
                if version != roadworthy_version():
                    raise BadInput(f"{node.name} has roadworthy {version}, this machine {roadworthy_version()}; install one")
                if not sees:
                    raise BadInput(f"{node.name} does not see {folder.absolute()}; put it on a file system that all share")
        finally:
            probe.unlink()

    def host(self, cores: int, function: Callable[..., Any], *arguments: Any) -> Host:
        """Start `function(tell, cancelled, *arguments)` on a machine with `cores` free cores, as soon as there is one."""
        actor = _ray().remote(_HostProcess).options(num_cpus=min(cores, self.widest), max_restarts=0).remote()
        return Host(actor, function, arguments)

    def run_tasks(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        attempts: int = 3,
        progress: Progress | None = None,
        on_restart: Callable[[str], None] = lambda _: None,
    ) -> list[Any]:
        """Run `tasks` as `roadworthy.agent.parallel.run_tasks` does, each on one core of the cluster."""
        return run_tasks(
            tasks, workers=workers, attempts=attempts, progress=progress, on_restart=on_restart, watch=self.supervise
        )

    def supervise(
        self,
        task: Callable[..., Any],
        *arguments: object,
        on_report: Callable[[Any], bool] = lambda _: False,
        on_restart: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
        attempts: int = 3,
    ) -> Any:
        """Do what `roadworthy.agent.supervisor.supervise` does on one of the machines; when that dies, on another one."""
        failures = 0
        while True:
            host = self.host(1, _supervised, task, arguments, attempts)
            moved_on = False
            try:
                while (news := host.news(NEWS_WAIT_S)).outcome is None:
                    for message in news.messages:
                        moved_on |= on_report(message)
                    if cancelled():
                        raise Cancelled
                for message in news.messages:
                    on_report(message)
                kind, value = news.outcome
                if kind == "done":
                    return value
                raise (BadInput if kind == "bad input" else WorkerFailed)(value)
            except HostLost as error:
                failures = 1 if moved_on else failures + 1
                if failures >= attempts:
                    raise WorkerFailed(f"{error} ({failures} of {attempts} attempts)") from error
                on_restart(str(error))
            finally:
                host.stop()

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        _ray().shutdown()

    def __enter__(self) -> Cluster:
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the cluster."""
        self.close()


class Host:
    """One piece of work on the cluster, seen from here."""

    def __init__(self, actor: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Have `actor` do the work; it waits for a machine with free cores."""
        self._actor = actor
        self._started = actor.start.remote(str(Path.cwd()), function, arguments)
        self._question = actor.news.remote(NEWS_WAIT_S)
        self.placed = False  # whether a machine has taken it

    def news(self, timeout_s: float = 0.0) -> News:
        """Return what there is to know after at most `timeout_s`. Raises `HostLost` when the machine or the host died."""
        ray = _ray()
        ready, _ = ray.wait([self._question], timeout=timeout_s)
        if not ready:
            return News((), None)
        try:
            ray.get(self._started)
            messages, outcome = ray.get(self._question)
        except ray.exceptions.RayError as error:
            raise HostLost(f"a worker of the cluster died ({str(error).strip().splitlines()[0]})") from error
        self.placed = True
        if outcome is None:
            self._question = self._actor.news.remote(NEWS_WAIT_S)
        return News(messages, outcome)

    def stop(self) -> None:
        """Stop the work, politely and then not. Safe to call when it is over."""
        ray = _ray()
        if self.placed:
            # A host that is dead or deaf is left to the kill.
            with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
                ray.get(self._actor.cancel.remote(STOP_GRACE_S), timeout=STOP_GRACE_S + 1)
        ray.kill(self._actor)


class _HostProcess:
    """Lives in a Ray worker: does one piece of work in a thread, and answers how far it is."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._outcome: tuple[str, Any] | None = None
        self._thread: threading.Thread | None = None

    def start(self, working_folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._thread = threading.Thread(target=self._work, args=(working_folder, function, arguments), daemon=True)
        self._thread.start()

    def news(self, wait_s: float) -> tuple[list[Any], tuple[str, Any] | None]:
        assert self._thread is not None, "start() comes first"
        self._thread.join(wait_s)
        outcome = self._outcome  # before the messages: none may come after it
        messages = []
        while not self._messages.empty():
            messages.append(self._messages.get())
        return messages, outcome

    def cancel(self, grace_s: float) -> None:
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join(grace_s)

    def _work(self, working_folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            if not Path(working_folder).is_dir():
                raise BadInput(f"a machine of the cluster does not see {working_folder}; work in a folder that all share")
            os.chdir(working_folder)  # paths may be relative
            outcome = ("done", function(self._messages.put, self._cancelled.is_set, *arguments))
        except BadInput as error:
            outcome = ("bad input", str(error))
        except Retry as error:
            outcome = ("retry", str(error))
        except RoadworthyError as error:
            outcome = ("failed", str(error))
        except Cancelled:
            outcome = ("failed", "cancelled")
        except BaseException as error:  # noqa: BLE001 - whoever asked for the work raises it
            outcome = ("failed", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        self._outcome = outcome


class Retry(RoadworthyError):
    """Work on a host failed in a way that another attempt may mend."""


def _supervised(
    tell: Report, cancelled: Callable[[], bool], task: Callable[..., Any], arguments: tuple[Any, ...], attempts: int
) -> Any:
    """Supervise a task on a host; its restarts do not count as news."""

    def on_report(message: Any) -> bool:
        tell(message)
        return bool(message[2])  # see parallel.Task: whether earlier failures are forgiven

    return supervise(task, *arguments, on_report=on_report, cancelled=cancelled, attempts=attempts)


def _look(probe: str) -> tuple[bool, str]:
    """Tell whether this machine sees the file `probe`, and its version of the package."""
    deadline = time.monotonic() + 5.0  # a network file system takes its time to show a new file
    while not Path(probe).exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return Path(probe).exists(), roadworthy_version()


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "working on a cluster") from error
    module: ModuleType = ray
    return module
