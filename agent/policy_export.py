"""A trained policy -> one ONNX file for `roadworthy.runtime.policy`, checked against torch on observations of real drives.

The graph holds everything from the pooled latents to the controls: standardising, the network, clipping, and that only the
harder-pressed pedal acts.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from roadworthy.agent.observation import observation_spaces
from roadworthy.agent.policy import DrivePolicy
from roadworthy.export.revision import roadworthy_version
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.observation import COMMANDS
from roadworthy.runtime.policy import CONTROLS, FORMAT, METADATA_KEY, load_policy

OPSET = 20
MAX_BATCH = 1024  # upper bound of the dynamic batch
TOLERANCE = 1e-4  # largest difference of a control between torch and the file, of -1..1


@dataclass(frozen=True)
class PolicyExport:
    """What an export was checked on."""

    path: Path
    observations: int
    worst_error: float  # of a control
    file_bytes: int


def export_policy(
    policy: DrivePolicy, output: Path, observations: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any] | None = None
) -> PolicyExport:
    """Write `policy` to the ONNX file `output`; `facts` (JSON-able) go into its metadata.

    `observations` are real ones, each part `[n, ...]`: on them the file must give the controls that torch gives. Raises
    `BadInput` for another suffix or no observations, `RoadworthyError` when file and torch disagree; then nothing is written.
    """
    if output.suffix != ".onnx":
        raise BadInput(f"{output}: expected a name that ends in .onnx")
    spaces = observation_spaces(policy.observation_space)
    if sorted(observations) != sorted(spaces) or not len(next(iter(observations.values()))):
        raise BadInput(
            f"to check on are {', '.join(observations) or 'nothing'}, expected observations with {', '.join(spaces)}"
        )
    graph = ControlGraph(policy)
    record = {
        **(facts or {}),
        "format": FORMAT,
        "inputs": {name: [list(space.shape), str(space.dtype)] for name, space in spaces.items()},
        "commands": list(COMMANDS),
        "roadworthy_version": roadworthy_version(),
    }
    with torch.inference_mode():
        expected = graph(*(torch.from_numpy(observations[name]) for name in graph.names)).numpy()  # [n, 3]
    with atomic_path(output) as temporary:
        _write(graph, record, temporary, observations)
        worst = float(np.abs(load_policy(temporary)(observations) - expected).max())
        if not worst <= TOLERANCE:
            raise RoadworthyError(
                f"{output}: the file's controls differ from torch's by up to {worst:.2g} (allowed: {TOLERANCE:g}); not written"
            )
        size = temporary.stat().st_size
    return PolicyExport(output, len(expected), worst, size)


class ControlGraph(nn.Module):
    """From an observation's parts, in the order of `names`, to controls."""

    def __init__(self, policy: DrivePolicy) -> None:
        super().__init__()
        self.names = list(observation_spaces(policy.observation_space))
        self.policy = copy.deepcopy(policy).cpu().eval()

    def forward(self, *parts: Tensor) -> Tensor:
        """Return steer -1..1, throttle and brake 0..1, `float32 [B, 3]`; the weaker pedal is zero, throttle wins a tie."""
        action = self.policy.mean_action(dict(zip(self.names, parts, strict=True))).clamp(-1.0, 1.0)  # [B, 3]
        steer, throttle, brake = action[:, :1], action[:, 1:2], action[:, 2:]  # [B, 1] each
        forward = throttle >= brake
        nothing = torch.zeros_like(throttle)
        pedals = [torch.where(forward, throttle, nothing), torch.where(forward, nothing, brake)]
        return torch.cat([steer, *(pedal.clamp(min=0.0) for pedal in pedals)], dim=1)


def _write(graph: ControlGraph, record: Mapping[str, Any], path: Path, observations: Mapping[str, npt.NDArray[Any]]) -> None:
    """Trace `graph` and write a checked ONNX file."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # the exporter needs it and says so less clearly
    except ImportError as error:
        raise MissingExtra(error.name or "onnx", "export", "exporting to ONNX") from error
    # Two observations: torch.export takes a batch of one for a constant.
    example = tuple(torch.from_numpy(np.repeat(observations[name][:1], 2, axis=0)) for name in graph.names)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, nothing a user can act on
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=graph.names,
            output_names=[CONTROLS],
            dynamic_shapes=(tuple({0: batch} for _ in graph.names),),
            verbose=False,
        )
    if program is None:
        raise RoadworthyError("torch.onnx.export gave no program; is this torch older than the one in constraints.txt?")
    model = program.model_proto
    for node in model.graph.node:  # stack traces of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(dict(record))})
    model.producer_name, model.producer_version = "roadworthy", str(record["roadworthy_version"])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
