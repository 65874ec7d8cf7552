"""Learn a ground matrix together with a driver: drive, fine-tune the segmenter on what was seen, measure, and again.

One round of arXiv 2008.04751, III-C, is three steps, each of which leaves files that can be looked at:
1. `policy/`, `recording/`: the policy drives on the segmenter's latents and learns by A2C; frames and true tags are kept;
2. `segmenter/`: the segmenter goes on learning from those frames with the Wasserstein loss under the current matrix;
3. `ground.yaml`: the matrix made anew from the class centroids of the embedding (see `roadworthy.agent.ground`).
A round that has its `round.json` is done; after an interruption the first round without one is driven again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.env import DriveConfig, DriveEnv
from roadworthy.agent.ground import FIRST_ALPHA, Centroids, alpha_at, blend
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.observation import LatentShape, Observation
from roadworthy.agent.parallel import Task, reporter, run_tasks
from roadworthy.agent.policy import build_policy, load_policy, save_policy
from roadworthy.agent.recording import Recording
from roadworthy.agent.supervisor import Report
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.segmenter import Segmentation
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.train.checkpoint import load_run
from roadworthy.train.config import TrainConfig
from roadworthy.train.data import open_dataset
from roadworthy.train.fit import fit
from roadworthy.train.ground import GroundMatrix, MetricKind, load_ground, open_ground
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.models.prediction import Segmenter as Network

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
    _claim(output, {"segmenter": str(segmenter), "start": start and str(start), **dataclasses.asdict(config)})
    matrix, run, policy = blend(np.full(predefined.cost.shape, np.nan), predefined, 0.0, kind=config.kind), segmenter, start
    history: list[dict[str, Any]] = []
    for index in range(config.rounds):
        folder = output / f"round-{index:02d}"
        tell = _part(progress, index, config.rounds)
        if not (folder / DONE_FILE).exists():
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            before = folder / "ground-before.yaml"
            matrix.save(before)
            task = Task(f"round {index + 1}", _drive, (run, policy, folder, config, config.seed + index))
            run_tasks([task], workers=1, progress=_scaled(tell, DRIVE_SHARE))
            matrix, facts = _study(run, folder, before, predefined, config, index, tell)
            write_text(folder / DONE_FILE, json.dumps(facts))
        facts = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
        matrix = load_ground(folder / GROUND_FILE, TOWN)
        history.append({**facts, "cost": matrix.cost.tolist()})
        run, policy = folder / "segmenter", folder / "policy"
        write_text(output / HISTORY_FILE, json.dumps({"classes": list(matrix.classes), "rounds": history}))
    matrix.save(output / GROUND_FILE)
    return matrix


def measure_centroids(network: Network, data: str, *, batch_size: int = 8, progress: Progress | None = None) -> Centroids:
    """Gather the class centroids of `network`'s embedding over a labelled data set (`recording:PATH`, ...)."""
    dataset = open_dataset(data)
    centroids = Centroids(len(dataset.taxonomy))
    with torch.inference_mode():
        for first in range(0, len(dataset), batch_size):
            samples = [dataset[index] for index in range(first, min(first + batch_size, len(dataset)))]
            images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
            labels = torch.from_numpy(np.stack([sample.labels for sample in samples]).astype(np.int64))  # [B, H, W]
            centroids.add(network(normalise(images)).embedding, labels)
            if progress is not None:
                progress(f"frame {first + len(samples)} of {len(dataset)}", (first + len(samples)) / len(dataset))
    return centroids


class NetworkLatents:
    """A torch network as the environment's source of latents: no export between two rounds."""

    def __init__(self, network: Network, size: tuple[int, int]) -> None:
        """Wrap `network`, which takes frames of `size` (height, width)."""
        self._network = network.eval()
        with torch.inference_mode():
            shape = self._network.encode(normalise(torch.zeros(1, *size, 3, dtype=torch.uint8))).shape  # [1, C, h, w]
        self.latent_shape: LatentShape | None = (int(shape[1]), int(shape[2]), int(shape[3]))

    def __call__(self, frames: npt.NDArray[np.uint8]) -> Segmentation:
        """Run frames `uint8 [B, H, W, 3]`; gives the latent only."""
        with torch.inference_mode():
            latent = self._network.encode(normalise(torch.from_numpy(frames)))  # [B, C, h, w]
        return Segmentation(None, None, latent.numpy())


