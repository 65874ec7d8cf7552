"""Vectors of egos in worker processes: the numbers of the single environment, and what becomes of workers that fail."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
from stable_baselines3.common.vec_env import VecMonitor

from roadworthy.agent.latents import LatentVecEnv
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.outlook import FRAMES, View
from roadworthy.agent.policy import build_policy
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.session import free_port
from roadworthy.agent.supervisor import WorkerFailed
from roadworthy.agent.vector import TownVecEnv
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import load

EMPTY = DriveConfig(vehicles=(0, 0), walkers=(0, 0), max_steps=8)
FORWARD = np.array([0.0, 0.6, 0.0], np.float32)


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    sys.path.insert(0, str(Path(__file__).parent))  # worker processes import by name
    yield importlib.import_module("vector_tasks")
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def model(tasks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert tasks
    path: Path = importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    return path


@contextmanager
def towns(view: View, config: DriveConfig = EMPTY, **options: object) -> Iterator[TownVecEnv]:
    vector = TownVecEnv(view, config, **options)
    try:
        yield vector
    finally:
        family = [psutil.Process(pid) for pid in vector.pids if psutil.pid_exists(pid)]
        family += [child for worker in family for child in worker.children(recursive=True)]
        vector.close()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, "a worker or a town outlives its vector"


def test_latents_are_the_same_in_the_workers_and_batched_here(model: Path) -> None:
    actions = np.random.default_rng(0).uniform(-0.5, 1.0, (70, 2, 3)).astype(np.float32)
    actions[:, 0] = (1.0, 1.0, 0.0)  # one leaves its lane soon and again: while it begins anew the world ticks for the other
    drives = []
    for own in (True, False):
        view = View("latents", model) if own else View(FRAMES)
        with towns(view, replace(EMPTY, max_steps=30), workers=1, egos=2) as vector:
            seen = vector if own else LatentVecEnv(vector, load(model, device="cpu", threads=1))
            seen.seed(4)
            rows = [(seen.reset(), None, None, None)]
            rows += [seen.step(action) for action in actions]
            drives.append(rows)
    ends = alone = 0
    for one, other in zip(*drives, strict=True):
        for key in ("latents", "measurements"):
            np.testing.assert_array_equal(one[0][key], other[0][key])
        if one[1] is None:
            continue
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])
        alone += one[2].sum() == 1
        for i in np.flatnonzero(one[2]):
            ends += 1
            last, same = one[3][i]["terminal_observation"], other[3][i]["terminal_observation"]
            np.testing.assert_array_equal(last["latents"], same["latents"])
            assert not np.array_equal(last["latents"], one[0]["latents"][i])  # the next episode begins elsewhere
    assert ends >= 4
    assert alone >= 2


def test_a2c_learns_on_two_towns(model: Path) -> None:
    with towns(View("latents", model), workers=2, egos=2) as vector:
        channels, rows, columns = vector.observation_space["latents"].shape[1:]
        policy = build_policy((channels, rows, columns), seed=0)
        before = policy.action_net.weight.detach().clone()
        result = learn(policy, VecMonitor(vector), LearnConfig(steps=64, rollout_steps=8))
    assert result.steps == 64
    assert result.episodes >= 4
    assert not before.equal(policy.action_net.weight)


def test_a_killed_town_is_replaced(tasks: ModuleType, model: Path) -> None:
    reasons: list[str] = []
    crowded = replace(EMPTY, vehicles=(2, 2))  # a Traffic Manager lives in the client: it takes the process along, or hangs
    with towns(View("latents", model), crowded, drive=tasks.Townsfolk, workers=1, on_restart=reasons.append) as vector:
        vector.reset()
        old = vector.env_method("town")[0]
        os.kill(old, signal.SIGKILL)
        observations, _, dones, infos = vector.step(FORWARD[None])
        assert dones[0]
        assert infos[0]["ended"] == "error"
        assert "hung" not in reasons[0]  # noticed by the client, not by our patience
        assert observations["latents"].std() > 0.05  # a street
        assert vector.env_method("town")[0] != old
        vector.step(FORWARD[None])


@pytest.fixture(scope="module")
def treacherous(tasks: ModuleType, model: Path) -> Iterator[tuple[TownVecEnv, list[str]]]:
    """Two workers with two egos each, who come to harm when told; no simulator."""
    reasons: list[str] = []
    with towns(View("latents", model), drive=tasks.Treacherous, workers=2, egos=2, on_restart=reasons.append) as vector:
        vector.seed(10)
        vector.reset()
        assert [facts["seed"] for facts in vector.reset_infos] == [10, 10, 12, 12]  # one per world
        yield vector, reasons


@pytest.mark.parametrize(
    ("harm", "reason"),
    [("SIGABRT", "SIGABRT"), ("SIGSEGV", "SIGSEGV"), ("hang", "hung"), ("client", "time-out of 20000ms")],
)
def test_a_worker_that_fails_is_started_again(
    treacherous: tuple[TownVecEnv, list[str]], monkeypatch: pytest.MonkeyPatch, harm: str, reason: str
) -> None:
    vector, reasons = treacherous
    pids = vector.pids
    reasons.clear()
    vector.step(np.tile(FORWARD, (4, 1)))
    vector.env_method("will", harm, indices=[2])
    if harm == "hang":
        monkeypatch.setattr(vector._workers[1], "_silence_s", 2.0)
        worker, restart = vector._workers[1], vector._workers[1].restart
        monkeypatch.setattr(worker, "restart", lambda: (setattr(worker, "_silence_s", 120.0), restart()))
    before = vector.step(np.tile(FORWARD, (4, 1)))
    assert len(reasons) == 1
    assert reason in reasons[0]
    observations, rewards, dones, infos = before
    assert dones.tolist() == [False, False, True, True]
    assert rewards.tolist() == pytest.approx([0.6, 0.6, 0.0, 0.0])
    assert [info.get("ended") for info in infos] == [None, None, "error", "error"]
    assert all(info["TimeLimit.truncated"] and reason in info["error"] for info in infos[2:])
    assert [info["terminal_observation"]["measurements"][0] for info in infos[2:]] == [1.0, 1.0]  # the last that was seen
    assert observations["measurements"][2:, 0].tolist() == [0.0, 0.0]  # the first of the next episode
    assert observations["measurements"][:, 1].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert vector.pids[0] == pids[0]
    assert vector.pids[1] != pids[1]
    assert not _lives(pids[1])
    assert not vector.step(np.tile(FORWARD, (4, 1)))[2].any()
    vector.reset()


@pytest.mark.parametrize(
    ("harm", "error", "message"), [("bug", WorkerFailed, "a mistake"), ("refuse", BadInput, "no such map")]
)
def test_what_repeating_cannot_help_is_raised_here(
    tasks: ModuleType, model: Path, harm: str, error: type[Exception], message: str
) -> None:
    with towns(View("latents", model), drive=tasks.Treacherous, workers=1) as vector:
        vector.reset()
        vector.env_method("will", harm)
        with pytest.raises(error, match=message):
            vector.step(FORWARD[None])


def test_a_worker_that_never_starts_is_given_up(tasks: ModuleType, model: Path) -> None:
    with (
        towns(View("latents", model), drive=tasks.Doomed, workers=1) as vector,
        pytest.raises(WorkerFailed, match=r"SIGABRT(.|\n)*3 of 3 attempts(.|\n)*about to die"),
    ):
        vector.reset()


def test_a_worker_that_gets_nowhere_is_given_up(tasks: ModuleType, model: Path) -> None:
    with towns(View("latents", model), drive=tasks.Stumbling, workers=1) as vector:
        vector.reset()
        assert [vector.step(FORWARD[None])[2][0] for _ in range(2)] == [True, True]
        with pytest.raises(WorkerFailed, match="3 of 3 attempts"):
            vector.step(FORWARD[None])


def test_what_is_asked_wrongly_is_refused_before_anything_starts(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown observation 'smell'"):
        TownVecEnv(View("smell", model))
    with pytest.raises(BadInput, match="workers is 0"):
        TownVecEnv(View("latents", model), workers=0)
    with pytest.raises(BadInput, match="names 1 servers for 2 workers"):
        TownVecEnv(View("latents", model), DriveConfig(carla="127.0.0.1:2000"), workers=2)
    with pytest.raises(BadInput, match=r"missing\.onnx"):
        TownVecEnv(View("latents", tmp_path / "missing.onnx"))
    with pytest.raises(BadInput, match="2 egos in one world"):
        TownVecEnv(View("latents", model), DriveConfig(mode="evaluate"), egos=2)
    with pytest.raises(BadInput, match="reward"):
        TownVecEnv(View("latents", model), DriveConfig(reward="speed"))


@pytest.mark.parametrize(
    ("change", "message"), [({"town": "Atlantis"}, "Atlantis"), ({"carla": f"127.0.0.1:{free_port()}"}, "no CARLA server")]
)
def test_what_a_worker_refuses_is_refused_here(model: Path, change: dict[str, Any], message: str) -> None:
    with towns(View("latents", model), replace(EMPTY, **change), workers=1) as vector, pytest.raises(BadInput, match=message):
        vector.reset()


def test_a_nan_action_is_refused(treacherous: tuple[TownVecEnv, list[str]]) -> None:
    actions = np.tile(FORWARD, (4, 1))
    actions[3, 1] = np.nan
    with pytest.raises(BadInput, match=r"environment 3 is .*three finite numbers"):
        treacherous[0].step(actions)


PROGRAM = """
import signal, sys
import numpy as np
from pathlib import Path
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.vector import TownVecEnv
from roadworthy.agent.outlook import View
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    vector = TownVecEnv(View("latents", Path(sys.argv[1])), DriveConfig(vehicles=(0, 0), walkers=(0, 0)), workers=1)
    try:
        vector.reset()
        print("driving", flush=True)
        while True:
            vector.step(np.zeros((1, 3), np.float32))
    finally:
        vector.close()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_program(model: Path, tmp_path: Path, how: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program), str(model)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "driving\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert any("roadworthy.agent.town" in " ".join(child.cmdline()) for child in children)
        parent.send_signal(how)
        parent.wait(60)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(_lives(child.pid) for child in children):
        time.sleep(0.2)
    assert not [child for child in children if _lives(child.pid)]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
