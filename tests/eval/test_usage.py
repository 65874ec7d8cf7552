"""Processor time is counted over whole process trees, and a study's file says how busy the cores were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from roadworthy.eval.usage import CpuClock, Interval, Usage, UsageLog, read_usage

# A process that has a child work first, then works itself, and says what both took; it ends when it is told to.
TICK_S = 1 / os.sysconf("SC_CLK_TCK")  # [s] in which the system counts processor time

WORK = """
import resource, subprocess, sys, time
SPIN = "import time\\nwhile time.process_time() < 0.5: pass\\nprint('spun', flush=True)\\ninput()"
child = subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("child", flush=True)
input()
child.communicate("\\n")
while time.process_time() < 0.4: pass
usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(u.ru_utime + u.ru_stime for u in usages), flush=True)
input()
"""


def test_a_clock_counts_children_also_those_that_have_ended() -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    assert worker.stdout is not None
    clock = CpuClock(worker.pid)
    assert worker.stdout.readline() == "child\n"
    first = clock.seconds()
    assert first >= 0.5 - 4 * TICK_S  # the child's, while it lives; user and system time are each cut to ticks
    worker.stdin.write("\n")
    worker.stdin.flush()
    told = float(worker.stdout.readline())
    found = clock.seconds()
    assert found == pytest.approx(told, abs=0.15)  # less what the child took after the last look
    assert found >= first + 0.3
    worker.communicate("\n")
    assert clock.seconds() == found  # an ended process is remembered
    assert CpuClock(worker.pid).seconds() == 0.0


def intervals(*busy: float) -> list[Interval]:
    return [Interval(10.0 * i, 10.0 * (i + 1), share, (f"job{i}",)) for i, share in enumerate(busy)]


def test_the_shares_are_those_of_hand_made_intervals() -> None:
    usage = Usage(2, 40.0, 2 * 10.0 * (1.0 + 0.9 + 0.5 + 0.8), intervals(1.0, 0.9, 0.5, 0.8))
    assert usage.busy == pytest.approx(0.8)
    assert usage.full_share == pytest.approx(0.5)
    words = "the 2 cores were busy 80 % of 40 s, all of them 50 % of the time"
    assert usage.words() == f"{words}; least at 20 s (50 %: job2)"
    assert replace(usage, intervals=intervals(1.0, 0.9, 0.9, 0.9)).words().endswith("all of them 100 % of the time")
    assert Usage(2, 0.0, 0.0, []).busy == 0.0
    assert "(other programs took 30 % of this machine)" in replace(usage, others=0.3).words()


class Job:
    """A job that took some processor time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def cpu_s(self) -> float:
        return self.seconds


def test_what_is_written_adds_up_and_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("roadworthy.eval.usage.time.monotonic", lambda: now)
    path = tmp_path / "usage.json"
    UsageLog(2).write(path, {})
    assert not path.exists()  # nothing ran
    log = UsageLog(2)
    for step in range(1, 13):  # 24 s: two jobs keep both cores busy for 12 s, then one of them goes on alone
        now = 100.0 + 2 * step
        running = {"a": Job(2.0 * step), "b": Job(2.0 * step)} if step <= 6 else {"a": Job(2.0 * step)}
        if step == 7:
            log.ended(12.0)
        log.sample(running)
    log.write(path, {"a": Job(24.0)})  # broken off
    (usage,) = read_usage(path)
    assert (usage.cores, usage.elapsed_s, usage.cpu_s) == (2, 24.0, 36.0)
    assert 0.0 <= usage.others <= 1.0
    assert [(one.start_s, one.end_s, one.busy, one.jobs) for one in usage.intervals] == [
        (0.0, 10.0, 1.0, ("a", "b")),
        (10.0, 20.0, 0.6, ("a",)),
        (20.0, 24.0, 0.5, ("a",)),
    ]
    log.ended(24.0)
    log.write(path, {})
    assert len(read_usage(path)) == 2  # a study that was interrupted and went on
    assert json.loads(path.read_text())[0]["busy"] == 0.75


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"cores": 2}]'])
def test_a_damaged_file_is_no_usage(tmp_path: Path, text: str) -> None:
    path = tmp_path / "usage.json"
    path.write_text(text)
    assert read_usage(path) == []
