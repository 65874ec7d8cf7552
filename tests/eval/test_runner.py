"""Jobs in real worker processes: run once, skipped when done, redone when changed, continued after a kill, none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import Progress, run_jobs, study_lock
from roadworthy.eval.schedule import Job
from roadworthy.runtime.errors import BadInput, RoadworthyError

STAGES = '''
import os, signal, sys, time
from pathlib import Path
from roadworthy.runtime.errors import BadInput

def count(study, config, progress):
    """Write numbers one by one, going on where an earlier run stopped."""
    path = study / config["file"]
    done = path.read_text().split() if path.exists() else []
    print("a library prints to standard output")
    for number in range(len(done), config["numbers"]):
        with path.open("a") as file:
            file.write(f"{number}\\n")
        progress("counting", (number + 1) / config["numbers"])
        if number == config.get("die_at") and not (study / "died").exists():
            (study / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(config.get("pause_s", 0))
    return {"numbers": config["numbers"], "threads": os.environ["OMP_NUM_THREADS"]}

def refuse(study, config, progress):
    raise BadInput("the folder is missing; make it")

def fault(study, config, progress):
    raise ValueError("a fault of ours")

def abort(study, config, progress):
    os.abort()

def sleep_with_child(study, config, progress):
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    (study / "pids").write_text(f"{os.getpid()} {child.pid}")
    progress("sleeping", 0.5)
    time.sleep(600)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy_stages.py").write_text(STAGES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    return StudyFolder(tmp_path / "study")


def counting(name: str = "a", numbers: int = 3, needs: tuple[str, ...] = (), **config: float) -> Job:
    plan = {"file": f"{name}.txt", "numbers": numbers, **config}
    return Job(name, "count", f"counting {name}", plan, needs, outputs=(f"{name}.txt",))


def run(folder: StudyFolder, *jobs: Job, seen: list[Progress] | None = None) -> dict[str, dict[str, object]]:
    progress = seen.append if seen is not None else None
    return run_jobs(jobs, folder, cores=2, version="1", progress=progress, module="toy_stages")


def lines(folder: StudyFolder, name: str) -> list[str]:
    return (folder.root / f"{name}.txt").read_text(encoding="utf-8").split()


def test_jobs_run_once_and_tell_their_progress(folder: StudyFolder) -> None:
    seen: list[Progress] = []
    markers = run(folder, counting("a"), counting("b", needs=("a",)), seen=seen)
    assert markers["b"]["result"] == {"numbers": 3, "threads": "1"}
    assert seen[-1].fraction == pytest.approx(1)
    assert (seen[-1].done, seen[-1].total) == (2, 2)
    assert "a library prints" in folder.log("a").read_text(encoding="utf-8")
    first = folder.stage("a").stat().st_mtime_ns
    assert run(folder, counting("a"), counting("b", needs=("a",))) == markers
    assert folder.stage("a").stat().st_mtime_ns == first
    assert lines(folder, "a") == ["0", "1", "2"]


def test_a_changed_job_and_all_that_build_on_it_run_again(folder: StudyFolder) -> None:
    run(folder, counting("a"), counting("b", needs=("a",)), counting("c"))
    before = {name: folder.stage(name).stat().st_mtime_ns for name in "abc"}
    run(folder, counting("a", numbers=2), counting("b", needs=("a",)), counting("c"))
    after = {name: folder.stage(name).stat().st_mtime_ns for name in "abc"}
    assert lines(folder, "a") == ["0", "1"]  # its old output was removed first
    assert lines(folder, "b") == ["0", "1", "2"]
    assert after["b"] > before["b"]
    assert after["c"] == before["c"]


def test_a_job_whose_output_was_deleted_runs_again(folder: StudyFolder) -> None:
    run(folder, counting("a"))
    (folder.root / "a.txt").unlink()
    run(folder, counting("a"))
    assert lines(folder, "a") == ["0", "1", "2"]


def test_a_damaged_marker_is_no_marker(folder: StudyFolder) -> None:
    run(folder, counting("a"))
    folder.stage("a").write_text('{"fingerprint": ', encoding="utf-8")
    assert run(folder, counting("a"))["a"]["result"] == {"numbers": 3, "threads": "1"}
    assert lines(folder, "a") == ["0", "1", "2"]


def test_a_killed_worker_is_restarted_and_continues(folder: StudyFolder) -> None:
    markers = run(folder, counting("a", numbers=5, die_at=2))
    assert (folder.root / "died").exists()
    assert lines(folder, "a") == ["0", "1", "2", "3", "4"]
    assert markers["a"]["result"] == {"numbers": 5, "threads": "1"}


def test_a_job_that_always_aborts_is_given_up(folder: StudyFolder) -> None:
    with pytest.raises(RoadworthyError, match="killed by signal 6"):
        run(folder, Job("a", "abort", "aborting", {}))


def test_reported_errors_keep_their_kind(folder: StudyFolder) -> None:
    with pytest.raises(BadInput, match="looking: the folder is missing; make it"):
        run(folder, Job("a", "refuse", "looking", {}))
    with pytest.raises(RoadworthyError, match="a fault of ours") as error:
        run(folder, Job("a", "fault", "working", {}))
    assert not isinstance(error.value, BadInput)
    assert "Traceback" in str(error.value)


def test_a_failure_stops_the_others_and_keeps_what_is_done(folder: StudyFolder) -> None:
    slow = counting("slow", numbers=1000, pause_s=0.05)
    with pytest.raises(RoadworthyError):
        run(folder, counting("a"), Job("bad", "fault", "failing", {}, needs=("a",)), slow)
    assert folder.stage("a").exists()
    assert not folder.stage("slow").exists()
    counted = len(lines(folder, "slow"))
    time.sleep(0.3)
    assert len(lines(folder, "slow")) == counted


def test_an_interrupted_study_continues(folder: StudyFolder) -> None:
    def interrupt_when_counting(progress: Progress) -> None:
        if progress.text == "counting":
            raise KeyboardInterrupt

    job = counting("a", numbers=60, pause_s=0.05)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], folder, cores=2, version="1", progress=interrupt_when_counting, module="toy_stages")
    before = len(lines(folder, "a"))
    assert 0 < before < 60
    run(folder, job)
    assert lines(folder, "a") == [str(number) for number in range(60)]  # nothing lost, nothing twice


def test_ctrl_c_leaves_no_process_behind(folder: StudyFolder) -> None:
    script = (
        # A shell that starts the tests in the background hands its children a SIGINT that is ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nfrom pathlib import Path\n"
        "from roadworthy.eval.runner import run_jobs\nfrom roadworthy.eval.schedule import Job\n"
        "from roadworthy.eval.folder import StudyFolder\n"
        f"run_jobs([Job('a', 'sleep_with_child', 'sleeping', {{}})], StudyFolder(Path({str(folder.root)!r})), cores=1,"
        " version='1', module='toy_stages')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    pids = _wait_for_pids(folder.root / "pids")
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=30)
    _wait_until_gone(pids)


def test_a_worker_ends_with_its_killed_parent(folder: StudyFolder) -> None:
    script = (
        "from pathlib import Path\n"
        "from roadworthy.eval.runner import run_jobs\nfrom roadworthy.eval.schedule import Job\n"
        "from roadworthy.eval.folder import StudyFolder\n"
        f"run_jobs([Job('a', 'count', 'counting', {{'file': 'a.txt', 'numbers': 10000, 'pause_s': 0.05}})],"
        f" StudyFolder(Path({str(folder.root)!r})), cores=1, version='1', module='toy_stages')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (folder.root / "a.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
    assert workers
    parent.kill()
    parent.wait()
    _wait_until_gone(workers)


def test_one_study_folder_has_one_owner(folder: StudyFolder) -> None:
    with study_lock(folder.root), pytest.raises(BadInput, match="another process"), study_lock(folder.root):
        pass
    with study_lock(folder.root):
        pass


def test_a_new_version_runs_everything_again(folder: StudyFolder) -> None:
    run(folder, counting("a"))
    job = replace(counting("a"), seconds=5)  # the expected time decides nothing
    before = folder.stage("a").stat().st_mtime_ns
    run_jobs([job], folder, cores=2, version="1", module="toy_stages")
    assert folder.stage("a").stat().st_mtime_ns == before
    run_jobs([job], folder, cores=2, version="2", module="toy_stages")
    assert json.loads(folder.stage("a").read_text(encoding="utf-8"))["result"]["numbers"] == 3
    assert folder.stage("a").stat().st_mtime_ns > before


def _wait_for_pids(path: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            pids = [int(pid) for pid in path.read_text(encoding="utf-8").split()]
            if len(pids) == 2:
                return pids
        time.sleep(0.05)
    raise AssertionError("the worker did not start")


def _wait_until_gone(pids: list[int]) -> None:
    gone = threading.Event()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not gone.is_set():
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            gone.set()
        time.sleep(0.1)
    for pid in pids:  # leave nothing behind when the test fails
        with contextlib.suppress(ProcessLookupError):
            if not gone.is_set():
                os.kill(pid, signal.SIGKILL)
    assert gone.is_set()
