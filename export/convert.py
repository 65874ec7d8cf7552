"""From one ONNX file of ours to the precision and format asked for, checked on real frames. Needs no torch.

    load -> precision -> batch -> write in the format -> compare with what it was made from

It runs on the vehicle as well as on the workstation. The reference is the file it starts from; for a run, the caller gives
the torch network itself.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from roadworthy.export.batch import Batch
from roadworthy.export.frames import Frames, made_up_frames, read_frames
from roadworthy.export.int8 import Progress
from roadworthy.export.onnx_model import (
    batch_of,
    fix_batch,
    keep_outputs,
    load_model,
    opset_of,
    precision_of,
    save_model,
    set_props,
)
from roadworthy.export.openvino import write_ir
from roadworthy.export.parity import Parity, Run, compare
from roadworthy.export.precision import JUDGE, in_precision
from roadworthy.export.prelu import merge_prelu
from roadworthy.export.report import NOT_RUN, ExportReport
from roadworthy.export.tensorrt import LIBRARIES, build_engine, has_gpu
from roadworthy.export.triton import model_name, replace_folder, signature, write_repository
from roadworthy.export.wish import SUFFIXES, Wish
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.confidence import reference_path, write_reference
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.machine import usable_cores, versions
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.onnx_file import read_props
from roadworthy.runtime.segmenter import load
from roadworthy.runtime.sidecar import sidecar_path, write_sidecar

VERIFY_FRAMES = 128  # at most, of the data to verify on


def convert(
    source: Path,
    output: Path,
    wish: Wish,
    *,
    reference: Run | None = None,
    frames: Callable[[], Frames] | None = None,
    calibration: Callable[[], Frames] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Make what is wished for of the fp32 ONNX file `source`, checked against `reference` (None: against `source` itself).

    `frames` and `calibration` give the frames where the wish names no data. Raises `BadInput` for a wish that cannot be
    fulfilled and `RoadworthyError` when the result is not faithful; then nothing is left behind.
    """
    started = time.perf_counter()
    report = progress or (lambda _text, _fraction: None)
    if output.resolve() == source.resolve():
        raise BadInput(
            f"{output}: would overwrite the file it is made from; ask for another --precision or --format, or choose another "
            "--output"
        )
    if output.suffix != SUFFIXES[wish.format]:
        raise BadInput(f"{output}: expected a name that ends in {SUFFIXES[wish.format] or 'no dot'} for --format {wish.format}")
    metadata = ModelMetadata.from_props(read_props(source), str(source))
    model = load_model(source)
    if wish.outputs is not None:
        model = keep_outputs(model, wish.outputs, source.name)
    shown = _frames(wish, metadata, frames)
    if reference is None:
        reference = load(source, device="cpu", backend=JUDGE, threads=usable_cores())
    report("changing the precision", 0.05)
    model, choice = in_precision(model, wish, metadata, shown, reference, calibration, report)
    metadata = replace(metadata, precision=precision_of(model))
    set_props(model, metadata.to_props())
    if wish.format in ("openvino", *LIBRARIES):
        merge_prelu(model)  # fused into the convolution there, unlike in ONNX Runtime
    if wish.batch is not None and wish.batch.fixed and batch_of(model) != wish.batch.least:
        if batch_of(model) is not None:
            raise BadInput(f"--batch {wish.batch}: {source.name} takes exactly {batch_of(model)} frames")
        if wish.format != "triton":  # which batches requests itself
            fix_batch(model, wish.batch.least)
    if wish.batch is not None and not wish.batch.fixed and batch_of(model) is not None:
        raise BadInput(
            f"--batch {wish.batch}: {source.name} takes exactly {batch_of(model)} frames; export it with an open batch"
        )

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        save_model(model, made)
        report(f"writing {wish.format}", 0.7)
        inside = Path(folder) / f"result{SUFFIXES[wish.format]}"
        built = _write(made, inside, wish, metadata, source, model)
        report("checking", 0.8)
        parities = _check(inside, wish, metadata, shown, reference, batch_of(model))
        _deliver(inside, output)
    judged = next(iter(parities), None)
    written = ExportReport(
        path=output.name,
        metadata=metadata,
        outputs=tuple(value.name for value in model.graph.output),
        opset=opset_of(model),
        file_bytes=_size(output),
        seconds=round(time.perf_counter() - started, 3),
        parity=None if judged is None else parities[judged],
        tolerance=wish.tolerance,
        frames_source=shown.source,
        versions=versions() | built,
        format=wish.format,
        precision=precision_of(model),
        ran_on=judged or NOT_RUN,
        parity_elsewhere={name: parity for name, parity in parities.items() if name != judged},
        calibration_source=choice.source if choice else None,
        float_layers=choice.float_layers if choice else (),
        layer_drifts=choice.drifts if choice else (),
        targets=wish.targets,
    )
    written.write(output)
    _store_range(output, written.parity)
    return written


