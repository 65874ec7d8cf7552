"""Runs work that talks to a simulator in a process of its own, and starts it again when that process dies.

CARLA's client library can abort or hang its process at any time. The work must therefore be resumable: a task that is
called again goes on after what it has already finished.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from roadworthy.runtime.errors import BadInput, RoadworthyError

Report = Callable[[Any], None]

SILENCE_S = 120.0  # [s] a worker that reports nothing for so long hangs; compiling the renderer takes its time
POLL_S = 0.5  # [s]
LOG_LINES = 15  # of the worker's output in an error message
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class Cancelled(Exception):
    """The work was called off from elsewhere."""


class WorkerFailed(RoadworthyError):
    """A worker died or failed again and again."""


def supervise(
    task: Callable[..., Any],
    *arguments: object,
    on_report: Callable[[Any], bool] = lambda _: False,
    on_restart: Callable[[str], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    attempts: int = 3,
    silence_s: float = SILENCE_S,
) -> Any:
    """Return `task(report, *arguments)`, run in a spawned process; repeat it when the process dies, hangs or loses its server.

    Args:
        task: a function at the top level of a module; it calls `report(message)` at least every `silence_s`.
        arguments: anything that pickles.
        on_report: receives each message here; returns True if the work has moved on, so that earlier failures no longer count.
        on_restart: is told why, before each repetition.
        cancelled: is asked twice a second; once it says so the worker is killed and `Cancelled` is raised.
        attempts: failures in a row without progress before giving up.
        silence_s: seconds without a message after which a worker counts as hung.

    Raises the task's own `BadInput` at once; `WorkerFailed` with the end of the worker's output otherwise.
    """
    failures = 0
    while True:
        with tempfile.TemporaryDirectory(prefix="roadworthy-worker-") as folder:
            log = Path(folder) / "worker.log"
            kind, value, progressed = _attempt(task, arguments, on_report, cancelled, silence_s, log)
            if kind == "done":
                return value
            if kind == "bad input":
                raise BadInput(value)
            failures = 1 if progressed else failures + 1
            if kind == "error" or failures >= attempts:
                raise WorkerFailed(f"{value} ({failures} of {attempts} attempts){tail(log)}")
            on_restart(value)
            time.sleep(min(2.0**failures / 4, 5.0))


def _attempt(
    task: Callable[..., Any],
    arguments: tuple[object, ...],
    on_report: Callable[[Any], bool],
    cancelled: Callable[[], bool],
    silence_s: float,
    log: Path,
) -> tuple[str, Any, bool]:
    """Run the task once: ("done", result), ("bad input" | "error" | "retry", message); and whether it moved on."""
    context = multiprocessing.get_context("spawn")  # a fork would share the parent's threads and libraries half-way
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, os.getpid(), str(log), task, arguments), daemon=False)
    process.start()
    sender.close()
    progressed = False
    heard = time.monotonic()
    try:
        while time.monotonic() - heard < silence_s:
            if cancelled():
                process.kill()
                raise Cancelled
            if not receiver.poll(POLL_S):
                continue
            heard = time.monotonic()
            try:
                kind, value = receiver.recv()
            except EOFError:
                process.join()
                return "retry", f"the simulator's client died ({death(process.exitcode)})", progressed
            if kind != "report":
                return kind, value, progressed
            progressed |= on_report(value)
        return "retry", f"the simulator's client hung: nothing happened for {silence_s:.0f} s", progressed
    finally:
        if process.is_alive():
            process.join(1.0)
        if process.is_alive():
            process.kill()
        process.join()
        receiver.close()


def tail(log: Path) -> str:
    """Return the end of a worker's output as further lines of an error message; empty if it said nothing."""
    output = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return "\n".join(["", "the worker's last output:", *output[-LOG_LINES:]]) if output else ""


def death(exit_code: int | None) -> str:
    """Say how a process ended: its signal or its exit code."""
    return signal.Signals(-exit_code).name if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"


def _work(sender: Connection, parent: int, log: str, task: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    """Run in the worker: send what becomes of the task, then leave without the clean-up that crashes the client."""
    enter_worker(parent, log)
    try:
        outcome: tuple[str, Any] = ("done", task(lambda message: sender.send(("report", message)), *arguments))
    except BadInput as error:
        outcome = ("bad input", str(error))
    except RoadworthyError as error:
        outcome = ("retry", str(error))
    except RuntimeError as error:  # what the client raises for every failure of the server
        traceback.print_exc()
        outcome = ("retry", f"the simulator's client failed: {error}")
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        traceback.print_exc()
        outcome = ("error", f"the worker failed: {type(error).__name__}: {error}")
    sender.send(outcome)
    sender.close()
    os._exit(0)


def enter_worker(parent: int, log: str) -> None:
    """Make this process a worker: it dies with its `parent`, leaves Ctrl-C to it, and writes what it says to `log`."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the task puts in temporary files goes when the parent removes this folder, however the worker ends.
    os.environ["TMPDIR"] = tempfile.tempdir = str(Path(log).parent)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)  # the C++ client writes warnings straight to the terminal
    os.dup2(output, 2)


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
