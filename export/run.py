"""A trained run -> a model file of any format and precision: torch writes fp32 ONNX, `convert` does the rest."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from roadworthy.export.convert import convert
from roadworthy.export.frames import Frames, read_frames
from roadworthy.export.int8 import CALIBRATION_FRAMES, Progress
from roadworthy.export.onnx import OPSET, PARITY_FRAMES, VERIFY_FRAMES, export_onnx, run_frames, torch_reference
from roadworthy.export.parity import TOLERANCES
from roadworthy.export.report import ExportReport
from roadworthy.export.wish import Wish
from roadworthy.runtime.metadata import UNKNOWN
from roadworthy.runtime.segmenter import OUTPUTS
from roadworthy.train.checkpoint import load_run


def export_run(
    run: Path,
    output: Path,
    wish: Wish,
    *,
    size: tuple[int, int] | None = None,
    opset: int = OPSET,
    licence: str = UNKNOWN,
    progress: Progress | None = None,
) -> ExportReport:
    """Export the run folder `run` as wished for, checked against torch; as `export_onnx` and `convert`, which see.

    Formats other than ONNX leave the fp32 ONNX file beside the result: it is what an engine can be built from again. Frames to
    check on and to calibrate with are those of the run's own data unless the wish names others.
    """
    outputs: Sequence[str] = wish.outputs or OUTPUTS
    plain = wish.format == "onnx" and wish.precision in (None, "fp32") and wish.batch is None
    agreement = wish.min_agreement if plain and wish.min_agreement is not None else TOLERANCES["fp32"].agreement
    with tempfile.TemporaryDirectory() as folder:
        name = f"{run.resolve().name}.onnx"
        onnx_file = (
            output if plain else Path(folder) / name if wish.format in ("onnx", "triton") else output.with_suffix(".onnx")
        )
        written = export_onnx(
            run,
            onnx_file,
            size=size,
            outputs=outputs,
            min_agreement=agreement,
            data=wish.verify if plain else None,
            opset=opset,
            licence=licence,
        )
        if plain:
            return written
        network, config, taxonomy = load_run(run)
        height, width = written.metadata.height, written.metadata.width
        rounded = wish.precision in ("fp16", "int8")

        def frames() -> Frames:
            return run_frames(config, height, width, VERIFY_FRAMES if rounded else PARITY_FRAMES, taxonomy)

        def calibration() -> Frames:
            return read_frames(config.data, "train", height, width, CALIBRATION_FRAMES)

        return convert(
            onnx_file,
            output,
            replace(wish, outputs=None),
            reference=torch_reference(network, outputs),
            frames=frames,
            calibration=calibration,
            progress=progress,
        )
