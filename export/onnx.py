"""A trained run -> one ONNX file that any ONNX tool can load, checked against the network it came from.

roadworthy export runs/enet-wasserstein --output wasserstein.onnx
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from roadworthy.export.activations import with_split_prelu
from roadworthy.export.enlarged import fold_enlarged_maps
from roadworthy.export.frames import Frames, read_frames
from roadworthy.export.graph import FrameToLabels
from roadworthy.export.parity import TOLERANCES, Run, compare
from roadworthy.export.report import ExportReport
from roadworthy.export.revision import roadworthy_version, source_revision
from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.machine import usable_cores, versions
from roadworthy.runtime.metadata import UNKNOWN, ModelMetadata
from roadworthy.runtime.segmenter import OUTPUTS, Segmentation, load
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.checkpoint import load_run
from roadworthy.train.config import TrainConfig

OPSET = 20
BACKEND = "onnxruntime"  # that the file is compared with torch on
PARITY_FRAMES = 8  # of the run's own data
VERIFY_FRAMES = 128  # at most, of data named for the check
MAX_BATCH = 1024  # upper bound of the dynamic batch


def export_onnx(
    run: Path,
    output: Path,
    *,
    size: tuple[int, int] | None = None,
    outputs: Sequence[str] = OUTPUTS,
    min_agreement: float = TOLERANCES["fp32"].agreement,
    data: str | None = None,
    opset: int = OPSET,
    licence: str = UNKNOWN,
) -> ExportReport:
    """Export the trained run folder `run` to the ONNX file `output`.

    `size` is (height, width) in pixels, by default the size it was trained at. The parity check compares on some frames of
    `data` (see `frames.read_frames`), by default the run's own validation data. `outputs=("latent",)` leaves the decoder out.
    Raises `BadInput` for an unusable run or option and `RoadworthyError` when the file does not agree with the network;
    then nothing is written.
    """
    network, config, taxonomy = load_run(run)
    height, width = size or config.size
    _check_size(network, height, width)
    if data is not None:
        frames = read_frames(data, "val", height, width, VERIFY_FRAMES, taxonomy)
    else:
        frames = run_frames(config, height, width, PARITY_FRAMES)
    metadata = ModelMetadata.of(
        taxonomy,
        ignore_id=IGNORE,
        height=height,
        width=width,
        objective=config.objective,
        architecture=config.model,
        revision=source_revision(),
        licence=licence,
        roadworthy_version=roadworthy_version(),
        source=run.resolve().name,
        precision="fp32",
    )
    return export_network(
        network,
        metadata,
        output,
        frames.images,
        outputs=outputs,
        min_agreement=min_agreement,
        opset=opset,
        labels=frames.labels,
        frames_source=frames.source,
    )


def run_frames(config: TrainConfig, height: int, width: int, count: int, taxonomy: Taxonomy | None = None) -> Frames:
    """Return frames of the run's own validation data, with labels when `taxonomy` is given.

    Raises `BadInput` when the data is no longer there.
    """
    try:
        return read_frames(config.validation or config.data, "val", height, width, count, taxonomy)
    except BadInput as error:
        raise BadInput(
            f"no frames to check the export on: {error}; name other data for the check: --verify KIND:PATH"
        ) from error


def torch_reference(network: nn.Module, outputs: Sequence[str]) -> Run:
    """Return what the trained network itself makes of frames, for `parity.compare`."""
    module = FrameToLabels(copy.deepcopy(network).cpu(), outputs).eval()  # the caller's stays on its device and in its mode

    def run(frames: npt.NDArray[np.uint8]) -> Segmentation:
        with torch.inference_mode():
            results = [value.numpy() for value in module(torch.from_numpy(frames))]
        return Segmentation(
            **{"labels": None, "confidence": None, "latent": None, **dict(zip(module.outputs, results, strict=True))}
        )

    return run


def export_network(
    network: nn.Module,
    metadata: ModelMetadata,
    output: Path,
    frames: npt.NDArray[np.uint8],
    *,
    outputs: Sequence[str] = OUTPUTS,
    min_agreement: float = TOLERANCES["fp32"].agreement,
    opset: int = OPSET,
    labels: npt.NDArray[np.uint8] | None = None,
    frames_source: str = "given",
) -> ExportReport:
    """Export a segmenter that is already in memory, checked on `frames` `uint8 [K, H, W, 3]`.

    `labels` `uint8 [K, H, W]` train ids of these frames add the mIoU to the check. The rest as in `export_onnx`, which see.
    """
    started = time.perf_counter()
    shape = (metadata.height, metadata.width, 3)
    if frames.dtype != np.uint8 or frames.shape[1:] != shape or not len(frames):
        raise BadInput(
            f"parity frames are {frames.dtype} {list(frames.shape)}, expected uint8 [at least 1, {shape[0]}, {shape[1]}, 3]"
        )
    if output.suffix != ".onnx":
        raise BadInput(f"{output}: expected a name that ends in .onnx")
    if not 0 <= min_agreement <= 1:
        raise BadInput(f"min_agreement is {min_agreement}, expected a fraction of the pixels, 0 to 1")
    tolerance = replace(TOLERANCES["fp32"], agreement=min_agreement)
    network = copy.deepcopy(network).cpu()
    reference = torch_reference(network, outputs)
    with atomic_path(output) as temporary:
        module = FrameToLabels(with_split_prelu(network), outputs).eval()
        _write_graph(module, metadata, temporary, opset)
        candidate = load(temporary, device="cpu", backend=BACKEND, threads=usable_cores())
        parity = compare(candidate, reference, Frames(frames, labels, frames_source), len(metadata.class_names))
        parity.check(tolerance)
        file_bytes = temporary.stat().st_size
    report = ExportReport(
        path=output.name,
        metadata=metadata,
        outputs=module.outputs,
        opset=opset,
        file_bytes=file_bytes,
        seconds=round(time.perf_counter() - started, 3),
        parity=parity,
        tolerance=tolerance,
        frames_source=frames_source,
        versions=versions(),
        ran_on=BACKEND,
    )
    report.write(output)
    return report


def _write_graph(module: FrameToLabels, metadata: ModelMetadata, path: Path, opset: int) -> None:
    """Trace `module` and write a checked ONNX file with our metadata."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # the exporter needs it and says so less clearly
    except ImportError as error:
        raise MissingExtra(error.name or "onnx", "export", "exporting to ONNX") from error
    # Two frames: torch.export takes a batch of one for a constant.
    example = torch.zeros((2, metadata.height, metadata.width, 3), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, nothing a user can act on
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["frames"],
                output_names=list(module.outputs),
                dynamic_shapes={"frames": {0: batch}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise RoadworthyError(
            f"torch cannot write this network as ONNX opset {opset}: {_last_line(error)}. "
            f"Try opset {OPSET}, or replace the operator in the network"
        ) from error
    if program is None:
        raise RoadworthyError("torch.onnx.export gave no program; is this torch older than the one in constraints.txt?")
    model = program.model_proto
    for node in model.graph.node:  # stack traces of the machine that exported: nobody's business, and a third of the file
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    fold_enlarged_maps(model)
    onnx.helper.set_model_props(model, metadata.to_props())
    model.producer_name, model.producer_version = "roadworthy", metadata.roadworthy_version
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _check_size(network: nn.Module, height: int, width: int) -> None:
    """Raise `BadInput` for a frame size that the network cannot halve evenly."""
    multiple = int(getattr(network, "size_multiple", 1))
    if height < multiple or width < multiple or height % multiple or width % multiple:
        near = f"{max(1, round(height / multiple)) * multiple}x{max(1, round(width / multiple)) * multiple}"
        raise BadInput(f"size {height}x{width} (height x width): both must be multiples of {multiple}; try {near}")


def _last_line(error: Exception) -> str:
    """The exporter prints its whole report; the reason is at the end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
