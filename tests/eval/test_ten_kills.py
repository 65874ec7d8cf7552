"""A study killed at ten random moments: it goes on, and no episode and no figure is lost or counted twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from roadworthy.agent.episodes import read_episodes
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import read_marker

# The driving is left out; files, locks, markers, workers and the way of resuming are those of a real study.
STAGES = """
import time
from roadworthy.agent.episodes import Episode, append_episode, finished_ids, read_episodes

def drive(study, config, progress):
    path = study / config["file"]
    done = finished_ids(read_episodes(path))
    for route in range(config["routes"]):
        name = f"{config['name']}/0/toy/Grid01/{route}/1"
        if name in done:
            continue
        time.sleep(0.02)  # a drive
        append_episode(path, Episode(
            id=name, segmenter=config["name"], policy_seed=0, suite="toy", town="Grid01", held_out=False, weather="ClearNoon",
            task="straight", route=route, seed=route, traffic={}, steps=10, duration_s=1.0, distance_m=10.0 + route,
            route_length_m=20.0, route_completion=1.0, ended="goal", infractions=(), mean_speed_mps=1.0, reward_sum=1.0,
        ))
        progress("driving", (route + 1) / config["routes"])
    return {"episodes": len(read_episodes(path))}

def total(study, config, progress):
    with (study / "runs.txt").open("a") as file:
        file.write("x")
    return {"km": sum(e.distance_m for name in config["files"] for e in read_episodes(study / name)) / 1000}
"""
STUDY = """
import sys
from pathlib import Path
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import run_jobs, study_lock
from roadworthy.eval.schedule import Job

folder = StudyFolder(Path(sys.argv[1]))
files = ["a.jsonl", "b.jsonl", "c.jsonl"]
jobs = [Job(f"drive-{f[0]}", "drive", f, {"name": f[0], "file": f, "routes": 60}, outputs=(f,)) for f in files]
jobs.append(Job("total", "total", "total", {"files": files}, tuple(job.name for job in jobs)))
with study_lock(folder.root):
    run_jobs(jobs, folder, cores=2, version="1", module="toy_drives")
"""


def start(root: Path, code: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.Popen([sys.executable, "-c", STUDY, str(root)], env=environment, stderr=subprocess.PIPE)


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    code, folder = tmp_path / "code", StudyFolder(tmp_path / "study")
    code.mkdir()
    (code / "toy_drives.py").write_text(STAGES, encoding="utf-8")
    moments = random.Random(0)
    seen = 0
    for _ in range(10):
        study = start(folder.root, code)
        # Between the first new episode (the slow start of a process is no moment) and half a second after it.
        deadline = time.monotonic() + 60
        while study.poll() is None and count(folder) == seen and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.25))
        study.send_signal(signal.SIGKILL)
        study.wait()
        assert count(folder) >= seen, "an episode was lost"
        seen = count(folder)
    study = start(folder.root, code)
    _, errors = study.communicate(timeout=120)
    assert study.returncode == 0, errors.decode()
    expected = {"a", "b", "c"}
    for name in expected:
        episodes = read_episodes(folder.root / f"{name}.jsonl")
        assert Counter(episode.route for episode in episodes) == Counter(range(60))  # each once
    marker = read_marker(folder.stage("total"))
    assert marker is not None
    assert marker["result"]["km"] == sum(3 * (10.0 + route) for route in range(60)) / 1000
    assert (folder.root / "runs.txt").read_text() == "x"


def count(folder: StudyFolder) -> int:
    """Count the whole lines of all episode files."""
    return sum(path.read_bytes().count(b"\n") for path in folder.root.glob("*.jsonl"))
