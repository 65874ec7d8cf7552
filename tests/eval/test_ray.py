"""A study and drives on a real Ray cluster of two workers here: the results of local processes, and a dead worker."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roadworthy.agent.cluster import Cluster
from roadworthy.agent.drive import Driver, Suite, evaluate_policies
from roadworthy.agent.parallel import Task as Work
from roadworthy.agent.parallel import run_tasks
from roadworthy.agent.routes import Task
from roadworthy.agent.supervisor import WorkerFailed
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import run_jobs
from roadworthy.eval.schedule import Job
from roadworthy.runtime.errors import BadInput, RoadworthyError

pytest.importorskip("ray", reason="needs Ray: pip install 'roadworthy[ray]'")

STAGES = '''
import os, random, time
from pathlib import Path
from roadworthy.runtime.errors import BadInput

def count(study, config, progress):
    """Write seeded numbers one by one, going on where an earlier run stopped; say on which machine of the cluster."""
    path = study / config["file"]
    done = path.read_text().split() if path.exists() else []
    numbers = random.Random(config["seed"])
    for index in range(config["numbers"]):
        number = numbers.random()
        if index < len(done):
            continue
        with path.open("a") as file:
            file.write(f"{number}\\n")
        with (study / "pids.txt").open("a") as file:
            file.write(f"{config['file']} {os.getppid()}\\n")
        progress("counting", (index + 1) / config["numbers"])
        time.sleep(config["pause_s"])
    return {"sum": sum(float(line) for line in path.read_text().split()), "threads": os.environ["OMP_NUM_THREADS"]}

def span(study, config, progress):
    """Note when it ran."""
    with (study / "spans.txt").open("a") as file:
        file.write(f"{config['name']} {time.time()} ")
    time.sleep(1.0)
    with (study / "spans.txt").open("a") as file:
        file.write(f"{time.time()}\\n")
    return {}

def refuse(study, config, progress):
    raise BadInput("the folder is missing; make it")
'''


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a cluster of two machines, as far as Ray knows, with two cores each."""
    code = tmp_path_factory.mktemp("code")
    (code / "toy_ray_stages.py").write_text(STAGES, encoding="utf-8")
    (code / "toy_ray_tasks.py").write_text(TASKS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(code))  # the cluster's machines start with it
        patch.syspath_prepend(str(code))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token to the user's home
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster as LocalCluster

        sizes: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
        machines = LocalCluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
        machines.add_node(**sizes)
        yield machines.address
        machines.shutdown()


