"""Work in a process that dies, hangs or fails is repeated or reported; nothing is left running."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from roadworthy.agent.supervisor import WorkerFailed, supervise
from roadworthy.runtime.errors import BadInput

# Spawned processes import the task by name, so it must lie in a module of its own.
TASKS = """
import os, signal, sys, time
from pathlib import Path
from roadworthy.runtime.errors import BadInput, RoadworthyError

def count(folder):
    path = Path(folder, "attempts")
    number = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(number))
    return number

def die_until(report, folder, attempts, how):
    number = count(folder)
    print("attempt", number, flush=True)
    report(number)
    if number < attempts:
        if how == "hang":
            time.sleep(60)
        elif how == "lost":
            raise RuntimeError("time-out of 20s while waiting for the simulator")
        elif how == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, how))
    return {"attempts": number}

def fail(report, folder, kind):
    count(folder)
    raise {"bad": BadInput("no such map: choose another"), "bug": ValueError("a mistake")}[kind]

def sleep(report, folder):
    Path(folder, "pid").write_text(str(os.getpid()))
    report("alive")
    time.sleep(60)
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "supervised_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "supervised_tasks", raising=False)
    return importlib.import_module("supervised_tasks")


@pytest.mark.parametrize(("how", "reason"), [("SIGSEGV", "SIGSEGV"), ("exit", "exit code 7"), ("lost", "time-out of 20s")])
def test_a_dying_worker_is_started_again(tasks: ModuleType, tmp_path: Path, how: str, reason: str) -> None:
    reports: list[int] = []
    reasons: list[str] = []

    def note(report: int) -> bool:
        reports.append(report)
        return False

    assert supervise(tasks.die_until, str(tmp_path), 2, how, on_report=note, on_restart=reasons.append) == {"attempts": 2}
    assert reports == [1, 2]
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_a_hanging_worker_is_killed_and_started_again(tasks: ModuleType, tmp_path: Path) -> None:
    reasons: list[str] = []
    result = supervise(tasks.die_until, str(tmp_path), 2, "hang", on_restart=reasons.append, silence_s=2.0)
    assert result == {"attempts": 2}
    assert "hung" in reasons[0]


def test_attempts_are_bounded_and_the_output_is_shown(tasks: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="SIGABRT") as failure:
        supervise(tasks.die_until, str(tmp_path), 99, "SIGABRT", attempts=2)
    assert (tmp_path / "attempts").read_text() == "2"
    assert "attempt 2" in str(failure.value)


def test_progress_forgives_earlier_failures(tasks: ModuleType, tmp_path: Path) -> None:
    moved_on: Callable[[int], bool] = lambda _: True  # noqa: E731
    assert supervise(tasks.die_until, str(tmp_path), 4, "exit", attempts=2, on_report=moved_on) == {"attempts": 4}


@pytest.mark.parametrize(("kind", "error", "message"), [("bad", BadInput, "no such map"), ("bug", WorkerFailed, "a mistake")])
def test_errors_that_repeating_cannot_help_are_raised_at_once(
    tasks: ModuleType, tmp_path: Path, kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        supervise(tasks.fail, str(tmp_path), kind)
    assert (tmp_path / "attempts").read_text() == "1"


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import signal\nfrom roadworthy.agent.supervisor import supervise\nimport supervised_tasks\n"
        # A shell that starts the tests in the background hands its children a SIGINT that is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"if __name__ == '__main__':\n    supervise(supervised_tasks.sleep, {str(tmp_path)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, str(program)], env=environment, stderr=subprocess.DEVNULL) as parent:
        pid_file = tmp_path / "pid"
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = psutil.Process(int(pid_file.read_text()))
        parent.send_signal(how)
        parent.wait(30)
    _, alive = psutil.wait_procs([worker], timeout=10)
    assert not alive or worker.status() == psutil.STATUS_ZOMBIE
