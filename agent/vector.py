"""Many egos at once, for SB3: worker processes, each with a server of its own and one or more egos in its world.

Every CARLA client lives in a worker, because the client library can abort or hang its process. A worker that dies or falls
silent is started again, with its town: the episodes of its egos are truncated with `info["ended"] == "error"` and new ones
begin; the other workers wait for it. Observations travel through shared memory.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from roadworthy.agent.crew import Batch, Crew, Shared, arrays_in, serve, shared_memory
from roadworthy.agent.observation import action_space
from roadworthy.agent.outlook import View
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.shared import SharedDrive
from roadworthy.agent.supervisor import SILENCE_S, WorkerFailed, death, tail
from roadworthy.runtime.errors import BadInput

ATTEMPTS = 3  # failures of one worker in a row, without a step between them
POLL_S = 0.5  # [s]
CLOSE_S = 5.0  # [s] a worker has to close its session

Answer = tuple[str, Any]


class TownVecEnv(VecEnv):
    """`workers` x `egos` environments; the rules are those of `roadworthy/Drive-v0`."""

    def __init__(
        self,
        view: View,
        config: DriveConfig | None = None,
        *,
        workers: int = 2,
        egos: int = 1,
        drive: type[SharedDrive] = SharedDrive,
        on_restart: Callable[[str], None] = lambda _: None,
        silence_s: float = SILENCE_S,
    ) -> None:
        """Start the workers; their towns start with the first `reset`.

        Args:
            view: what the drivers are shown.
            config: the world and the rules. `carla` may list one address per worker, HOST:PORT,HOST:PORT.
            workers: processes, each with a server of its own.
            egos: in each world; see `roadworthy.agent.shared`.
            drive: what a worker runs; a benchmark measures with one of its own.
            on_restart: is told why, before a worker is started again.
            silence_s: seconds without an answer after which a worker counts as hung.

        Raises `BadInput` for a wrong model or configuration, before anything is started.
        """
        config = replace(config or DriveConfig(), threads=(config or DriveConfig()).threads or 1)
        addresses = _addresses(config.carla, workers)
        if workers < 1 or egos < 1:
            raise BadInput(f"workers is {workers} and egos {egos}, expected 1 or more of each")
        space = drive(view.observers(config, egos), config).space  # what is wrong with them is found here
        super().__init__(workers * egos, space, action_space())
        self._egos, self._on_restart = egos, on_restart
        self._shared = shared_memory(space, self.num_envs)
        self._arrays = arrays_in(self._shared, space, self.num_envs)
        crews = [
            Crew(view, replace(config, carla=address), egos, worker * egos, self.num_envs, drive)
            for worker, address in enumerate(addresses)
        ]
        self._workers = [_Worker(crew, self._shared, silence_s) for crew in crews]
        self._next_seed = int(np.random.SeedSequence().generate_state(1)[0] % 2**31)

    def reset(self) -> Batch:
        """Begin everybody's episode; after `seed(n)` what follows can be repeated, as far as the servers allow."""
        seeds = [self._seeds[worker.crew.first] for worker in self._workers]
        if seeds[0] is not None:
            self._next_seed = seeds[0] + 1_000_003
        for worker, seed in zip(self._workers, seeds, strict=True):
            worker.ask("reset", seed)
        for worker in self._workers:
            facts = self._answer(worker)
            if facts is None:
                facts = self._start_again(worker)
            self.reset_infos[worker.crew.first : worker.crew.first + self._egos] = facts
        self._reset_seeds()
        return self._observations()

    def step_async(self, actions: npt.NDArray[np.float32]) -> None:
        """Send the actions `[n, 3]` to the workers. Raises `BadInput` for one that is not three finite numbers."""
        bad = [i for i, action in enumerate(actions) if not np.isfinite(action).all()]
        if bad:
            raise BadInput(f"the action of environment {bad[0]} is {actions[bad[0]].tolist()}, expected three finite numbers")
        for worker in self._workers:
            worker.ask("step", np.array(actions[worker.crew.first : worker.crew.first + self._egos], np.float32))

    def step_wait(self) -> tuple[Batch, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Return observations, rewards `[n]`, dones `[n]` and infos; where an episode ended, that is the next one's first."""
        rewards, dones = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for worker in self._workers:
            rows = slice(worker.crew.first, worker.crew.first + self._egos)
            answer = self._answer(worker)
            if answer is not None:
                rewards[rows], dones[rows], infos[rows] = answer
                continue
            last = [{name: array[i].copy() for name, array in self._arrays.items()} for i in range(rows.start, rows.stop)]
            why = worker.failure
            self.reset_infos[rows] = self._start_again(worker)
            dones[rows] = True
            infos[rows] = [
                {"ended": "error", "error": why, "TimeLimit.truncated": True, "terminal_observation": seen} for seen in last
            ]
        return self._observations(), rewards, dones, infos

    def close(self) -> None:
        """End the workers and their towns. Safe to call twice."""
        for worker in self._workers:
            worker.ask("close", None)
        for worker in self._workers:
            worker.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return `render_mode`, the one attribute that SB3 asks for: None."""
        if attr_name != "render_mode":
            raise AttributeError(f"the environments live in other processes and show no {attr_name!r}")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: the environments live in other processes."""
        raise AttributeError(f"the environments live in other processes: {attr_name!r} cannot be set")

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Call a method of the drives that the environments `indices` belong to; one result per worker, not per environment."""
        chosen = {index // self._egos for index in self._get_indices(indices)}
        workers = [worker for i, worker in enumerate(self._workers) if i in chosen]
        for worker in workers:
            worker.ask("call", (method_name, arguments, options))
        answers = [self._answer(worker) for worker in workers]
        for worker in workers:
            if worker.failure:
                raise WorkerFailed(worker.failure)
        return answers

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for each: nothing wraps a single environment."""
        return [False for _ in self._get_indices(indices)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def _observations(self) -> Batch:
        return {name: array.copy() for name, array in self._arrays.items()}  # the workers write on

    def _answer(self, worker: _Worker) -> Any:
        """Return what a worker answers; None if it died, hung or lost its server. Raises `BadInput` and bugs."""
        kind, value = worker.answer()
        if kind == "bad input":
            raise BadInput(value)
        if kind == "error":
            raise WorkerFailed(f"{value}{worker.said()}")
        return value if kind == "done" else None

    def _start_again(self, worker: _Worker) -> list[dict[str, Any]]:
        """Start a failed worker again and return what its egos' first observations came with. Raises `WorkerFailed`."""
        said = worker.said()
        while worker.failures < ATTEMPTS:
            self._on_restart(worker.failure)
            said = worker.said()
            worker.restart()
            self._next_seed += 1
            worker.ask("reset", self._next_seed)
            facts: list[dict[str, Any]] | None = self._answer(worker)
            if facts is not None:
                return facts
        raise WorkerFailed(f"{worker.failure} ({worker.failures} of {ATTEMPTS} attempts){worker.said() or said}")


class _Worker:
    """One worker process, seen from here."""

    def __init__(self, crew: Crew, shared: Shared, silence_s: float) -> None:
        self.crew = crew
        self.failures = 0  # without a step between them
        self.failure = ""  # why it gave no answer; empty when it did
        self._asked = ""
        self._shared, self._silence_s = shared, silence_s
        self._process: BaseProcess | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share this process's threads and libraries half-way
        self._folder = tempfile.TemporaryDirectory(prefix="roadworthy-worker-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "worker.log"
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, os.getpid(), str(self._log), self.crew, self._shared), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid or 0

    def ask(self, what: str, argument: Any) -> None:
        """Send a request; a worker that is dead will not answer it."""
        self._asked = what
        try:
            self._connection.send((what, argument))
        except OSError:
            return

    def answer(self) -> Answer:
        """Wait for the answer: ("done", value), ("bad input" | "error", message), or ("failed", why)."""
        asked = time.monotonic()
        why = f"the simulator's client hung: no answer for {self._silence_s:.0f} s"
        try:
            while time.monotonic() - asked < self._silence_s:
                if self._connection.poll(POLL_S):
                    kind, value = self._connection.recv()
                    if kind != "lost":
                        self.failures = 0 if self._asked == "step" else self.failures
                        self.failure = ""
                        return kind, value
                    why = value
                    break
        except (EOFError, OSError):
            assert self._process is not None
            self._process.join()
            why = f"the simulator's client died ({death(self._process.exitcode)})"
        self.failures, self.failure = self.failures + 1, why
        return "failed", why

    def restart(self) -> None:
        """End what is left of the process and start another."""
        self._end()
        self._start()

    def said(self) -> str:
        """Return the end of its output, for an error message."""
        return tail(self._log)

    def close(self) -> None:
        """Wait for a worker that was asked to close its session, or end it."""
        if self._process is None:
            return
        self._process.join(CLOSE_S)
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process = None
        self._connection.close()
        self._folder.cleanup()


def _addresses(carla: str | None, workers: int) -> Sequence[str | None]:
    """Return one server address per worker. Raises `BadInput` when there are not as many."""
    if carla is None:
        return [None] * workers
    addresses = [address.strip() for address in carla.split(",")]
    if len(addresses) != workers or len(set(addresses)) != workers:
        raise BadInput(
            f"--carla {carla!r} names {len(set(addresses))} servers for {workers} workers, expected one server for each: "
            "HOST:PORT,HOST:PORT,..."
        )
    return addresses
