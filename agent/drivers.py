"""One driver per segmenter: latents of the shared demonstrations, imitation, a stretch of A2C, and the better of the two kept.

Every segmenter gets the same demonstrations, seeds, routes and number of steps; only its latents differ.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.env import DriveConfig, DriveEnv
from roadworthy.agent.imitation import CloneConfig, clone, demonstration_latents
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.parallel import Task as Work
from roadworthy.agent.parallel import reporter, run_tasks
from roadworthy.agent.policy import FACTS_FILE, DrivePolicy, load_examples, load_policy, save_policy
from roadworthy.agent.session import SimulatorLost
from roadworthy.agent.supervisor import Report
from roadworthy.runtime.segmenter import load

Progress = Callable[[str, float], None]

JUDGE_ATTEMPTS = 3  # per judging route, when the simulator is lost on it
CLONED = "cloned"  # sub-folder that keeps the imitated policy: a restart goes on from it


@dataclass(frozen=True)
class DriverConfig:
    """How a driver is trained on one segmenter."""

    clone: CloneConfig = field(default_factory=CloneConfig)
    world: DriveConfig = field(default_factory=DriveConfig)  # where A2C drives: training towns and weathers only
    a2c_steps: int = 0  # of the environment; 0 = imitation only
    judge_routes: int = 3  # driven before and after A2C to keep the better policy
    judge_seed: int = 50
    seed: int = 0  # of imitation and A2C


@dataclass(frozen=True)
class DriverTask:
    """Train a driver on `model`'s latents and save it in `policy`."""

    segmenter: str  # its name in messages
    model: Path
    policy: Path


def train_drivers(
    tasks: Sequence[DriverTask],
    demonstrations: Path,
    config: DriverConfig | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train a driver for each task, each in a worker process, and return what the policies' facts say.

    Policies that exist already are left as they are.
    """
    config = config or DriverConfig()
    missing = [task for task in tasks if not (task.policy / FACTS_FILE).exists()]
    work = [Work(f"driver on {task.segmenter}", _train_driver, (task, demonstrations, config)) for task in missing]
    run_tasks(work, workers=workers, progress=progress)
    return [load_policy(task.policy)[1] for task in tasks]


def _train_driver(report: Report, task: DriverTask, folder: Path, config: DriverConfig) -> None:
    """Train one driver; runs in a worker process."""
    progress = reporter(report)
    torch.set_num_threads(config.clone.threads)
    cloned = task.policy / CLONED
    if (cloned / FACTS_FILE).exists():
        policy, facts = load_policy(cloned)
        examples = load_examples(cloned)
    else:
        policy, facts, examples = _imitate(task, folder, config, progress)
        save_policy(policy, cloned, facts, examples)
        report(("imitation done", 0.6, True))
    if config.a2c_steps > 0:
        policy, a2c = fine_tune(policy, task.model, config, lambda text, share: progress(text, 0.6 + 0.4 * share))
        facts = {**facts, "a2c": a2c}
    save_policy(policy, task.policy, facts, examples)


def _imitate(
    task: DriverTask, folder: Path, config: DriverConfig, progress: Progress
) -> tuple[DrivePolicy, dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Clone the expert; returns the policy, what its facts say, and some observations."""
    began = time.monotonic()
    demonstrations = Demonstrations.load(folder)
    segmenter = load(task.model, device="cpu", threads=config.clone.threads)
    latents = demonstration_latents(segmenter, demonstrations, lambda text, share: progress(text, 0.1 * share))
    seen = time.monotonic()
    settings = replace(config.clone, seed=config.seed)
    result = clone(latents, demonstrations, settings, lambda text, share: progress(text, 0.1 + 0.5 * share))
    imitation = {
        "samples": len(demonstrations),
        "steps": settings.steps,
        "train_loss": round(result.train_loss, 4),
        "validation": result.validation,
        "latents_s": round(seen - began, 1),
        "training_s": round(time.monotonic() - seen, 1),
    }
    facts = {"segmenter": task.segmenter, "model": task.model.name, "seed": config.seed, "imitation": imitation}
    return result.policy, facts, result.examples


def fine_tune(policy: DrivePolicy, model: Path, config: DriverConfig, progress: Progress) -> tuple[DrivePolicy, dict[str, Any]]:
    """Let A2C drive; return its policy if it does better on the judging routes, else the one given, and what happened.

    A short stretch of A2C can ruin a policy that drives. The judging routes, weathers and traffic are of the training world and
    the same for both; a tie keeps the policy that was given. The simulator's client lives in this process: run it in a worker.
    """
    began = time.monotonic()
    env = DriveEnv(model, replace(config.world, threads=config.clone.threads))
    try:
        before = _judge(policy, env, config, lambda text: progress(f"before A2C: {text}", 0.05))
        tuned = copy.deepcopy(policy)
        settings = LearnConfig.fine_tune(config.a2c_steps, config.seed)
        result = learn(tuned, env, settings, lambda text, share: progress(text, 0.1 + 0.7 * share))
        after = _judge(tuned, env, config, lambda text: progress(f"after A2C: {text}", 0.85))
    finally:
        env.close()
    better = after > before
    facts = {
        "steps": result.steps,
        "episodes": result.episodes,
        "mean_return": round(float(np.mean(result.returns)), 2) if result.returns else None,
        "judged_before": before,
        "judged_after": after,
        "kept": better,
        "seconds": round(time.monotonic() - began, 1),
    }
    return (tuned if better else policy), facts


def _judge(policy: DrivePolicy, env: DriveEnv, config: DriverConfig, progress: Callable[[str], None]) -> float:
    """Return the mean return of the deterministic policy on the judging routes.

    Raises `SimulatorLost` when the simulator is lost on a route again and again.
    """
    returns = []
    for route in range(config.judge_routes):
        progress(f"judging route {route + 1} of {config.judge_routes}")
        returns.append(_judged_return(policy, env, config.judge_seed + route))
    return round(float(np.mean(returns)), 3)


def _judged_return(policy: DrivePolicy, env: DriveEnv, seed: int) -> float:
    """Return what the episode of `seed` pays; one that lost its simulator is driven again: both policies drive all."""
    for _ in range(JUDGE_ATTEMPTS):
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        info: dict[str, Any] = {}
        while not over:
            observation, reward, ended, truncated, info = env.step(policy.act(observation))
            total, over = total + reward, ended or truncated
        if info.get("ended") != "error":
            return total
    raise SimulatorLost(f"the simulator was lost on a judging route in each of {JUDGE_ATTEMPTS} attempts ({info['error']})")
