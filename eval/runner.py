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
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.job_process import STOP_GRACE_S, JobProcess, WorkerDied
from roadworthy.eval.remote_job import RemoteJob
from roadworthy.eval.schedule import Job, Order, order, startable, time_left
from roadworthy.eval.usage import UsageLog
from roadworthy.runtime.errors import BadInput, RoadworthyError

if TYPE_CHECKING:
    from roadworthy.agent.cluster import Cluster

STAGES_MODULE = "roadworthy.eval.stages"
POLL_S = 0.2  # [s]
RETRIES = 2  # restarts of a job whose process was killed by a signal (the CARLA client can abort)
REPORT_S = 1.0  # [s] between progress events


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


def run_jobs(
    jobs: Sequence[Job],
    folder: StudyFolder,
    *,
    cores: int,
    version: str,
    progress: ProgressCallback | None = None,
    module: str = STAGES_MODULE,
    cluster: Cluster | None = None,
) -> dict[str, dict[str, Any]]:
    """Run the jobs that are missing and return every job's marker.

    Args:
        jobs: the plan; a job runs when those it needs are done.
        folder: where markers, logs and outputs are; the caller holds its lock.
        cores: how many cores to fill; a cluster has its own.
        version: of the package, part of every fingerprint.
        progress: called about once a second.
        module: where the stage functions are (`module.<job.stage>(study folder, config, progress) -> JSON result`).
        cluster: where the jobs run; None = on this machine. Its machines must see `folder` (see `Cluster.check`).

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
    running: dict[str, JobProcess | RemoteJob] = {}
    retries: dict[str, int] = {}
    total, widest = (cores, cores) if cluster is None else (cluster.cores, cluster.widest)  # no job gets more than `widest`
    pace, usage = _Pace(plan, total, markers), UsageLog(total)

    def start(job: Job) -> JobProcess | RemoteJob:
        if cluster is None:
            return JobProcess(job, prints[job.name], folder, widest, module)
        return RemoteJob(cluster, job, prints[job.name], folder, widest, module)

    try:
        while len(markers) < len(plan.jobs):
            used = sum(min(worker.job.cores, widest) for worker in running.values())
            if all(worker.placed for worker in running.values()):  # else a wide job that waits for a machine would starve
                for job in startable(plan, markers, running, total - used, widest):
                    running[job.name] = start(job)
            for name, worker in list(running.items()):
                try:
                    if not worker.ended():
                        continue
                except WorkerDied:
                    if retries.setdefault(name, RETRIES) == 0:
                        raise
                    retries[name] -= 1
                    usage.ended(worker.cpu_s())
                    running[name] = start(worker.job)  # it continues in its own files
                    continue
                running.pop(name)
                usage.ended(worker.cpu_s())
                marker = read_marker(folder.stage(name))
                if marker is None:
                    raise RoadworthyError(f"{name}: its process ended without a result, see {folder.log(name)}")
                markers[name] = marker
            pace.tell(markers, running, progress)
            usage.sample(running)
            time.sleep(POLL_S)
    finally:
        for worker in running.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + STOP_GRACE_S
        for worker in running.values():
            worker.stop(deadline)
        usage.write(folder.usage, running)
    return markers


class _Pace:
    """Estimates the time left from the plan and from how fast this machine has been so far."""

    def __init__(self, plan: Order, cores: int, done: Mapping[str, Any]) -> None:
        self.plan, self.cores = plan, cores
        self.begun = time.monotonic()
        self.planned_s = max(time_left(plan, done, {}, cores), 1e-9)  # [s] as planned, without what is done already
        self.told = 0.0
        self.best = 0.0

    def tell(
        self, done: Mapping[str, Any], running: Mapping[str, JobProcess | RemoteJob], progress: ProgressCallback | None
    ) -> None:
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
