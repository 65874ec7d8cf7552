"""Run the jobs of a study in worker processes: in parallel, resumable after any kill, with one line of progress for all.

A finished job leaves a marker with its fingerprint, a digest of its configuration and of the jobs it builds on. When the
marker's fingerprint is the current one, the job is not run again; when another, what it wrote is removed and it runs afresh.
A job that started and did not finish continues in its own files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.schedule import Job, Order, order, startable, time_left
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text

STAGES_MODULE = "roadworthy.eval.stages"
STOP_GRACE_S = 10.0  # [s] between asking a worker to stop and killing it
POLL_S = 0.2  # [s]
RETRIES = 2  # restarts of a job whose process was killed by a signal (the CARLA client can abort)
REPORT_S = 1.0  # [s] between progress events
LOG_TAIL = 15  # lines of a failed job's log that the error shows
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    text: str  # what the running jobs say
    fraction: float  # 0..1 of the expected time
    elapsed_s: float  # [s] since this call began
    left_s: float  # [s] estimated
    done: int  # jobs
    total: int  # jobs


ProgressCallback = Callable[[Progress], None]


def fingerprints(jobs: Sequence[Job], version: str) -> dict[str, str]:
    """Digest what decides each job's result: its stage and configuration, the package version, and the jobs it builds on."""
    by_name = {job.name: job for job in jobs}
    found: dict[str, str] = {}

    def digest(name: str) -> str:
        if name not in found:
            job = by_name[name]
            content = {
                "stage": job.stage,
                "config": job.config,
                "version": version,
                "needs": [digest(need) for need in sorted(job.needs)],
            }
            found[name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return found[name]

    for name in by_name:
        digest(name)
    return found


@contextlib.contextmanager
def study_lock(root: Path) -> Iterator[None]:
    """Hold the study folder for this process. Raises `BadInput` when another one works in it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                f"{root}: another process is working on this study; wait for it, or choose another folder"
            ) from error
        yield


def read_marker(path: Path) -> dict[str, Any] | None:
    """Read a job's marker; a missing or damaged one is no marker, and the job runs again."""
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"fingerprint", "seconds", "result"} <= marker.keys() else None


class WorkerDied(RoadworthyError):
    """A signal ended a worker: the CARLA client aborted, or the machine ran out of memory."""


