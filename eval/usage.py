"""How busy a study keeps the cores: processor seconds of its jobs against the seconds that the cores had."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from roadworthy.runtime.files import write_text

SAMPLE_S = 2.0  # [s] between two looks at the processes
INTERVAL_S = 10.0  # [s] of the intervals that are kept
CROWDED = 0.10  # of the machine's time taken by other programs, above which `Usage.words` says so
BUSY = 0.85  # of the cores' time in an interval, above which all of them count as busy


class CpuClock:
    """The processor time of a process and of everything it starts, also of what has ended since the last look."""

    def __init__(self, pid: int) -> None:
        """Watch the process `pid`."""
        self._root = psutil.Process(pid) if psutil.pid_exists(pid) else None
        self._seen: dict[tuple[int, float], float] = {}  # by process id and time of birth [s]: ids are used again

    def seconds(self) -> float:
        """Return the seconds so far; what a process took between the last look and its end is missing."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._root is not None:
                for process in (self._root, *self._root.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        times = process.cpu_times()
                        self._seen[process.pid, process.create_time()] = times.user + times.system
        return sum(self._seen.values())


class Timed(Protocol):
    """A job under way."""

    def cpu_s(self) -> float:
        """Return its processor time so far [s]."""
        ...


@dataclass(frozen=True)
class Interval:
    """A stretch of a study."""

    start_s: float  # [s] since the call began
    end_s: float
    busy: float  # processor seconds against the cores' seconds; a little above 1 when a thread more than planned ran
    jobs: tuple[str, ...]  # that ran at its end


@dataclass(frozen=True)
class Usage:
    """How one call of `run_jobs` used the cores."""

    cores: int
    elapsed_s: float
    cpu_s: float
    intervals: Sequence[Interval]
    others: float = 0.0  # share of this machine's time that other programs took, 0..1

    @property
    def busy(self) -> float:
        """The share of the cores' time that the jobs took, 0..1."""
        return self.cpu_s / (self.cores * self.elapsed_s) if self.elapsed_s > 0 else 0.0

    @property
    def full_share(self) -> float:
        """The share of the time in which all cores were busy, 0..1: intervals above `BUSY`."""
        full = sum(one.end_s - one.start_s for one in self.intervals if one.busy >= BUSY)
        return full / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def words(self) -> str:
        """Say it in a sentence, with the stretch that left most idle."""
        text = (
            f"the {self.cores} cores were busy {100 * self.busy:.0f} % of {self.elapsed_s:.0f} s, "
            f"all of them {100 * self.full_share:.0f} % of the time"
        )
        whole = [one for one in self.intervals if one.end_s - one.start_s >= INTERVAL_S]
        if self.others >= CROWDED:
            text += f" (other programs took {100 * self.others:.0f} % of this machine)"
        idlest = min(whole, key=lambda one: one.busy, default=None)
        if idlest is None or idlest.busy >= BUSY:
            return text
        return f"{text}; least at {idlest.start_s:.0f} s ({100 * idlest.busy:.0f} %: {', '.join(idlest.jobs) or 'nothing ran'})"


class UsageLog:
    """Samples the jobs of one call while they run."""

    def __init__(self, cores: int) -> None:
        """Begin now, on `cores` cores."""
        self._cores = cores
        self._begun = self._sampled = time.monotonic()
        self._machine_s = _machine_seconds()
        self._ended_s = self._counted_s = self._since_s = 0.0
        self._intervals: list[Interval] = []
        self._jobs: tuple[str, ...] = ()

    def ended(self, cpu_s: float) -> None:
        """Take in a job's processor time when its process is over."""
        self._ended_s += cpu_s

    def sample(self, running: Mapping[str, Timed]) -> None:
        """Look at the running jobs, now and then."""
        if running:
            self._jobs = tuple(running)
        now = time.monotonic()
        if now - self._sampled < SAMPLE_S:
            return
        self._sampled = now
        self._close_interval(now - self._begun, self._ended_s + sum(job.cpu_s() for job in running.values()), INTERVAL_S)

    def _close_interval(self, now_s: float, cpu_s: float, least_s: float) -> None:
        length = now_s - self._since_s
        if length < least_s or length <= 0:
            return
        busy = max(cpu_s - self._counted_s, 0.0) / (length * self._cores)
        self._intervals.append(Interval(round(self._since_s, 1), round(now_s, 1), round(busy, 3), self._jobs))
        self._since_s, self._counted_s = now_s, max(cpu_s, self._counted_s)

    def write(self, path: Path, running: Mapping[str, Timed]) -> None:
        """Append what was seen to the file `path`, with what `running` jobs took that are broken off; nothing when none ran."""
        if not self._jobs:
            return
        now_s = time.monotonic() - self._begun
        seconds = self._ended_s + sum(job.cpu_s() for job in running.values())
        self._close_interval(now_s, seconds, 0.0)
        cpu_s = round(max(seconds, self._counted_s), 1)
        taken = (_machine_seconds() - self._machine_s - cpu_s) / (max(now_s, 1e-9) * (psutil.cpu_count() or 1))
        usage = Usage(self._cores, round(now_s, 1), cpu_s, self._intervals, round(min(max(taken, 0.0), 1.0), 3))
        calls = [*_calls(path), {**asdict(usage), "busy": round(usage.busy, 3), "full_share": round(usage.full_share, 3)}]
        write_text(path, json.dumps(calls, indent=1))


def read_usage(path: Path) -> list[Usage]:
    """Read the calls of a study, the latest last; a missing or damaged file has none."""
    found = []
    for call in _calls(path):
        with contextlib.suppress(KeyError, TypeError):
            intervals = [Interval(**{**one, "jobs": tuple(one["jobs"])}) for one in call["intervals"]]
            found.append(Usage(call["cores"], call["elapsed_s"], call["cpu_s"], intervals, call["others"]))
    return found


def _machine_seconds() -> float:
    """Return the processor time [s] that everything on this machine has taken since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _calls(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
