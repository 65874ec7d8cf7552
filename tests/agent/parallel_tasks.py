"""Tasks for test_parallel.py: a worker process imports them by name."""

import time
from pathlib import Path

from roadworthy.agent.supervisor import Report
from roadworthy.runtime.errors import BadInput


def square(report: Report, number: int) -> int:
    report(("squaring", 0.5, False))
    return number**2


def refuse(report: Report) -> None:
    report(("trying", 0.0, False))
    raise BadInput("no such route")


def wait(report: Report, marker: Path) -> None:
    marker.touch()
    while True:
        report(("waiting", 0.0, False))
        time.sleep(0.1)
