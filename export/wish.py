"""What to make of an ONNX file: format, precision, batch, outputs, and the data it is calibrated and checked on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from roadworthy.export.batch import Batch
from roadworthy.export.parity import TOLERANCES, Tolerance
from roadworthy.export.tensorrt import LIBRARIES
from roadworthy.runtime.errors import BadInput

FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt-rtx", "triton")
PRECISIONS = ("fp32", "fp16", "int8")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine", "tensorrt-rtx": ".engine", "triton": ""}


@dataclass(frozen=True)
class Wish:
    """What to make of an ONNX file."""

    format: str = "onnx"  # one of FORMATS
    precision: str | None = None  # one of PRECISIONS; None: what the file has
    batch: Batch | None = None  # None: any number of frames; engines then take one at a time
    outputs: tuple[str, ...] | None = None  # which ones to keep; None: all
    calibration: str | None = None  # data that int8 ranges are measured on, see `frames.read_frames`
    verify: str | None = None  # data that the result is checked on
    min_agreement: float | None = None  # fraction of the labels; None: that of the precision in `parity.TOLERANCES`
    targets: tuple[str, ...] = ()  # compute capabilities of a tensorrt-rtx engine
    analyse: bool = False  # measure every layer's sensitivity to int8

    def __post_init__(self) -> None:
        """Raise `BadInput` for a format or precision that there is not, and for options that do not go together."""
        if self.format not in FORMATS:
            raise BadInput(f"--format {self.format}: expected one of {', '.join(FORMATS)}")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise BadInput(f"--precision {self.precision}: expected one of {', '.join(PRECISIONS)}")
        if self.precision != "int8" and (self.calibration or self.analyse):
            raise BadInput("--calibration and --analyse are for --precision int8")
        if self.targets and self.format not in LIBRARIES:
            raise BadInput("--target is for --format tensorrt-rtx")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise BadInput(f"min_agreement is {self.min_agreement}, expected a fraction of the pixels, 0 to 1")

    @property
    def tolerance(self) -> Tolerance:
        """How far the result may be from its reference."""
        tolerance = TOLERANCES[self.precision or "fp32"]
        return tolerance if self.min_agreement is None else replace(tolerance, agreement=self.min_agreement)


def default_output(source: Path, wish: Wish) -> Path:
    """Return where the result goes unless told otherwise: beside an ONNX file, or in the run folder."""
    folder, stem = (source, "model") if source.is_dir() else (source.parent, source.stem)
    precision = "" if wish.precision in (None, "fp32") else f"-{wish.precision}"
    return folder / f"{stem}{precision}{'-triton' if wish.format == 'triton' else SUFFIXES[wish.format]}"