class Worker:
    """A job under way."""

    def __init__(self, job: Job, fingerprint: str, folder: StudyFolder, cores: int, module: str) -> None:
        """Start the job's process with at most `cores` threads per library."""
        self.job = job
        self.text = job.text
        self.fraction = 0.0
        self.error: str | None = None
        self.exit_code = 1
        self.started = time.monotonic()
        folder.log(job.name).parent.mkdir(parents=True, exist_ok=True)
        self._log = folder.log(job.name)
        marker = str(folder.stage(job.name).absolute())
        request = {"name": job.name, "fingerprint": fingerprint, "config": job.config, "marker": marker}
        write_text(folder.started(job.name), json.dumps(request))
        command = [sys.executable, "-m", "roadworthy.eval.worker", module, job.stage, str(folder.root.absolute())]
        threads = {name: str(min(job.cores, cores)) for name in THREAD_VARIABLES}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(folder.started(job.name).absolute())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **threads, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C reaches only us; we stop the workers in order
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if "error" in message:
                self.error, self.exit_code = str(message["error"]), int(message["exit_code"])
            else:
                self.text, self.fraction = str(message["text"]), min(max(float(message["fraction"]), 0.0), 1.0)

    def ended(self) -> bool:
        """Tell whether the process is over; raises what went wrong in it."""
        status = self.process.poll()
        if status is None:
            return False
        self._reader.join(timeout=5)
        if status == 0:
            return True
        self._end_group()
        if self.error is not None and status in (1, 2):
            raise (BadInput if self.exit_code == 2 else RoadworthyError)(f"{self.job.text}: {self.error}")
        how = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
        said = f" ({self.error})" if self.error else ""
        message = (
            f"{self.job.text}: its process {how}{said}. Run the same command again to continue. "
            f"End of {self._log}:\n{self._tail()}"
        )
        raise WorkerDied(message) if status < 0 else RoadworthyError(message)

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL:])

    def ask_to_stop(self) -> None:
        """Ask the process to close its files and towns."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def stop(self, deadline: float) -> None:
        """Wait for the process until `deadline` (monotonic seconds), then kill it and everything it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        self._end_group()
        self.process.wait()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def run_jobs(
    jobs: Sequence[Job],
    folder: StudyFolder,
    *,
    cores: int,
    version: str,
    progress: ProgressCallback | None = None,
    module: str = STAGES_MODULE,
) -> dict[str, dict[str, Any]]:
    """Run the jobs that are missing and return every job's marker.

    Args:
        jobs: the plan; a job runs when those it needs are done.
        folder: where markers, logs and outputs are; the caller holds its lock.
        cores: how many cores to fill.
        version: of the package, part of every fingerprint.
        progress: called about once a second.
        module: where the stage functions are (`module.<job.stage>(study folder, config, progress) -> JSON result`).

    Raises:
        BadInput: what a job reported as unusable input.
        RoadworthyError: any other failure of a job. The other running jobs are stopped first; finished ones stay finished.
        KeyboardInterrupt: after stopping all workers.
    """
    plan = order(jobs)
    prints = fingerprints(jobs, version)
    markers: dict[str, dict[str, Any]] = {}
    for job in plan.jobs:
        marker = read_marker(folder.stage(job.name))
        current = marker is not None and marker["fingerprint"] == prints[job.name]
        if current and marker is not None and all((folder.root / output).exists() for output in job.outputs):
            markers[job.name] = marker
        else:
            _clear(job, prints[job.name], folder)
    running: dict[str, Worker] = {}
    retries: dict[str, int] = {}
    pace = _Pace(plan, cores, markers)
    try:
        while len(markers) < len(plan.jobs):
            used = sum(min(worker.job.cores, cores) for worker in running.values())
            for job in startable(plan, markers, running, cores - used, cores):
                running[job.name] = Worker(job, prints[job.name], folder, cores, module)
            for name, worker in list(running.items()):
                try:
                    if not worker.ended():
                        continue
                except WorkerDied:
                    if retries.setdefault(name, RETRIES) == 0:
                        raise
                    retries[name] -= 1
                    running[name] = Worker(worker.job, prints[name], folder, cores, module)  # it continues in its own files
                    continue
                running.pop(name)
                marker = read_marker(folder.stage(name))
                if marker is None:
                    raise RoadworthyError(f"{name}: its process ended without a result, see {folder.log(name)}")
                markers[name] = marker
            pace.tell(markers, running, progress)
            time.sleep(POLL_S)
    finally:
        for worker in running.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + STOP_GRACE_S
        for worker in running.values():
            worker.stop(deadline)
    return markers


class _Pace:
    """Estimates the time left from the plan and from how fast this machine has been so far."""

    def __init__(self, plan: Order, cores: int, done: Mapping[str, Any]) -> None:
        self.plan, self.cores = plan, cores
        self.begun = time.monotonic()
        self.planned_s = max(time_left(plan, done, {}, cores), 1e-9)  # [s] as planned, without what is done already
        self.told = 0.0
        self.best = 0.0

    def tell(self, done: Mapping[str, Any], running: Mapping[str, Worker], progress: ProgressCallback | None) -> None:
        now = time.monotonic()
        finished = len(done) == len(self.plan.jobs)
        if progress is None or (now - self.told < REPORT_S and not finished):
            return
        self.told = now
        left = time_left(self.plan, done, {name: worker.fraction for name, worker in running.items()}, self.cores)
        self.best = max(self.best, 1 - left / self.planned_s)  # never backwards
        elapsed = now - self.begun
        # How much slower than planned; the plan counts for a minute, so that the first seconds do not decide alone.
        slowness = (elapsed + 60) / (self.planned_s - left + 60)
        text = "; ".join(worker.text for worker in running.values()) or "done"
        progress(Progress(text, self.best, elapsed, left * slowness, len(done), len(self.plan.jobs)))


def _clear(job: Job, fingerprint: str, folder: StudyFolder) -> None:
    """Remove what an earlier configuration of this job wrote; keep what an interrupted run of this one can continue."""
    folder.stage(job.name).unlink(missing_ok=True)
    try:
        same = json.loads(folder.started(job.name).read_text(encoding="utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if same:
        return
    for output in job.outputs:
        path = folder.root / output
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
