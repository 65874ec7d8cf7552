"""Jobs in worker processes of their own: a client library that aborts takes its worker down, not the run.

A job whose process dies (SIGABRT, SIGSEGV, killed) is run again, a bounded number of times; a job that raises is not, its error
is raised here. Jobs must therefore be written so that a second run goes on where the first stopped.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from roadworthy.runtime.errors import BadInput, RoadworthyError

Progress = Callable[[str, float], None]
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class WorkFunction(Protocol):
    """A module-level function; it gets the job's arguments and a callback for its progress (text, fraction 0..1)."""

    def __call__(self, *args: Any, progress: Progress) -> Any:
        """Do the job and return a result that can be sent between processes."""
        ...


@dataclass(frozen=True)
class Job:
    """One piece of work for a process of its own."""

    name: str
    function: WorkFunction
    args: tuple[Any, ...] = ()


@dataclass
class _Running:
    process: SpawnProcess
    pipe: Connection
    index: int
    hung: bool = False
    heard: float = field(default_factory=time.monotonic)


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    attempts: int = 3,
    silence_s: float = 300.0,
    progress: Progress | None = None,
) -> list[Any]:
    """Run `jobs` in at most `workers` processes at a time and return their results in order.

    A process that dies, or reports nothing for `silence_s` (then it is killed), is started again, up to `attempts` times in
    all; after that `RoadworthyError` names the job. An error raised by a job is raised here, after the others were ended.
    """
    context = multiprocessing.get_context("spawn")
    results: list[Any] = [None] * len(jobs)
    fractions = [0.0] * len(jobs)
    tries = [0] * len(jobs)
    waiting = list(range(len(jobs)))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index = waiting.pop(0)
                tries[index] += 1
                running.append(_start(context, jobs[index], index))
            for worker in [w for w in running if _is_ready(w, running)]:
                message = _receive(worker)
                job = jobs[worker.index]
                if message is None:
                    if time.monotonic() - worker.heard < silence_s and worker.process.is_alive():
                        continue
                    running.remove(worker)
                    _again_or_fail(worker, job, tries[worker.index], attempts, silence_s)
                    waiting.insert(0, worker.index)
                    continue
                kind, content = message
                if kind == "progress":
                    text, fraction = content
                    fractions[worker.index] = fraction
                    if progress:
                        progress(f"{job.name}: {text}", sum(fractions) / len(jobs))
                    continue
                running.remove(worker)
                worker.process.join()
                if kind == "error":
                    error, trace = content
                    error.add_note(f"in the worker process of {job.name}:\n{trace}")
                    raise error
                results[worker.index], fractions[worker.index] = content, 1.0
    finally:
        for worker in running:
            _end(worker.process)
    return results


def _start(context: multiprocessing.context.SpawnContext, job: Job, index: int) -> _Running:
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, there, os.getpid()), name=job.name, daemon=True)
    process.start()
    there.close()
    return _Running(process, here, index)


def _is_ready(worker: _Running, running: Sequence[_Running]) -> bool:
    """Whether `worker` has a message or must be looked after; waits up to half a second for any of `running`."""
    wait([w.pipe for w in running], timeout=0.5 if worker is running[0] else 0)
    return worker.pipe.poll() or not worker.process.is_alive() or time.monotonic() - worker.heard > 1.0


def _receive(worker: _Running) -> tuple[str, Any] | None:
    """Return the next message, or None when there is none (any more)."""
    try:
        if worker.pipe.poll():
            message: tuple[str, Any] = worker.pipe.recv()
            worker.heard = time.monotonic()
            return message
    except EOFError:
        worker.process.join(5.0)
    return None


def _again_or_fail(worker: _Running, job: Job, tries: int, attempts: int, silence_s: float) -> None:
    hung = worker.process.is_alive()
    _end(worker.process)
    if tries >= attempts:
        cause = f"was silent for {silence_s:.0f} s" if hung else f"died ({_exit(worker.process.exitcode)})"
        raise RoadworthyError(
            f"{job.name}: its process {cause} {tries} times; what it had finished is kept. See its messages above, "
            "check the simulator, and run the command again to go on"
        )


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _end(process: SpawnProcess) -> None:
    """End a worker: politely, so that it can end its own simulator, then not."""
    if process.is_alive():
        process.terminate()
        process.join(5.0)
    if process.is_alive():
        process.kill()
        process.join()


def _work(job: Job, pipe: Connection, parent: int) -> None:
    """Run in the worker process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # no orphan when the parent is killed
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    signal.signal(signal.SIGTERM, _leave)
    try:
        result = job.function(*job.args, progress=lambda text, fraction: pipe.send(("progress", (text, fraction))))
        pipe.send(("result", result))
    except (RoadworthyError, BadInput) as error:
        pipe.send(("error", (error, traceback.format_exc())))
    except Exception as error:  # noqa: BLE001  # everything must reach the parent, with its traceback
        pipe.send(("error", (RoadworthyError(f"{job.name}: {type(error).__name__}: {error}"), traceback.format_exc())))
    pipe.close()


def _leave(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)
