import subprocess
import sys
import time
from pathlib import Path

import pytest

from roadworthy.agent.workers import Job, run_jobs
from roadworthy.runtime.errors import BadInput, RoadworthyError

# Worker processes get this process's sys.path, and import the jobs from there.
sys.path.insert(0, str(Path(__file__).parent))
from worker_jobs import abort_always, abort_once, hang, refuse, square


def test_results_come_in_order_and_progress_reaches_the_caller() -> None:
    seen: list[tuple[str, float]] = []
    jobs = [Job(f"job {n}", square, (n,)) for n in range(3)]
    assert run_jobs(jobs, progress=lambda text, fraction: seen.append((text, fraction))) == [0, 1, 4]
    assert {text for text, _ in seen} == {f"job {n}: squaring" for n in range(3)}
    assert all(0 < fraction < 1 for _, fraction in seen)


def test_a_dead_process_is_started_again(tmp_path: Path) -> None:
    assert run_jobs([Job("fragile", abort_once, (tmp_path / "once",))]) == ["second time"]


def test_a_process_that_always_dies_is_a_clear_error() -> None:
    with pytest.raises(RoadworthyError, match=r"doomed: its process died \(SIGABRT\) 2 times"):
        run_jobs([Job("doomed", abort_always)], attempts=2)


def test_an_error_in_a_job_keeps_its_kind_and_is_not_tried_again() -> None:
    with pytest.raises(BadInput, match="no such route"):
        run_jobs([Job("picky", refuse)])


def test_a_silent_process_is_killed(tmp_path: Path) -> None:
    with pytest.raises(RoadworthyError, match="silent"):
        run_jobs([Job("hanging", hang, (tmp_path / "pid",))], attempts=1, silence_s=2.0)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from worker_jobs import hang
from roadworthy.agent.workers import Job, run_jobs
if __name__ == "__main__":
    run_jobs([Job("hanging", hang, (Path({str(marker)!r}),))])
"""
    script = tmp_path / "main.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script])
    while not (marker.exists() and marker.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{marker.read_text()}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")
