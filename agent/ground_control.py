"""What did driving add to a ground matrix? The same centroids with one thing changed: the segmenter, or who drove.

`random_frames` drives the same world with random controls and keeps the frames as ground learning does. With the learnt
segmenter on them, and a segmenter that never learned from driving on the driver's own frames, each control differs from the
learnt matrix in one thing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from roadworthy.agent.baselines import RandomDriver
from roadworthy.agent.frame_keeper import FrameKeeper
from roadworthy.agent.outlook import FRAMES, View, open_env
from roadworthy.agent.parallel import Task, reporter, run_tasks
from roadworthy.agent.recording import Recording
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.supervisor import Report

Progress = Callable[[str, float], None]


def random_frames(
    output: Path, world: DriveConfig, *, steps: int, keep_every: int, seed: int, progress: Progress | None = None
) -> None:
    """Drive `steps` of 0.1 s with random controls in `world`, and keep every n-th frame as a recording in `output`."""
    task = Task("random driver", _drive, (output, world, steps, keep_every, seed))
    run_tasks([task], workers=1, progress=progress)


def _drive(report: Report, output: Path, world: DriveConfig, steps: int, keep_every: int, seed: int) -> None:
    """Drive in a worker process; an attempt that a dying simulator ended is begun again."""
    progress = reporter(report)
    shutil.rmtree(output, ignore_errors=True)
    env = open_env(View(FRAMES), replace(world, truth=True))
    keeper = FrameKeeper(env, Recording.open(output, {"driver": "random", "steps": steps, "seed": seed}), keep_every)
    driver = RandomDriver(seed)
    try:
        observation, _ = keeper.reset(seed=seed)
        for step in range(steps):
            observation, _, ended, truncated, _ = keeper.step(driver.act(observation))
            if ended or truncated:
                observation, _ = keeper.reset()
            if step % 20 == 0:
                progress(f"step {step} of {steps}", step / steps)
        keeper.flush()
    finally:
        env.close()
