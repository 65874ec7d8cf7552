"""Learn a ground matrix together with a driver: drive, fine-tune the segmenter on what was seen, measure, and again.

One round of arXiv 2008.04751, III-C, is three steps, each of which leaves files that can be looked at:
1. `policy/`, `recording/`: the policy drives on the segmenter's latents and learns by A2C; frames and true tags are kept.
   With `policy_gradient` the encoder learns from the policy's loss too, and `encoder/` is the segmenter after that;
2. `segmenter/`: the segmenter goes on learning from those frames with the Wasserstein loss under the current matrix;
3. `ground.yaml`: the matrix made anew from the class centroids of the embedding (see `roadworthy.agent.ground`), on the frames
   of this round and all before it, as some classes hardly occur in those of one.
A round that has its `round.json` is done; after an interruption the first round without one is driven again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.claim import claim
from roadworthy.agent.encoder import EncoderGradient, NetworkLatents
from roadworthy.agent.env import DriveConfig, DriveEnv
from roadworthy.agent.frame_keeper import FrameKeeper, WithFrames
from roadworthy.agent.ground import FIRST_ALPHA, alpha_at, blend, measure_centroids
from roadworthy.agent.judged_drive import check_fit
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.parallel import Task, reporter, run_tasks
from roadworthy.agent.policy import build_policy, load_policy, save_policy
from roadworthy.agent.recording import Recording
from roadworthy.agent.supervisor import Report
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.train.checkpoint import load_run, save_model
from roadworthy.train.config import CONFIG_FILE, TrainConfig
from roadworthy.train.data import open_dataset
from roadworthy.train.fit import fit
from roadworthy.train.ground import GroundMatrix, MetricKind, ground_metric, load_ground, open_ground

Progress = Callable[[str, float], None]

DONE_FILE, GROUND_FILE, HISTORY_FILE = "round.json", "ground.yaml", "history.json"
DRIVE_SHARE, TRAIN_SHARE = 0.7, 0.25  # of a round's progress


@dataclass(frozen=True)
class GroundConfig:
    """How to learn a ground matrix."""

    rounds: int = 6
    drive_steps: int = 2000  # of 0.1 s per round, in which A2C learns
    keep_every: int = 5  # steps between kept frames
    segmenter_steps: int = 100  # updates with the Wasserstein loss per round
    batch_size: int = 8  # frames per update
    learning_rate: float = 2e-4  # of the segmenter
    policy_gradient: bool = False  # the policy's gradient changes the encoder too; slow without a GPU
    policy_gradient_rate: float = 1e-5  # of the encoder then: the gradient of 20 steps of driving is mostly noise
    predefined: str = "severity"  # the matrix to begin with: severity, importance, or a ground.yaml file
    kind: MetricKind = "linear"  # f of the blend
    rho: float = 2.0  # of f = "power"
    tau: float = 0.5  # of f = "huber"
    first_alpha: float = FIRST_ALPHA  # weight of the predefined matrix in the first round; 0 in the last
    world: DriveConfig = field(default_factory=DriveConfig)
    seed: int = 0
    threads: int = 2  # CPU threads of the segmenter's training

    def check(self) -> None:
        """Raise `BadInput` naming the value that will not do."""
        for name in ("rounds", "drive_steps", "keep_every", "segmenter_steps", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not (math.isfinite(self.first_alpha) and self.first_alpha >= 0):
            raise BadInput(f"first_alpha is {self.first_alpha}, expected a number of at least 0")
        for name in ("learning_rate", "policy_gradient_rate", "rho", "tau"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise BadInput(f"{name} is {getattr(self, name)}, expected a number above 0")
        ground_metric(np.zeros((2, 2)), self.kind, self.rho, self.tau)
        self.world.check()


def learn_ground(
    segmenter: Path, output: Path, config: GroundConfig, *, start: Path | None = None, progress: Progress | None = None
) -> GroundMatrix:
    """Learn a ground matrix in the folder `output` and return it; an interrupted learning goes on.

    Args:
        segmenter: a training run in the town's taxonomy to begin with.
        output: gets `ground.yaml`, `history.json` (the matrix of every round) and a folder per round.
        config: what to do; an existing `output` must have been made with the same.
        start: a driver (trained on this segmenter's latents) to begin with; None = an untrained one.
        progress: called with a text and the fraction done.

    Raises:
        BadInput: the run is of another taxonomy, the driver does not fit it, or `output` belongs to another learning.
        RoadworthyError: the simulator keeps dying.
    """
    config.check()
    _, run_config, taxonomy = load_run(segmenter)
    if taxonomy.name != TOWN.name:
        raise BadInput(
            f"{segmenter} predicts the classes of {taxonomy.name!r}, expected {TOWN.name!r}: train it on a recording"
        )
    if start is not None:
        load_policy(start)
    height, width = run_config.size
    world = dataclasses.replace(config.world, rig=CameraRig(width_px=width, height_px=height), truth=True)
    config = dataclasses.replace(config, world=world)
    predefined = open_ground(config.predefined, TOWN)
    claim(output, {"segmenter": str(segmenter), "start": start and str(start), **dataclasses.asdict(config)})
    unseen = np.full(predefined.cost.shape, np.nan)
    matrix = blend(unseen, predefined, 0.0, kind=config.kind, rho=config.rho, tau=config.tau)
    run, policy = segmenter, start
    history: list[dict[str, Any]] = []
    for index in range(config.rounds):
        folder = round_folder(output, index)
        tell = _part(progress, index, config.rounds)
        if not (folder / DONE_FILE).exists():
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            before = folder / "ground-before.yaml"
            matrix.save(before)
            seed = config.seed + index
            # A driver that could not drive before the first round learns as from nothing in all of them.
            plan = (
                LearnConfig.scratch("a2c", config.drive_steps, seed)
                if start is None
                else LearnConfig.fine_tune(config.drive_steps, seed)
            ).part(index, config.rounds)
            task = Task(f"round {index + 1}", _drive, (run, policy, folder, config, plan))
            run_tasks([task], workers=1, progress=_scaled(tell, DRIVE_SHARE))
            driven = folder / "encoder" if config.policy_gradient else run
            matrix, facts = _study(driven, folder, before, predefined, config, index, tell)
            write_text(folder / DONE_FILE, json.dumps(facts))
        facts = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
        matrix = load_ground(folder / GROUND_FILE, TOWN)
        history.append({**facts, "cost": matrix.cost.tolist()})
        run, policy = folder / "segmenter", folder / "policy"
        write_text(output / HISTORY_FILE, json.dumps({"classes": list(matrix.classes), "rounds": history}))
    matrix.save(output / GROUND_FILE)
    return matrix


def round_folder(output: Path, index: int) -> Path:
    """Return the folder of round `index`, counted from 0."""
    return output / f"round-{index:02d}"


def _drive(report: Report, run: Path, before: Path | None, folder: Path, config: GroundConfig, plan: LearnConfig) -> None:
    """Drive one round and let the policy `before` (None: an untrained one) learn as planned; runs in a worker process."""
    progress = reporter(report)
    torch.set_num_threads(1)
    for part in ("recording", "policy", "encoder"):  # of an attempt that a dying simulator ended
        if (folder / part).exists():
            shutil.rmtree(folder / part)
    network, run_config, taxonomy = load_run(run)
    latents = NetworkLatents(network, run_config.size)
    env = DriveEnv(latents, config.world)
    recording = Recording.open(
        folder / "recording", {"round": folder.name, "drive_steps": config.drive_steps, "seed": plan.seed}
    )
    keeper = FrameKeeper(env, recording, config.keep_every)
    seen: gymnasium.Env[Any, Any] = WithFrames(keeper, env) if config.policy_gradient else keeper
    encoder = EncoderGradient(network, config.policy_gradient_rate) if config.policy_gradient else None
    try:
        if before is None:
            assert latents.latent_shape is not None
            policy = build_policy(latents.latent_shape, plan.seed)
        else:
            policy = load_policy(before)[0]
        check_fit(policy, env, before or run)
        result = learn(policy, seen, plan, progress, encoder=encoder)
        keeper.flush()
    finally:
        env.close()
    if encoder is not None:
        run_config.save(folder / "encoder" / CONFIG_FILE)
        save_model(folder / "encoder", network, run_config, taxonomy)
    facts = {"steps": result.steps, "episodes": result.episodes, "returns": list(result.returns)}
    save_policy(policy, folder / "policy", facts, result.examples)


def _study(
    run: Path, folder: Path, before: Path, predefined: GroundMatrix, config: GroundConfig, index: int, tell: Progress
) -> tuple[GroundMatrix, dict[str, Any]]:
    """Fine-tune the segmenter on the round's frames, and make the matrix anew."""
    _, run_config, _ = load_run(run)
    plan = TrainConfig(
        data=f"recording:{folder / 'recording'}",
        model=run_config.model,
        objective="wasserstein",
        ground=str(before),
        init=str(run),
        steps=config.segmenter_steps,
        batch_size=config.batch_size,
        size=run_config.size,
        learning_rate=config.learning_rate,
        seed=config.seed + index,
        device="cpu",
        threads=config.threads,
        tensorboard=False,
    )
    result = fit(plan, folder / "segmenter", progress=lambda text, done: tell(text, DRIVE_SHARE + TRAIN_SHARE * done))
    network, _, _ = load_run(folder / "segmenter")
    tell("measuring the classes", DRIVE_SHARE + TRAIN_SHARE)
    shown = [f"recording:{round_folder(folder.parent, number) / 'recording'}" for number in range(index + 1)]
    centroids = measure_centroids(network, shown, batch_size=config.batch_size)
    alpha = alpha_at(index, config.rounds, config.first_alpha)
    matrix = blend(centroids.distances(), predefined, alpha, kind=config.kind, rho=config.rho, tau=config.tau)
    matrix.save(folder / GROUND_FILE)
    _, policy = load_policy(folder / "policy")
    facts = {
        "round": index,
        "alpha": alpha,
        "frames": len(open_dataset(plan.data)),
        "positions": dict(zip(TOWN.classes, centroids.counts.tolist(), strict=True)),
        "seen": [name for name, seen in zip(TOWN.classes, centroids.seen(), strict=True) if seen],
        "validation_miou": result.validation.mean_iou,
        "episodes": policy["episodes"],
        "mean_return": round(float(np.mean(policy["returns"])), 3) if policy["returns"] else None,
    }
    return matrix, facts


def _scaled(tell: Progress, share: float) -> Progress:
    """Make what reports 0..1 report 0..share."""
    return lambda text, done: tell(text, share * done)


def _part(progress: Progress | None, index: int, rounds: int) -> Progress:
    """Make the progress of one round part of the whole."""

    def tell(text: str, done: float) -> None:
        if progress is not None:
            progress(f"round {index + 1} of {rounds}: {text}", (index + done) / rounds)

    return tell
