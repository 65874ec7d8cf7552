"""ONNX -> OpenVINO's own files (`.xml` and `.bin`), which load faster and need no ONNX reader. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.files import atomic_path

PROPERTIES = "roadworthy"  # section of the file's runtime information that our facts are in


def write_ir(model: Path, output: Path, properties: Mapping[str, str]) -> str:
    """Convert the ONNX file `model` to `output` (.xml) and its weights beside it (.bin); returns OpenVINO's version.

    `properties` are stored in the file too, for people who look into it. Weights keep their precision. Raises `BadInput` for
    an operator that OpenVINO does not have.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "cpu", "exporting to OpenVINO") from error
    try:
        converted = openvino.Core().read_model(str(model))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:300]
        raise BadInput(
            f"{model.name}: OpenVINO cannot read this graph ({reason}); run the ONNX file with onnxruntime"
        ) from error
    for key, value in properties.items():
        converted.set_rt_info(value, [PROPERTIES, key])
    with atomic_path(output) as temporary, atomic_path(output.with_suffix(".bin")) as weights:
        openvino.save_model(converted, str(temporary), compress_to_fp16=False)
        temporary.with_suffix(".bin").replace(weights)
    return str(openvino.__version__)
