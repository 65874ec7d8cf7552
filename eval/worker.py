"""The process that runs one job of a study: `python -m roadworthy.eval.worker MODULE FUNCTION STUDY_FOLDER JOB.json`.

A job gets a process of its own because the CARLA client can abort its process, because thread limits hold per process, and
because two jobs can then use two cores. Progress and the outcome go to the parent as JSON lines on standard output; whatever
the job's libraries print goes to standard error, which the parent keeps as the job's log.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import IO

from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.files import write_text

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Run the job and return the exit status: 0 done, 1 or 2 a reported error, 3 a fault, 130 interrupted."""
    module, function, root, job_file = arguments
    channel = _private_stdout()
    _end_with_parent()
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    started = time.monotonic()

    def progress(text: str, fraction: float) -> None:
        _send(channel, {"text": text, "fraction": fraction})

    try:
        run = getattr(importlib.import_module(module), function)
        result = run(Path(root), job["config"], progress)
        marker = {
            "job": job["name"],
            "fingerprint": job["fingerprint"],
            "seconds": round(time.monotonic() - started, 2),
            "cpu_s": round(_cpu_seconds(), 2),
            "result": result,
        }
        write_text(Path(job["marker"]), json.dumps(marker, indent=1, allow_nan=False))
    except KeyboardInterrupt:
        return 130
    except RoadworthyError as error:
        traceback.print_exc()
        _send(channel, {"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # anything else is a fault of ours: report it and keep the traceback in the log
        traceback.print_exc()
        _send(channel, {"error": f"{type(error).__name__}: {error}", "exit_code": 1})
        return 3
    return 0


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended [s]."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _private_stdout() -> IO[str]:
    """Keep standard output for messages to the parent; send every print, also from C++ libraries, to standard error."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def _send(channel: IO[str], message: dict[str, object]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _end_with_parent() -> None:
    """Stop when the parent dies, and treat a polite kill as Ctrl-C, so that towns and files are closed either way."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between
        sys.exit(130)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Leave without running the interpreter's shutdown: the CARLA client's threads can abort it, and everything is written.
    os._exit(status)
