"""How many environment steps per second a vector of egos makes in all while A2C learns, and where each millisecond goes.

    python -m roadworthy.scripts.bench_env MODEL.onnx                       # with 15 cars and 15 walkers per world, and without
    python -m roadworthy.scripts.bench_env MODEL.onnx --egos 5 --output env.json

MODEL is an exported segmenter with a latent output; fastest is a latent-only graph (`roadworthy export --outputs latent`).
Nothing is left out: the policy (the paper's shape) looks at each observation, acts, and learns from every rollout of 20 steps;
episodes end and begin again. Without `--policy` it is untrained, with its throttle set so that the cars drive.

`steps_per_s` is what the wall clock says. `cpu_ms_per_step` is processor time, all processes together, which other work on the
machine changes less; `possible_steps_per_s` is what the cores could do if nothing ever waited. The parts of it:

- `render`, `physics`, `protocol`: the town's own account, `town_rest` what is left of its processes' time;
- `client`: CARLA's client: its threads with the Traffic Manager and the walkers, and `tick`;
- `latent`: the segmenter, in the workers (with `--batched` in the learner);
- `bookkeeping`: the rest of the workers: cameras' bytes, pose, lights, rewards, routes, shared memory;
- `policy`, `update`: in the learner; `learner_rest`: collecting the workers' answers, rollout buffer.
"""

from __future__ import annotations

import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psutil

from roadworthy.agent.observer import LatentObserver, Observer
from roadworthy.agent.outlook import FRAMES, LATENTS, View
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.shared import SharedDrive
from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe

if TYPE_CHECKING:
    from roadworthy.agent.vector import TownVecEnv

TOWN_PARTS = ("render", "physics", "protocol")
ROLLOUT_STEPS = 20  # the paper's
THROTTLE = 0.5  # of an untrained policy
Account = Mapping[str, float]  # processor seconds by part


class Stopwatch:
    """Adds up the processor time that functions take on the calling thread which it is wrapped around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def around(
        self, name: str, function: Callable[..., Any], clock: Callable[[], float] = time.thread_time
    ) -> Callable[..., Any]:
        """Return `function`, its time on `clock` counted under `name`."""

        def timed(*args: Any, **options: Any) -> Any:
            began = clock()
            try:
                return function(*args, **options)
            finally:
                self.seconds[name] += clock() - began

        return timed


class TimedDrive(SharedDrive):
    """A worker's egos, with an account of the processor time."""

    def __init__(self, observers: Sequence[Observer], config: DriveConfig) -> None:
        """Count the latents' time."""
        super().__init__(observers, config)
        self._watch = Stopwatch()
        for observer in observers:
            if isinstance(observer, LatentObserver):
                observer.observe = self._watch.around("latent", observer.observe)  # type: ignore[method-assign]

    def reset(self, seed: int | None = None) -> list[tuple[Any, dict[str, Any]]]:
        """Begin, and count the time of `tick` from now on."""
        started = super().reset(seed)
        session = self.stage.session
        assert session is not None
        session.tick = self._watch.around("tick", session.tick)  # type: ignore[method-assign]
        return started

    def account(self) -> dict[str, float]:
        """Return the processor seconds of this worker and its town so far, by part."""
        session = self.stage.session
        assert session is not None
        assert session.town is not None, "the benchmark drives in embedded towns"
        own, watch = time.thread_time(), self._watch.seconds
        times = psutil.Process(session.town.pid).cpu_times()
        parts = _town_timings(session.town.port)
        return {
            **parts,
            "town_rest": times.user + times.system - sum(parts.values()),
            "client": time.process_time() - own + watch["tick"],
            "latent": watch["latent"],
            "bookkeeping": own - watch["tick"] - watch["latent"],
        }


def _town_timings(port: int) -> dict[str, float]:
    """Ask the town for its own account [s], past the client."""
    import msgpack

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(msgpack.packb([0, 1, "get_town_timings", [[False]]]))
        unpacker = msgpack.Unpacker(raw=False)
        while True:
            unpacker.feed(connection.recv(1 << 16))
            for message in unpacker:
                found = {name: float(value) for name, value in message[3][0][1]}
                return {part: found[f"{part}_s"] for part in TOWN_PARTS}


