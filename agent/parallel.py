"""Several supervised tasks at a time: each in a worker process of its own, with one progress over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from roadworthy.agent.supervisor import Cancelled, Report, supervise

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Task:
    """One piece of work for a process of its own; see `roadworthy.agent.supervisor.supervise` for what it may do.

    The function's reports are (text, fraction 0..1, whether earlier failures are forgiven): see `reporter`.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


def reporter(report: Report) -> Progress:
    """Turn a worker's `report` into the usual progress callback (text, fraction)."""
    return lambda text, fraction: report((text, fraction, False))


def run_tasks(
    tasks: Sequence[Task],
    *,
    workers: int = 2,
    attempts: int = 3,
    progress: Progress | None = None,
    on_restart: Callable[[str], None] = lambda _: None,
    watch: Callable[..., Any] = supervise,
) -> list[Any]:
    """Run `tasks`, at most `workers` at a time, and return their results in order; `on_restart` is told why one is repeated.

    `watch` runs one of them and takes what `supervise` takes: in a process of this machine, or of a cluster's. The first error
    (see `supervise`) ends the other tasks and is raised here.
    """
    fractions = [0.0] * len(tasks)
    cancelled = threading.Event()
    lock = threading.Lock()

    def run(index: int) -> Any:
        task = tasks[index]

        def on_report(message: tuple[str, float, bool]) -> bool:
            text, fraction, moved_on = message
            with lock:
                fractions[index] = fraction
                if progress is not None:
                    progress(f"{task.name}: {text}", sum(fractions) / len(fractions))
            return moved_on

        if cancelled.is_set():
            raise Cancelled(task.name)
        result = watch(
            task.function,
            *task.arguments,
            on_report=on_report,
            on_restart=on_restart,
            cancelled=cancelled.is_set,  # another task failed, or Ctrl-C
            attempts=attempts,
        )
        fractions[index] = 1.0
        return result

    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="supervise") as pool:
        futures = [pool.submit(run, index) for index in range(len(tasks))]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in futures):
                cancelled.set()
        except BaseException:
            cancelled.set()
            raise
    errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None and not isinstance(error, Cancelled):
            raise error
    return [future.result() for future in futures]
