"""A job of a study in a process of its own on this machine: started, listened to, timed and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.schedule import Job
from roadworthy.eval.usage import CpuClock
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text

LOG_TAIL = 15  # lines of a failed job's log that the error shows
STOP_GRACE_S = 10.0  # [s] between asking a worker to stop and killing it
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerDied(RoadworthyError):
    """A signal ended a worker: the CARLA client aborted, or the machine ran out of memory."""


class JobProcess:
    """A job under way."""

    placed = True  # it runs from the start; see RemoteJob

    def __init__(self, job: Job, fingerprint: str, folder: StudyFolder, cores: int, module: str) -> None:
        """Start the job's process with at most `cores` threads per library."""
        self.job = job
        self.text = job.text
        self.fraction = 0.0
        self.error: str | None = None
        self.exit_code = 1
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
        self._clock = CpuClock(self.process.pid)
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

    def cpu_s(self) -> float:
        """Return the processor time [s] that the job has taken so far, its children's too."""
        return self._clock.seconds()

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
