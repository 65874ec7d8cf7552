"""Jobs with needs and cores, the order to run them in, and how long the rest will take. Pure planning: nothing runs here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roadworthy.runtime.errors import RoadworthyError


@dataclass(frozen=True)
class Job:
    """One step of a study that runs in a process of its own."""

    name: str  # unique in the study, also the name of its marker and log
    stage: str  # function in eval.stages
    text: str  # what it does, for people
    config: Mapping[str, Any]  # JSON; all that decides the result
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()  # files and folders it writes, relative to the study folder
    cores: int = 1
    seconds: float = 1.0  # [s] expected; only the progress and the order depend on it


@dataclass(frozen=True)
class Order:
    """The jobs by priority: those with the longest chain of work behind them first."""

    jobs: Sequence[Job]
    behind_s: Mapping[str, float] = field(repr=False)  # [s] the job and the longest chain that waits for it


def order(jobs: Sequence[Job]) -> Order:
    """Check the jobs and put them in order of their critical path. Raises `RoadworthyError` for unknown needs or a circle."""
    by_name = {job.name: job for job in jobs}
    if len(by_name) != len(jobs):
        raise RoadworthyError("two jobs of the study have one name")
    followers: dict[str, list[str]] = {name: [] for name in by_name}
    for job in jobs:
        for need in job.needs:
            if need not in by_name:
                raise RoadworthyError(f"job {job.name} needs {need}, which the study does not have")
            followers[need].append(job.name)
    behind: dict[str, float] = {}
    open_names: set[str] = set()

    def measure(name: str) -> float:
        if name in open_names:
            raise RoadworthyError(f"job {name} needs itself, by way of others")
        if name not in behind:
            open_names.add(name)
            behind[name] = by_name[name].seconds + max((measure(other) for other in followers[name]), default=0.0)
            open_names.discard(name)
        return behind[name]

    for name in by_name:
        measure(name)
    return Order(sorted(jobs, key=lambda job: -behind[job.name]), behind)


def startable(order: Order, done: Collection[str], running: Collection[str], free_cores: int, cores: int) -> list[Job]:
    """Choose the jobs to start now on `free_cores` of `cores`.

    A job that wants more cores than the machine has gets all of them. No job overtakes a ready one of higher priority that
    waits for cores: else a job for two cores would wait for ever behind jobs for one.
    """
    chosen = []
    for job in order.jobs:
        if job.name in done or job.name in running or not all(need in done for need in job.needs):
            continue
        wanted = min(job.cores, cores)
        if wanted > free_cores:
            break
        free_cores -= wanted
        chosen.append(job)
    return chosen


def time_left(order: Order, done: Collection[str], running: Mapping[str, float], cores: int) -> float:
    """Play the rest of the plan through: seconds until the last job ends, by the jobs' expected seconds.

    `running` gives the fraction done (0..1) of each job under way.
    """
    by_name = {job.name: job for job in order.jobs}
    finished = set(done)
    ends = {name: by_name[name].seconds * (1 - fraction) for name, fraction in running.items()}
    now, used = 0.0, sum(min(by_name[name].cores, cores) for name in ends)
    while len(finished) < len(order.jobs):
        for job in startable(order, finished, ends, cores - used, cores):
            ends[job.name] = now + job.seconds
            used += min(job.cores, cores)
        if not ends:
            break
        name = min(ends, key=ends.__getitem__)
        now = max(now, ends.pop(name))
        used -= min(by_name[name].cores, cores)
        finished.add(name)
    return now
