"""An ONNX model in another precision: half by conversion, int8 by calibration, with sensitive layers left in float."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadworthy.export.frames import Frames, read_frames
from roadworthy.export.half import to_half
from roadworthy.export.int8 import (
    CALIBRATION_FRAMES,
    LayerDrift,
    Progress,
    Quantiser,
    choose_float_layers,
    layer_drifts,
)
from roadworthy.export.onnx_model import batch_of, precision_of, save_model
from roadworthy.export.parity import Parity, Run, compare
from roadworthy.export.wish import Wish
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.machine import usable_cores
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.segmenter import load

ANALYSIS_FRAMES = 8  # that each layer alone is measured on
JUDGE = "onnxruntime"  # the backend that references and candidates run on


@dataclass(frozen=True)
class Int8Choice:
    """How an int8 model came about."""

    source: str  # of the calibration frames
    float_layers: tuple[str, ...]  # too sensitive
    drifts: tuple[LayerDrift, ...]  # per layer, most sensitive first; empty unless asked for or needed


def in_precision(
    model: Any,
    wish: Wish,
    metadata: ModelMetadata,
    shown: Frames,
    reference: Run,
    calibration: Callable[[], Frames] | None,
    report: Progress,
) -> tuple[Any, Int8Choice | None]:
    """Return the ONNX `model` in the precision wished for, and for int8 how it was chosen.

    `shown` are the frames that the result is judged on against `reference`. Raises `BadInput` for a precision that cannot be
    reached from the model's, and for int8 without frames to measure ranges on.
    """
    if wish.precision == "fp16":
        return to_half(model), None
    if wish.precision != "int8":
        if wish.precision is not None and precision_of(model) != wish.precision:
            raise BadInput(f"--precision {wish.precision}: the model is {precision_of(model)}; start from its fp32 export")
        return model, None
    if wish.calibration is not None:
        known = read_frames(wish.calibration, "train", metadata.height, metadata.width, CALIBRATION_FRAMES)
    elif calibration is not None:
        known = calibration()
    else:
        raise BadInput("--precision int8 measures ranges on real frames: name some with --calibration KIND:PATH or FOLDER")
    report(f"calibrating on {len(known.images)} frames", 0.1)
    quantiser = Quantiser(model, known.images)
    classes = len(metadata.class_names)

    def parity(candidate: Any, frames: Frames) -> Parity:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.onnx"
            save_model(candidate, path)
            return compare(
                load(path, device="cpu", backend=JUDGE, threads=usable_cores()), reference, frames, classes, batch_of(candidate)
            )

    few = Frames(shown.images[:: max(1, len(shown.images) // ANALYSIS_FRAMES)][:ANALYSIS_FRAMES], None, shown.source)

    def agreement(candidate: Any) -> float:
        found = parity(candidate, few)
        if found.agreement is not None:
            return found.agreement
        return 1 - (found.worst_latent_error or 0)  # a model of the latent alone has no labels to compare

    def faithful(candidate: Any) -> bool:
        try:
            parity(candidate, shown).check(wish.tolerance)
        except BadInput:
            raise
        except RoadworthyError:
            return False
        return True

    quantised = quantiser.quantise()
    good = faithful(quantised)
    if good and not wish.analyse:
        return quantised, Int8Choice(known.source, (), ())
    drifts = layer_drifts(quantiser, agreement, lambda text, fraction: report(text, 0.2 + 0.4 * fraction))
    if good:
        return quantised, Int8Choice(known.source, (), tuple(drifts))
    chosen, layers = choose_float_layers(quantiser, drifts, faithful, report)
    return chosen, Int8Choice(known.source, layers, tuple(drifts))
