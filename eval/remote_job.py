"""A job of a study on a machine of a Ray cluster: the same process as on this one, started and watched over there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.job_process import STOP_GRACE_S, JobProcess, WorkerDied
from roadworthy.eval.schedule import Job
from roadworthy.runtime.errors import BadInput, RoadworthyError

if TYPE_CHECKING:
    from roadworthy.agent.cluster import Cluster

POLL_S = 0.2  # [s]

State = tuple[str, float, float]  # what it says, fraction done 0..1, processor time [s]


class RemoteJob:
    """A job under way on the cluster."""

    def __init__(self, cluster: Cluster, job: Job, fingerprint: str, folder: StudyFolder, cores: int, module: str) -> None:
        """Ask for a machine with enough free cores and start the job's process there."""
        self.job = job
        self.text, self.fraction = f"{job.text} (waits for a machine)", 0.0
        self._cpu_s = 0.0
        root = str(folder.root.absolute())
        self._host = cluster.host(min(job.cores, cores), _watch, job, fingerprint, root, cores, module)

    @property
    def placed(self) -> bool:
        """Whether a machine has taken the job."""
        return self._host.placed

    def ended(self) -> bool:
        """Tell whether the job is over; raises what went wrong in it, `WorkerDied` when its machine died."""
        from roadworthy.agent.cluster import HostLost

        try:
            news = self._host.news()
        except HostLost as error:
            raise WorkerDied(f"{self.job.text}: {error}") from error
        for message in news.messages:
            self.text, self.fraction, self._cpu_s = message
        if news.outcome is None:
            return False
        kind, value = news.outcome
        self._host.stop()
        if kind == "done":
            return True
        raise {"bad input": BadInput, "retry": WorkerDied}.get(kind, RoadworthyError)(str(value))

    def cpu_s(self) -> float:
        """Return the processor time [s] that the job had taken when it was last heard of."""
        return self._cpu_s

    def ask_to_stop(self) -> None:
        """Do nothing yet: `stop` asks and waits."""

    def stop(self, deadline: float) -> None:
        """Stop the job over there; its machine keeps to its own `deadline`."""
        del deadline
        self._host.stop()


def _watch(
    tell: Callable[[State], None],
    cancelled: Callable[[], bool],
    job: Job,
    fingerprint: str,
    root: str,
    cores: int,
    module: str,
) -> None:
    """Run a job's process on this machine of the cluster and tell how far it is."""
    from roadworthy.agent.cluster import Retry

    process = JobProcess(job, fingerprint, StudyFolder(Path(root)), cores, module)
    try:
        while not process.ended():
            tell((process.text, process.fraction, process.cpu_s()))
            if cancelled():
                process.ask_to_stop()
                return
            time.sleep(POLL_S)
        tell((process.text, 1.0, process.cpu_s()))
    except WorkerDied as error:
        raise Retry(str(error)) from error
    finally:
        process.stop(time.monotonic() + STOP_GRACE_S)
