"""Drives for test_vector.py: a worker process imports them by name."""

import os
import signal
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.agent.observation import Observation
from roadworthy.agent.ride import Outcome
from roadworthy.agent.shared import SharedDrive, Step
from roadworthy.runtime.errors import BadInput

HANG_S = 600.0
PATIENCE_S = 3.0  # instead of the session's 20


class Treacherous(SharedDrive):
    """Without a simulator: what it shows is how often it was reset and stepped. It comes to the `harm` it was told."""

    harm: str = ""
    steps = 0

    def will(self, harm: str) -> str:
        self.harm = harm
        return harm

    def reset(self, seed: int | None = None) -> list[tuple[Observation, dict[str, Any]]]:
        self._come_to_harm()
        self.steps = 0
        return [(self._shown(i), {"seed": seed}) for i in range(len(self._observers))]

    def step(self, actions: npt.NDArray[np.float32]) -> list[Step]:
        self._come_to_harm()
        self.steps += 1
        return [Step(Outcome(self._shown(i), float(action[1]), False, False, {})) for i, action in enumerate(actions)]

    def _shown(self, ego: int) -> Observation:
        shown: Observation = {name: np.zeros(box.shape, box.dtype) for name, box in self.space.spaces.items()}
        shown["measurements"][0] = self.steps
        shown["measurements"][1] = ego
        return shown

    def _come_to_harm(self) -> None:
        harm, self.harm = self.harm, ""
        if harm == "hang":
            time.sleep(HANG_S)
        elif harm == "bug":
            raise ValueError("a mistake in the drive")
        elif harm == "client":
            raise RuntimeError("time-out of 20000ms while waiting for the simulator")
        elif harm == "refuse":
            raise BadInput("no such map: choose another")
        elif harm:
            os.kill(os.getpid(), getattr(signal, harm))


class Doomed(Treacherous):
    """Dies at every reset."""

    def reset(self, seed: int | None = None) -> list[tuple[Observation, dict[str, Any]]]:
        print("about to die", flush=True)
        self.harm = "SIGABRT"
        return super().reset(seed)


class Stumbling(Treacherous):
    """Begins well, and dies at every step."""

    def step(self, actions: npt.NDArray[np.float32]) -> list[Step]:
        self.harm = "SIGSEGV"
        return super().step(actions)


class Townsfolk(SharedDrive):
    """The real one; tells the process id of its town, and waits less long for it from then on."""

    def town(self) -> int:
        session = self.stage.session
        assert session is not None
        assert session.town is not None
        session.timeout_s = PATIENCE_S
        session.client.set_timeout(PATIENCE_S)
        return session.town.pid