@pytest.fixture(scope="module")
def cluster(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.open(address, tmp_path_factory.mktemp("work")) as opened:
        yield opened


def jobs(pause_s: float = 0.0) -> list[Job]:
    plans = {name: {"file": f"{name}.txt", "seed": seed, "numbers": 20, "pause_s": pause_s} for seed, name in enumerate("abc")}
    counting = [Job(name, "count", name, plan, outputs=(f"{name}.txt",)) for name, plan in plans.items()]
    return [*counting, Job("wide", "span", "alone", {"name": "wide"}, ("a", "b", "c"), cores=1 << 16)]


def results(markers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: marker["result"] for name, marker in markers.items()}


def test_two_machines_give_the_results_of_one(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_ray_stages  # type: ignore[import-not-found]

    monkeypatch.setenv("PYTHONPATH", str(Path(toy_ray_stages.__file__).parent))
    assert [node.cores for node in cluster.nodes] == [2, 2]
    here, there = StudyFolder(tmp_path / "here"), StudyFolder(tmp_path / "there")
    for folder in (here, there):
        folder.root.mkdir()
    cluster.check(there.root)
    assert list(there.root.iterdir()) == []  # the probe is gone
    local = run_jobs(jobs(), here, cores=2, version="1", module="toy_ray_stages")
    remote = run_jobs(jobs(), there, cores=1, version="1", module="toy_ray_stages", cluster=cluster)
    assert results(remote) == results(local)
    assert {name: marker["fingerprint"] for name, marker in remote.items()} == {
        name: marker["fingerprint"] for name, marker in local.items()
    }  # a study may go on without the cluster, and the other way round
    assert json.loads(there.usage.read_text())[0]["cores"] == 4
    with pytest.raises(BadInput, match="looking: the folder is missing; make it"):
        bad = Job("bad", "refuse", "looking", {})
        run_jobs([bad], there, cores=1, version="1", module="toy_ray_stages", cluster=cluster)


def test_wide_jobs_do_not_share_a_machine(cluster: Cluster, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    wide = [Job(name, "span", name, {"name": name}, cores=2) for name in ("p", "q", "r")]
    run_jobs(wide, folder, cores=1, version="1", module="toy_ray_stages", cluster=cluster)
    spans = sorted((float(a), float(b)) for _, a, b in map(str.split, _whole_lines(tmp_path)))
    assert len(spans) == 3
    for moment in [start for start, _ in spans]:
        assert sum(start <= moment < end for start, end in spans) <= 2  # two machines of two cores, two cores each


def _whole_lines(folder: Path) -> list[str]:
    """Put the notes of jobs that ran at the same time in order: NAME START END each."""
    words = (folder / "spans.txt").read_text().split()
    starts = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i].isalpha()}
    ends = [word for i, word in enumerate(words) if not word.isalpha() and not words[i - 1].isalpha()]
    order = sorted(starts, key=lambda name: float(starts[name]))
    return [f"{name} {starts[name]} {end}" for name, end in zip(order, sorted(ends, key=float), strict=True)]


def test_a_job_whose_worker_dies_goes_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    folder, killed = StudyFolder(tmp_path), []

    def kill() -> None:
        """Kill the Ray worker (the parent of the job's process) that counts in a.txt."""
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            notes = (tmp_path / "pids.txt").read_text().splitlines() if (tmp_path / "pids.txt").exists() else []
            host = [int(note.split()[1]) for note in notes if note.startswith("a.txt ")]
            if len(host) >= 3:
                os.kill(host[-1], signal.SIGKILL)
                killed.append(host[-1])
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    run_jobs(jobs(pause_s=0.1)[:3], folder, cores=1, version="1", module="toy_ray_stages", cluster=cluster)
    killer.join()
    hosts = [int(note.split()[1]) for note in (tmp_path / "pids.txt").read_text().splitlines() if note.startswith("a.txt ")]
    assert killed[0] in hosts
    assert hosts[-1] != killed[0]  # it went on in another worker
    import random

    for seed, name in enumerate("abc"):  # nothing lost, nothing twice
        numbers = random.Random(seed)
        assert (tmp_path / f"{name}.txt").read_text().split() == [str(numbers.random()) for _ in range(20)]


TASKS = '''
import os, signal, time
from pathlib import Path
from roadworthy.runtime.errors import BadInput

def drive(report, folder, name, routes, die):
    """Append one line per route that is not driven yet; the host dies once, in the middle of the second."""
    path = Path(folder) / name
    for route in range(routes):
        done = path.read_text().split() if path.exists() else []
        if str(route) in done:
            continue
        if die and route == 1 and not (Path(folder) / "died").exists():
            (Path(folder) / "died").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        with path.open("a") as file:
            file.write(f"{route}\\n")
        report((f"route {route}", (route + 1) / routes, True))
    return f"{name}: {routes}"

def refuse(report):
    raise BadInput("no such town")

def fail(report):
    raise ValueError("a fault of ours")
'''


def test_drives_of_a_dead_worker_go_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    import toy_ray_tasks as toy  # type: ignore[import-not-found]

    seen: list[tuple[str, float]] = []
    restarts: list[str] = []
    tasks = [Work(name, toy.drive, (str(tmp_path), name, 4, name == "a")) for name in ("a", "b", "c")]
    found = cluster.run_tasks(
        tasks, workers=4, progress=lambda text, share: seen.append((text, share)), on_restart=restarts.append
    )
    assert found == ["a: 4", "b: 4", "c: 4"]
    assert (tmp_path / "died").exists()
    assert len(restarts) == 1
    assert "a worker of the cluster died" in restarts[0]
    for name in ("a", "b", "c"):
        assert (tmp_path / name).read_text().split() == ["0", "1", "2", "3"]  # each once
    assert "b: route 3" in [text for text, _ in seen]


def test_an_episode_is_the_same_on_the_cluster_and_here(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "agent"))
        from tiny_model import write_tiny_model  # type: ignore[import-not-found]

        model = write_tiny_model(tmp_path / "tiny.onnx")
    tasks: tuple[tuple[Task, int], ...] = (("straight", 1), ("one-turn", 1))
    suite = Suite("tiny", "Grid01", held_out=False, tasks=tasks, max_length_m=75.0, vehicles=3, walkers=6)
    driver = Driver("tiny", model, Path("baseline:forward"))
    here = evaluate_policies([driver], [suite], tmp_path / "here.jsonl", workers=1)  # one after the other, in one town
    there = evaluate_policies([driver], [suite], tmp_path / "there.jsonl", workers=2, run=cluster.run_tasks)  # two towns
    assert sorted(there, key=lambda episode: episode.id) == here
    assert sum(len(episode.infractions) for episode in here) > 0


def test_errors_of_tasks_are_those_of_local_processes(cluster: Cluster) -> None:
    import toy_ray_tasks as toy

    for run in (run_tasks, cluster.run_tasks):
        with pytest.raises(BadInput, match="no such town"):
            run([Work("refuse", toy.refuse)], workers=1)
        with pytest.raises(WorkerFailed, match="a fault of ours"):
            run([Work("fail", toy.fail)], workers=1)


def test_no_cluster_is_a_clear_error(tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(BadInput, match=f"no Ray cluster answers at '{address}'.*ray start --head"):
            Cluster.open(address, tmp_path)


def test_a_folder_that_the_machines_do_not_see_is_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def vanish(self: Path, *_: object, **__: object) -> None:
        """Stand in for a folder that only this machine has: the probe is never there for the others."""

    monkeypatch.setattr(Path, "touch", vanish)
    monkeypatch.setattr(Path, "unlink", vanish)
    with pytest.raises(RoadworthyError, match=r"does not see .*put it on a file system that all share"):
        cluster.check(tmp_path)
