"""What a worker process of a vector does: drive its egos on request, and show what they see in shared memory.

Apart from `vector.py`, so that a worker loads neither torch nor SB3.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from roadworthy.agent.observation import Observation, observation_spaces
from roadworthy.agent.outlook import View
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.shared import SharedDrive
from roadworthy.agent.supervisor import enter_worker
from roadworthy.runtime.errors import BadInput, RoadworthyError

Batch = dict[str, npt.NDArray[np.generic]]
Shared = dict[str, Any]  # name -> bytes shared with the workers


@dataclass(frozen=True)
class Crew:
    """What one worker does: the egos it drives, in what world, and what they see."""

    view: View
    config: DriveConfig
    egos: int
    first: int  # number of its first environment in the vector
    total: int  # environments in the vector
    drive: type[SharedDrive] = SharedDrive


def shared_memory(space: spaces.Dict, total: int) -> Shared:
    """Return memory for `total` observations, to hand to worker processes as they start."""
    context = multiprocessing.get_context("spawn")
    return {name: context.RawArray(ctypes.c_byte, total * _bytes(box)) for name, box in observation_spaces(space).items()}


def arrays_in(shared: Shared, space: spaces.Dict, total: int) -> Batch:
    """Return the shared memory as arrays `[total, ...]`, one for each part of the observation."""
    boxes = observation_spaces(space)
    return {name: np.frombuffer(shared[name], box.dtype).reshape(total, *box.shape) for name, box in boxes.items()}


def _bytes(box: spaces.Box) -> int:
    return int(np.prod(box.shape)) * int(np.dtype(box.dtype).itemsize)


def serve(connection: Connection, parent: int, log: str, crew: Crew, shared: Shared) -> None:
    """Run in the worker: answer requests until told to close, or until the server is lost for good."""
    enter_worker(parent, log)
    drive: SharedDrive | None = None
    try:
        drive = crew.drive(crew.view.observers(crew.config, crew.egos), crew.config)
        rows = {
            name: array[crew.first : crew.first + crew.egos]
            for name, array in arrays_in(shared, drive.space, crew.total).items()
        }
        while True:
            what, argument = connection.recv()
            if what == "close":
                drive.close()
                break
            connection.send(("done", _DO[what](drive, rows, argument)))
    except EOFError:  # the parent is gone
        pass
    except BadInput as error:
        connection.send(("bad input", str(error)))
    except (RoadworthyError, RuntimeError) as error:  # the client raises RuntimeError for every failure of the server
        connection.send(("lost", f"the simulator's client failed: {error}"))
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        connection.send(("error", f"the worker failed: {type(error).__name__}: {error}"))
    finally:
        os._exit(0)  # without the clean-up that crashes the client


def _reset(drive: SharedDrive, rows: Batch, seed: int | None) -> list[dict[str, Any]]:
    started = drive.reset(seed)
    _show([observation for observation, _ in started], rows)
    return [facts for _, facts in started]


def _step(
    drive: SharedDrive, rows: Batch, actions: npt.NDArray[np.float32]
) -> tuple[list[float], list[bool], list[dict[str, Any]]]:
    steps = drive.step(actions)
    _show([step.outcome.observation if step.first is None else step.first for step in steps], rows)
    infos = []
    for outcome in (step.outcome for step in steps):
        last = {"terminal_observation": outcome.observation} if outcome.over else {}
        infos.append({**outcome.info, "TimeLimit.truncated": outcome.truncated and not outcome.terminated, **last})
    return [step.outcome.reward for step in steps], [step.outcome.over for step in steps], infos


def _call(drive: SharedDrive, _: Batch, call: tuple[str, Sequence[Any], dict[str, Any]]) -> Any:
    name, arguments, options = call
    return getattr(drive, name)(*arguments, **options)


_DO: dict[str, Callable[[SharedDrive, Batch, Any], Any]] = {"reset": _reset, "step": _step, "call": _call}


def _show(observations: Sequence[Observation], rows: Batch) -> None:
    for i, observation in enumerate(observations):
        for name, array in rows.items():
            array[i] = observation[name]
