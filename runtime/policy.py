"""Drive with an exported policy, without torch or gymnasium: a segmenter's latents and a few measurements in, controls out.

    policy = load_policy("policy.onnx")
    pilot = Pilot(policy)
    controls = pilot.drive(segmenter(frame[None]).latent, speed_mps=5.2, distance_m=180.0, command=4)

`roadworthy drive export` writes such files; what they take and who trained them is in the file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.observation import LatentShape, LatentStack, measurement_vector, pool_latent, pooled_shape
from roadworthy.runtime.onnx_file import check_external_data, read_props

METADATA_KEY = "roadworthy_policy"  # of the ONNX file's metadata_props: JSON
FORMAT = "roadworthy-policy-onnx-1"
CONTROLS = "controls"  # the graph's output, float32 [B, 3]

Floats = npt.NDArray[np.float32]


class Controls(NamedTuple):
    """What goes to the car."""

    steer: float  # -1 (left) .. 1 (right)
    throttle: float  # 0..1
    brake: float  # 0..1, one pedal at a time


class InputSpec(NamedTuple):
    """One part of an observation."""

    shape: tuple[int, ...]  # without the batch
    dtype: str  # numpy name


class Policy:
    """An exported policy, run by ONNX Runtime on the CPU from one thread at a time. Make one with `load_policy`."""

    def __init__(self, session: Any, inputs: Mapping[str, InputSpec], facts: Mapping[str, Any], path: Path) -> None:
        """Wrap an open `onnxruntime.InferenceSession` whose inputs are `inputs`."""
        self.inputs, self.facts, self.path = dict(inputs), dict(facts), path
        self._session = session

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each part of the observation that it takes."""
        return {name: spec.shape for name, spec in self.inputs.items()}

    @property
    def latent_shape(self) -> LatentShape | None:
        """Return (C, h, w) of the pooled latents it takes, or None for a policy that sees something else."""
        if "latents" not in self.inputs:
            return None
        _, channels, rows, columns = self.inputs["latents"].shape
        return channels, rows, columns

    def __call__(self, observations: Mapping[str, npt.NDArray[Any]]) -> Floats:
        """Map a batch of observations, each part `[B, ...]`, to controls `float32 [B, 3]`: steer, throttle, brake.

        Raises `BadInput` for a part that is missing, of another shape or not finite.
        """
        feed = {name: self._checked(name, spec, observations) for name, spec in self.inputs.items()}
        controls: Floats = self._session.run([CONTROLS], feed)[0]
        return controls

    def act(self, observation: Mapping[str, npt.NDArray[Any]]) -> Floats:
        """Return steer, throttle and brake `float32 [3]` for one observation of the environment."""
        controls: Floats = self({name: part[None] for name, part in observation.items()})[0]
        return controls

    def _checked(self, name: str, spec: InputSpec, observations: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        value = observations.get(name)
        if value is None or value.shape[1:] != spec.shape:
            found = "nothing" if value is None else f"{value.dtype} {list(value.shape)}"
            raise BadInput(f"{self.path}: takes {name} {spec.dtype} [batch, {', '.join(map(str, spec.shape))}], got {found}")
        if not np.isfinite(value).all():
            raise BadInput(f"{self.path}: {name} holds values that are not finite; what measured them?")
        return np.ascontiguousarray(value, dtype=spec.dtype)


class Pilot:
    """Drives with a policy on a segmenter's latents; remembers the latent before."""

    def __init__(self, policy: Policy) -> None:
        """Raises `BadInput` for a policy that does not drive on latents."""
        if policy.latent_shape is None:
            raise BadInput(f"{policy.path}: this policy sees {', '.join(policy.inputs)}, expected one that drives on latents")
        self.policy = policy
        self._latents = LatentStack()

    def begin(self) -> None:
        """Forget the past: a new drive begins."""
        self._latents.clear()

    def drive(
        self, latent: npt.NDArray[np.float32], *, speed_mps: float, distance_m: float, command: int, damage_kns: float = 0.0
    ) -> Controls:
        """Return the controls for one frame.

        Args:
            latent: the segmenter's latent of this frame, `float32 [1, C, h, w]` as it gives it; pooled here.
            speed_mps: of the car [m/s].
            distance_m: to the goal along the route [m].
            command: CARLA RoadOption 1..6, what to do at the next junction; 4 is to follow the lane.
            damage_kns: sum of the impulses of collisions so far [kN s].

        Raises `BadInput` for a latent of another shape than the policy was trained on.
        """
        expected = self.policy.latent_shape
        if latent.ndim != 4 or len(latent) != 1 or pooled_shape(latent.shape[1:]) != expected:
            raise BadInput(
                f"{self.policy.path}: drives on latents that pool to {expected}, got {list(latent.shape)}; use the segmenter "
                "that it was trained on, one frame at a time"
            )
        stack = self._latents.push(pool_latent(latent)[0])  # [2, C, h, w]
        measured = measurement_vector(speed_mps, distance_m, damage_kns, command)
        return Controls(*(float(value) for value in self.policy.act({"latents": stack, "measurements": measured})))


def load_policy(path: str | Path, threads: int = 1) -> Policy:
    """Open the exported policy at `path` on the CPU. Raises `BadInput` for a file that is missing, damaged or another."""
    path = Path(path)
    props = read_props(path)
    try:
        facts = json.loads(props[METADATA_KEY])
        inputs = {str(name): InputSpec(tuple(map(int, shape)), str(dtype)) for name, (shape, dtype) in facts["inputs"].items()}
        written = str(facts["format"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: not an exported policy ({error!r}); write one with 'roadworthy drive export DRIVER'"
        ) from error
    if written != FORMAT:
        raise BadInput(f"{path}: format {written!r}, expected {FORMAT!r}; export the driver again with this version")
    check_external_data(path)
    session = _open(path, threads)
    taken = {entry.name for entry in session.get_inputs()}
    if taken != inputs.keys() or CONTROLS not in {entry.name for entry in session.get_outputs()}:
        raise BadInput(
            f"{path}: the graph takes {', '.join(sorted(taken))}, its metadata say {', '.join(sorted(inputs))}; export it again"
        )
    return Policy(session, inputs, facts, path)


def _open(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu", f"driving with {path.name}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad graph
        raise BadInput(
            f"{path}: ONNX Runtime cannot open this policy ({str(error).splitlines()[0]}); export it again"
        ) from error