def _frames(wish: Wish, metadata: ModelMetadata, frames: Callable[[], Frames] | None) -> Frames:
    """Return the frames to check on: those of the data named, of the caller, or for what is not rounded, made-up ones."""
    height, width = metadata.height, metadata.width
    if wish.verify is not None:
        return read_frames(wish.verify, "val", height, width, VERIFY_FRAMES, metadata.lookup_taxonomy())
    if frames is not None:
        return frames()
    if wish.precision in ("fp16", "int8"):
        raise BadInput(
            f"--precision {wish.precision} changes labels a little, and only real frames tell how many: name some with "
            "--verify KIND:PATH or --verify FOLDER"
        )
    return made_up_frames(height, width)


def _write(made: Path, inside: Path, wish: Wish, metadata: ModelMetadata, source: Path, model: Any) -> dict[str, str]:
    """Write the ONNX file `made` in the format wished for to `inside`; returns the version of what did it, if it is new."""
    inputs, outputs = signature(model)
    if wish.format == "onnx":
        made.rename(inside)
    elif wish.format == "openvino":
        version = write_ir(made, inside, metadata.to_props())
        write_sidecar(inside, wish.format, source, metadata, {"openvino": version})
    elif wish.format == "triton":
        batch = wish.batch or Batch(1, 4, 8)
        write_repository(made, inside, model_name(source), metadata, inputs, outputs, batch, "KIND_AUTO")
    else:
        engine = build_engine(made, inside, wish.format, wish.batch, wish.targets)
        facts = {
            "library": engine.library,
            "targets": ",".join(engine.targets),
            "batch": str(engine.batch),
            "inputs": json.dumps(inputs),
            "outputs": json.dumps(outputs),
        }
        write_sidecar(inside, wish.format, source, metadata, facts)
        return {wish.format: engine.library.split()[-1]}
    return {}


def _check(
    inside: Path, wish: Wish, metadata: ModelMetadata, frames: Frames, reference: Run, batch: int | None
) -> dict[str, Parity]:
    """Compare what was written on every backend that runs it here, and judge the first one's figures."""
    if wish.format == "triton":
        inside = next(inside.glob("*/*/model.onnx"))
    if wish.format in LIBRARIES:
        backends: tuple[str, ...] = ("tensorrt",) if has_gpu() and not wish.targets else ()
    else:
        backends = tuple(
            name for name, entry in BACKENDS.items() if inside.suffix in entry.suffixes and _installed(entry.package)
        )
    found: dict[str, Parity] = {}
    for backend in backends:
        found[backend] = compare(_open(inside, backend), reference, frames, len(metadata.class_names), batch)
        if len(found) == 1:
            found[backend].check(wish.tolerance)
    return found


def _open(path: Path, backend: str) -> Run:
    device = "cuda" if backend == "tensorrt" else "cpu"
    return load(path, device=device, backend=backend, threads=usable_cores())


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _deliver(inside: Path, output: Path) -> None:
    """Move the result and what belongs to it to its place; the file that is loaded comes last."""
    if inside.is_dir():
        output.mkdir(parents=True, exist_ok=True)
        for folder in inside.iterdir():  # other models of the repository stay
            replace_folder(folder, output / folder.name)
        return
    pairs = [(inside.with_suffix(".bin"), output.with_suffix(".bin")), (sidecar_path(inside), sidecar_path(output))]
    for origin, target in [*pairs, (inside, output)]:
        if origin.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(origin, temporary)


def _size(output: Path) -> int:
    """Bytes of the model: the file and its weights, or everything in the folder."""
    if output.is_dir():
        return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    weights = output.with_suffix(".bin")
    return output.stat().st_size + (weights.stat().st_size if output.suffix == ".xml" and weights.is_file() else 0)


def _store_range(output: Path, parity: Parity | None) -> None:
    """Keep the range of confidence that belongs to this file; an older file's is removed."""
    if output.is_dir():
        return
    reference_path(output).unlink(missing_ok=True)
    if parity is not None and parity.confidence_range is not None:
        write_reference(output, parity.confidence_range)
