"""What was exported and how faithful it is: the JSON file beside every model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from roadworthy.export.int8 import LayerDrift
from roadworthy.export.parity import Parity, Tolerance
from roadworthy.runtime.files import write_text
from roadworthy.runtime.metadata import ModelMetadata

NOT_RUN = "built, not run: no backend here runs this format"


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how faithful it is. Stored beside the model as `<model>.export.json`."""

    path: str
    metadata: ModelMetadata
    outputs: tuple[str, ...]
    opset: int
    file_bytes: int
    seconds: float  # [s] that the export took
    # Against torch for a run, against the file it was made from for an ONNX file. None: the format does not run here.
    parity: Parity | None
    tolerance: Tolerance
    frames_source: str
    versions: Mapping[str, str]
    format: str = "onnx"
    precision: str = "fp32"
    ran_on: str = NOT_RUN  # the backend that `parity` was measured with
    parity_elsewhere: Mapping[str, Parity] = field(default_factory=dict)  # on other backends, reported but not judged
    calibration_source: str | None = None  # of an int8 model
    float_layers: tuple[str, ...] = ()  # of an int8 model: too sensitive, left in floating point
    layer_drifts: tuple[LayerDrift, ...] = ()  # of an int8 model whose layers were measured, most sensitive first
    targets: tuple[str, ...] = ()  # of an engine: the compute capabilities it was built for

    def to_dict(self) -> dict[str, object]:
        """Return the report ready for JSON."""
        return asdict(self)

    def write(self, model: Path) -> None:
        """Write the report beside `model`."""
        write_text(report_path(model), json.dumps(self.to_dict(), indent=2) + "\n")


def report_path(model: Path) -> Path:
    """Return where the report of `model` is: `model.export.json` beside `model.onnx`, `model.xml.export.json` and so on."""
    name = model.stem if model.suffix == ".onnx" else model.name
    return model.with_name(f"{name}.export.json")