def measure(
    view: View, config: DriveConfig, workers: int, egos: int, steps: int, threads: int, policy: Path | None
) -> dict[str, Any]:
    """Let A2C drive and learn for `steps` of all environments together after a warm-up; return speed and split."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from roadworthy.agent.algorithms import LearnConfig, build_algorithm
    from roadworthy.agent.latents import LatentVecEnv
    from roadworthy.agent.policy import build_policy, load_policy
    from roadworthy.agent.vector import TownVecEnv
    from roadworthy.runtime.segmenter import load

    torch.set_num_threads(threads)
    watch = Stopwatch()
    batched = view.observation == FRAMES
    towns = TownVecEnv(view, config, workers=workers, egos=egos, drive=TimedDrive)
    try:
        vector = towns
        if batched:
            segmenter = load(view.segmenter, device="cpu", threads=threads)
            vector = LatentVecEnv(towns, _Timed(segmenter, watch))  # type: ignore[assignment]
        driver = load_policy(policy)[0] if policy else build_policy(vector.observation_space, seed=0)  # type: ignore[arg-type]
        if policy is None:
            with torch.no_grad():
                driver.get_parameter("action_net.bias")[1] = THROTTLE
        warm_up = max(4 * ROLLOUT_STEPS * workers * egos, steps // 10)
        plan = LearnConfig(steps=steps + warm_up, rollout_steps=ROLLOUT_STEPS, threads=threads)
        algorithm = build_algorithm(driver, vector, plan, None)
        assert isinstance(algorithm, OnPolicyAlgorithm)
        algorithm.train = watch.around("update", algorithm.train, time.process_time)  # type: ignore[method-assign]
        algorithm.policy.forward = watch.around("policy", algorithm.policy.forward, time.process_time)  # type: ignore[method-assign]
        marks: list[tuple[int, float, Account]] = []
        ended: list[str] = []

        class Follow(BaseCallback):
            """Marks the end of the warm-up, and counts the ends of episodes."""

            def _on_rollout_start(self) -> None:
                if not marks and self.num_timesteps >= warm_up:
                    ended.clear()
                    marks.append((self.num_timesteps, time.perf_counter(), _account(towns, watch)))

            def _on_step(self) -> bool:
                ended.extend(info["ended"] for info in self.locals["infos"] if "ended" in info)
                return True

        algorithm.learn(plan.steps, callback=Follow())
        marks.append((int(algorithm.num_timesteps), time.perf_counter(), _account(towns, watch)))
    finally:
        towns.close()
    (first, began, before), (last, finished, after) = marks
    count = last - first
    split = {part: round(1000 * (after[part] - before.get(part, 0.0)) / count, 3) for part in after}
    total = sum(split.values())
    return {
        "environments": workers * egos,
        "vehicles": config.vehicles[0],
        "walkers": config.walkers[0],
        "steps": count,
        "steps_per_s": round(count / (finished - began), 1),
        "possible_steps_per_s": round(1000 * (psutil.cpu_count() or 1) / total, 1),
        "cpu_ms_per_step": {**split, "total": round(total, 3)},
        "episodes_ended": {why: ended.count(why) for why in sorted(set(ended))},
    }


class _Timed:
    """A segmenter whose time is counted."""

    def __init__(self, segmenter: Any, watch: Stopwatch) -> None:
        self.latent_shape = segmenter.latent_shape
        self._run = watch.around("latent", segmenter, time.process_time)

    def __call__(self, frames: Any) -> Any:
        return self._run(frames)


def _account(towns: TownVecEnv, watch: Stopwatch) -> dict[str, float]:
    """Return the processor seconds so far of everybody, by part."""
    total: dict[str, float] = defaultdict(float)
    for part, seconds in watch.seconds.items():
        total[part] += seconds
    total["learner_rest"] = time.process_time() - sum(watch.seconds.values())
    for account in towns.env_method("account"):
        for part, seconds in account.items():
            total[part] += seconds
    return dict(total)


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", type=click.Path(exists=True, path_type=Path), help="A trained policy folder.  [default: untrained]")
@click.option("--town", default="Grid01", show_default=True)
@click.option("--steps", default=4000, show_default=True, help="Steps of all environments together, after a warm-up.")
@click.option("--vehicles", default=15, show_default=True, help="Per world.")
@click.option("--walkers", default=15, show_default=True, help="Per world.")
@click.option("--workers", default=2, show_default=True, help="Processes, each with a town of its own.")
@click.option("--egos", default=5, show_default=True, help="In each town.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of the learner; each segmenter in a worker has one.")
@click.option("--batched", is_flag=True, help="Compute all latents in the learner.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the JSON there too.")
def main(
    model: Path,
    policy: Path | None,
    town: str,
    steps: int,
    vehicles: int,
    walkers: int,
    workers: int,
    egos: int,
    threads: int,
    batched: bool,
    output: Path | None,
) -> None:
    """Measure driving and learning on MODEL's latents, with traffic and without."""
    empty = DriveConfig(town=town, vehicles=(0, 0), walkers=(0, 0), threads=1)
    crowded = replace(empty, vehicles=(vehicles,) * 2, walkers=(walkers,) * 2)
    view = View(FRAMES if batched else LATENTS, model)
    runs = [measure(view, config, workers, egos, steps, threads, policy) for config in dict.fromkeys((crowded, empty))]
    facts = {"model": str(model), "town": town, "workers": workers, "egos": egos, "threads": threads, "batched": batched}
    text = json.dumps({**facts, "runs": runs, "machine": asdict(describe())}, indent=2)
    if output is not None:
        write_text(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
