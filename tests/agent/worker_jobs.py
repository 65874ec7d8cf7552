"""Jobs for test_workers.py: a worker process imports them, so they live in a module of their own."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from roadworthy.runtime.errors import BadInput

Progress = Callable[[str, float], None]


def square(number: int, *, progress: Progress) -> int:
    progress("squaring", 0.5)
    return number**2


def abort_once(marker: Path, *, progress: Progress) -> str:
    progress("trying", 0.0)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "second time"


def abort_always(*, progress: Progress) -> None:
    progress("trying", 0.0)
    os.abort()


def refuse(*, progress: Progress) -> None:
    progress("trying", 0.0)
    raise BadInput("no such route")


def hang(marker: Path, *, progress: Progress) -> None:
    progress("hanging", 0.0)
    marker.write_text(str(os.getpid()))
    time.sleep(600)
