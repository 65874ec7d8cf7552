"""How many steps per second `roadworthy/Drive-v0` makes, and where each millisecond goes. Prints JSON.

python -m roadworthy.scripts.bench_env MODEL.onnx --steps 500 --vehicles 15 --walkers 15
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from roadworthy.agent.parallel import Task, run_tasks
from roadworthy.agent.supervisor import Report
from roadworthy.runtime.machine import describe


class Stopwatch:
    """Adds up the time spent in functions that it is wrapped around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, its time counted under `name`."""

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds[name] += time.perf_counter() - began

        return timed


def drive(
    report: Report, model: Path, policy: Path | None, town: str, steps: int, vehicles: int, walkers: int, threads: int
) -> dict[str, Any]:
    """Drive in one environment and return its speed and split; runs in a worker process."""
    import torch

    from roadworthy.agent.env import DriveEnv
    from roadworthy.agent.policy import build_policy, load_policy

    torch.set_num_threads(threads)
    env = DriveEnv(model, town=town, mode="evaluate", vehicles=(vehicles,) * 2, walkers=(walkers,) * 2, threads=threads)
    watch = Stopwatch()
    try:
        began = time.perf_counter()
        observation, _ = env.reset(seed=0)
        start_s = time.perf_counter() - began
        assert env.session is not None
        assert env.ego is not None
        assert env.segmenter.latent_shape is not None
        driver = load_policy(policy)[0] if policy else build_policy(env.segmenter.latent_shape, seed=0)
        camera = env.ego._camera
        env.session.tick = watch.around("simulator tick", env.session.tick)  # type: ignore[method-assign]
        camera.read = watch.around("camera frame", camera.read)  # type: ignore[method-assign]
        env.segmenter = watch.around("latent", env.segmenter)  # type: ignore[assignment]
        resets: list[float] = []
        for step in range(steps):
            if step == min(50, steps // 5):  # warmed up
                watch.seconds.clear()
                measured_from, counted_from = time.perf_counter(), step
                resets.clear()
            act = time.perf_counter()
            action = driver.act(observation)
            watch.seconds["policy"] += time.perf_counter() - act
            inside = time.perf_counter()
            observation, _, ended, truncated, _ = env.step(action)
            watch.seconds["step"] += time.perf_counter() - inside
            if ended or truncated:
                inside = time.perf_counter()
                kept = dict(watch.seconds)
                observation, _ = env.reset()
                watch.seconds.update(kept)
                resets.append(time.perf_counter() - inside)
            if step % 50 == 0:
                report((f"step {step} of {steps}", step / steps, False))
        wall_s = time.perf_counter() - measured_from - sum(resets)
    finally:
        env.close()
    count = steps - counted_from
    split = {name: round(1000 * seconds / count, 3) for name, seconds in watch.seconds.items()}
    inner = sum(split.get(name, 0.0) for name in ("simulator tick", "camera frame", "latent"))
    split["bookkeeping"] = round(split.pop("step") - inner, 3)
    return {
        "steps": count,
        "steps_per_s": round(count / wall_s, 1),
        "ms_per_step": split,
        "start_s": round(start_s, 2),
        "resets": len(resets),
        "reset_s": round(float(np.mean(resets)), 3) if resets else None,
    }


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", type=click.Path(exists=True, path_type=Path), help="A trained policy folder; untrained without.")
@click.option("--town", default="Grid01", show_default=True)
@click.option("--steps", default=500, show_default=True, help="Environment steps per environment.")
@click.option("--vehicles", default=15, show_default=True)
@click.option("--walkers", default=15, show_default=True)
@click.option("--envs", default=1, show_default=True, help="Environments side by side, each with its own town.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of the segmenter and the policy, per environment.")
def main(model: Path, policy: Path | None, town: str, steps: int, vehicles: int, walkers: int, envs: int, threads: int) -> None:
    """Measure the driving environment on MODEL, an exported segmenter with a latent output."""
    tasks = [Task(f"env {i}", drive, (model, policy, town, steps, vehicles, walkers, threads)) for i in range(envs)]
    results = run_tasks(tasks, workers=envs)
    total = sum(result["steps_per_s"] for result in results)
    facts = {"model": str(model), "town": town, "vehicles": vehicles, "walkers": walkers, "envs": envs, "threads": threads}
    click.echo(json.dumps({**facts, "steps_per_s": round(total, 1), "runs": results, "machine": asdict(describe())}, indent=2))


if __name__ == "__main__":
    main()
