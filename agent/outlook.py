"""The kinds of observation by name, as the command line and worker processes ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.env import RouteEnv
from roadworthy.agent.observer import FrameObserver, LatentObserver, Observer
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.segdepth import SEGDEPTH_PART, TRUTH, SegDepthObserver, open_labels
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import load

LATENTS, SEGMENTATION_DEPTH, FRAMES = "latents", "segmentation-depth", "frames"
OBSERVATIONS = (LATENTS, SEGMENTATION_DEPTH)  # that a policy drives on


@dataclass(frozen=True)
class View:
    """What drivers are shown: the kind of observation, and the segmenter behind it."""

    observation: str = LATENTS
    segmenter: str | Path = ""  # a model file; "truth" for the simulator's labels; frames need none

    def observers(self, config: DriveConfig, egos: int = 1) -> list[Observer]:
        """Return one observer per ego; they share the loaded model. Raises `BadInput` for an unknown kind or a wrong model."""
        if self.observation not in _MAKERS:
            raise BadInput(f"unknown observation {self.observation!r}; known: {', '.join(OBSERVATIONS)}")
        make = _MAKERS[self.observation](self.segmenter, config)
        return [make() for _ in range(egos)]


def observation_of(parts: Iterable[str], segmenter: str | Path) -> str:
    """Return the kind of observation that a driver takes whose parts are `parts`; none takes what `segmenter` can give."""
    sees_maps = SEGDEPTH_PART in parts or str(segmenter) == TRUTH
    return SEGMENTATION_DEPTH if sees_maps else LATENTS


def camera_for(segmenter: str | Path, rig: CameraRig | None = None) -> CameraRig:
    """Return `rig` with pictures of the size that `segmenter` takes; `truth` takes any. Raises `BadInput` for a wrong model."""
    rig = rig or CameraRig()
    if str(segmenter) == TRUTH:
        return rig
    facts = load(segmenter, device="cpu", threads=1).metadata
    return replace(rig, width_px=facts.width, height_px=facts.height)


def open_env(view: View, config: DriveConfig) -> RouteEnv:
    """Return the environment that shows `view`: Drive-v0 or DriveSegDepth-v0."""
    return RouteEnv(view.observers(config)[0], config)


def _latents(segmenter: str | Path, config: DriveConfig) -> Callable[[], Observer]:
    model = load(segmenter, device="cpu", threads=config.threads)
    return lambda: LatentObserver(model)


def _segmentation_depth(segmenter: str | Path, config: DriveConfig) -> Callable[[], Observer]:
    labels = open_labels(segmenter, config.threads)
    return lambda: SegDepthObserver(labels, config.rig.height_px, config.rig.width_px)


def _frames(_: str | Path, config: DriveConfig) -> Callable[[], Observer]:
    return lambda: FrameObserver(config.rig.height_px, config.rig.width_px)


_MAKERS: Mapping[str, Callable[[str | Path, DriveConfig], Callable[[], Observer]]] = {
    LATENTS: _latents,
    SEGMENTATION_DEPTH: _segmentation_depth,
    FRAMES: _frames,
}