class FrameKeeper(gymnasium.Wrapper[Observation, npt.NDArray[np.float32], Observation, npt.NDArray[np.float32]]):
    """Keeps every n-th frame of the drives, with its true tags, as a recording."""

    def __init__(self, env: DriveEnv, recording: Recording, every: int) -> None:
        super().__init__(env)
        self._drive, self._recording, self._every = env, recording, every
        self._episode, self._steps = -1, 0
        self._lines: list[dict[str, Any]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the frames of the last one become part of the recording."""
        self.flush()
        self._episode += 1
        return self.env.reset(seed=seed, options=options)

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive, and keep the frame when it is its turn."""
        observation, reward, ended, truncated, info = self.env.step(action)
        self._steps += 1
        if self._steps % self._every == 0 and info.get("ended") != "error":
            self._keep(info)
        return observation, reward, ended, truncated, info

    def flush(self) -> None:
        """Write the lines of the episode so far."""
        if self._lines:
            self._recording.add_episode(self._lines)
            self._lines = []

    def _keep(self, info: Mapping[str, Any]) -> None:
        moment = self._drive.moment
        assert moment.tags is not None, "the environment runs with truth=True"
        assert self._drive.assignment is not None
        name = f"{self._episode:04d}_{self._steps:06d}"
        line = {
            "name": name,
            "episode": self._episode,
            "town": self._drive.config.town,
            "weather": self._drive.assignment.weather,
            "seed": self._drive.assignment.seed,
            "speed_mps": round(float(info["speed_mps"]), 3),
            "command": int(info["command"]),
        }
        self._lines.append({**line, **self._recording.save_images(name, moment.frame, moment.tags)})


def _drive(report: Report, run: Path, start: Path | None, folder: Path, config: GroundConfig, seed: int) -> None:
    """Drive one round and let the policy learn; runs in a worker process."""
    progress = reporter(report)
    torch.set_num_threads(1)
    for part in ("recording", "policy"):  # of an attempt that a dying simulator ended
        if (folder / part).exists():
            shutil.rmtree(folder / part)
    network, run_config, _ = load_run(run)
    latents = NetworkLatents(network, run_config.size)
    env = DriveEnv(latents, config.world)
    recording = Recording.open(folder / "recording", {"round": folder.name, "drive_steps": config.drive_steps, "seed": seed})
    keeper = FrameKeeper(env, recording, config.keep_every)
    try:
        if start is None:
            assert latents.latent_shape is not None
            shape = env.observation_space["latents"].shape  # type: ignore[index]  # it is a Dict space
            policy, plan = build_policy(tuple(shape[1:]), seed), LearnConfig(steps=config.drive_steps, seed=seed)
        else:
            policy, plan = load_policy(start)[0], LearnConfig.fine_tune(config.drive_steps, seed)
        if policy.observation_space != env.observation_space:
            raise BadInput(
                f"{start}: this driver was trained on latents of another shape than {run} gives; train one on this run"
            )
        result = learn(policy, keeper, plan, progress)
        keeper.flush()
    finally:
        env.close()
    save_policy(
        policy, folder / "policy", {"steps": result.steps, "episodes": result.episodes, "returns": list(result.returns)}
    )


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
    centroids = measure_centroids(network, f"recording:{folder / 'recording'}", batch_size=config.batch_size)
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


def _claim(output: Path, asked_for: Mapping[str, Any]) -> None:
    """Mark `output` as this learning's folder. Raises `BadInput` when it belongs to another one or holds something else."""
    path = output / "learning.json"
    wanted = json.loads(json.dumps(asked_for))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        different = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        if different:
            raise BadInput(f"{output} holds another learning (different: {', '.join(different)}): choose another folder")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output} exists and holds something else: choose an empty or new folder")
    write_text(path, json.dumps(wanted, indent=1))


def _scaled(tell: Progress, share: float) -> Progress:
    """Make what reports 0..1 report 0..share."""
    return lambda text, done: tell(text, share * done)


def _part(progress: Progress | None, index: int, rounds: int) -> Progress:
    """Make the progress of one round part of the whole."""

    def tell(text: str, done: float) -> None:
        if progress is not None:
            progress(f"round {index + 1} of {rounds}: {text}", (index + done) / rounds)

    return tell
