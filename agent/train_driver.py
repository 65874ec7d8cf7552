"""Learn by driving into a folder: towns, learner and checkpoints together; the same call goes on after a kill.

The folder gets `learning.json` (what was asked for), `last.ckpt.safetensors` (and `last.ckpt.replay/` of SAC) while it learns,
and at the end the policy's files and `curve.json`, a line [step, return, steps, completion] per training episode.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from roadworthy.agent.algorithms import LearnConfig
from roadworthy.agent.claim import claim
from roadworthy.agent.learn import LearnResult, learn, replay_folder
from roadworthy.agent.outlook import LATENTS, View, camera_for
from roadworthy.agent.policy import FACTS_FILE, build_policy, load_policy, save_policy
from roadworthy.agent.replay import check_memory
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.vector import TownVecEnv
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

Progress = Callable[[str, float], None]

CHECKPOINT_FILE, CURVE_FILE = "last.ckpt.safetensors", "curve.json"


@dataclass(frozen=True)
class Training:
    """What to learn, and in how many worlds."""

    learn: LearnConfig = field(default_factory=LearnConfig)
    world: DriveConfig = field(default_factory=DriveConfig)
    observation: str = LATENTS  # what the driver sees, one of views.OBSERVATIONS
    workers: int = 2  # processes with a town each
    egos: int = 5  # in each town; 2 x 5 are the paper's ten workers


def train_driver(
    segmenter: str | Path, output: Path, training: Training, *, start: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train a driver on `segmenter` (a model file, or `truth` where the observation allows it) and return its facts.

    The camera gets the size of the segmenter's frames, whatever the world's rig says of it. `start` is a driver to improve;
    None begins with an untrained one. A finished `output` is returned as it is. Raises `BadInput` when `output` belongs to
    another learning, the start does not fit the segmenter, or a replay buffer does not fit the machine.
    """
    training.learn.check()
    checkpoint = output / CHECKPOINT_FILE
    view = View(training.observation, segmenter)
    training = replace(training, world=replace(training.world, rig=camera_for(segmenter, training.world.rig)))
    space = view.observers(training.world)[0].space  # what is wrong with the segmenter is found here
    policy = build_policy(space, training.learn.seed) if start is None else load_policy(start)[0]
    if policy.observation_space != space:
        raise BadInput(f"{start}: takes {policy.input_shapes}, {segmenter} gives other shapes; imitate on this segmenter first")
    if training.learn.algo == "sac":
        check_memory(space, training.learn.replay_steps, replay_folder(checkpoint))
    claim(output, {"segmenter": str(segmenter), "start": start and str(start), **asdict(training)})
    if (output / FACTS_FILE).exists():
        return load_policy(output)[1]
    began = time.monotonic()
    vector = TownVecEnv(view, training.world, workers=training.workers, egos=training.egos)
    try:
        result = learn(policy, vector, training.learn, progress, checkpoint=checkpoint)
    finally:
        vector.close()
    facts = {"segmenter": str(segmenter), "start": start and str(start), "reinforcement": _facts(training, result, began)}
    write_text(output / CURVE_FILE, json.dumps([list(drive) for drive in result.drives]))
    save_policy(policy, output, facts, result.examples)
    shutil.rmtree(replay_folder(checkpoint), ignore_errors=True)  # gigabytes that nobody needs any more
    checkpoint.unlink(missing_ok=True)
    return load_policy(output)[1]


def _facts(training: Training, result: LearnResult, began: float) -> dict[str, Any]:
    recent = result.returns[-20:]
    return {
        "algo": training.learn.algo,
        "steps": result.steps,
        "episodes": result.episodes,
        "mean_return": round(float(np.mean(recent)), 2) if recent else None,  # of the last 20 episodes
        "environments": training.workers * training.egos,
        "seconds": round(time.monotonic() - began, 1),  # since it was begun or resumed
    }
