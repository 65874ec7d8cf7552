"""ONNX -> TensorRT engine: TensorRT 10 and 11 on the machine with the GPU, TensorRT for RTX anywhere. Needs no torch.

roadworthy export model.onnx --format tensorrt                          # on the vehicle, for its own GPU
roadworthy export model.onnx --format tensorrt-rtx --target sm86,sm89   # ahead of time, no GPU needed

One code path for all of them: networks are strongly typed, so the precision is what the ONNX file says (a half graph, or
QuantizeLinear nodes), and nothing that TensorRT 11 removed is used. The engine is a plain plan file that `trtexec` loads; our
facts are in the sidecar beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from roadworthy.export.batch import Batch
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import atomic_path, cache_folder

# Format -> modules that may provide it, and what pip calls the package.
LIBRARIES = {
    "tensorrt": (("tensorrt",), "tensorrt"),
    "tensorrt-rtx": (("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt-rtx-cu12 (or -cu13)"),
}


@dataclass(frozen=True)
class Engine:
    """What was built, with what."""

    library: str  # name and version
    targets: tuple[str, ...]  # compute capabilities, e.g. sm89; empty: the GPU of the machine it was built on
    batch: Batch


def build_engine(model: Path, output: Path, format: str, batch: Batch | None, targets: Sequence[str] = ()) -> Engine:
    """Build the engine `output` from the ONNX file `model`; `format` is one of `LIBRARIES`.

    `batch` is the profile of a model with an open batch axis (None: one frame at a time). `targets` are the compute
    capabilities to build for, such as "sm89", which only TensorRT for RTX can do; without them it is this machine's GPU.
    Raises `BadInput` for a missing package or GPU, a target or an operator that it does not know, and `RoadworthyError` when
    the builder gives up; then nothing is written.
    """
    library, version = import_library(format)
    capabilities = _capabilities(library, format, targets)
    log = _make_log(library)
    builder = _builder(library, format, log)
    network = builder.create_network(_strongly_typed(library))
    _parse(library, network, log, model)
    config = builder.create_builder_config()
    chosen = _add_profile(builder, config, network, batch)
    cache = None
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for place, capability in enumerate(capabilities):
            config.set_compute_capability(capability, place)
    if format == "tensorrt-rtx":  # it travels to another machine, whose library may be newer
        config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(library.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    else:
        cache = _timing_cache(config, version)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RoadworthyError(
            f"{model.name}: {format} {version} could not build an engine ({log.last_error()}); try another --precision, or "
            "run the ONNX file itself"
        )
    with atomic_path(output) as temporary:
        temporary.write_bytes(bytes(plan))
    if cache is not None:
        with atomic_path(cache) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    return Engine(f"{format} {version}", tuple(target.lower() for target in targets), chosen)


def import_library(format: str) -> tuple[Any, str]:
    """Import what builds `format`: the module and its version. Raises `BadInput` saying what to install."""
    modules, package = LIBRARIES[format]
    for name in modules:
        try:
            module = import_module(name)
        except ImportError:
            continue
        return module, str(module.__version__)
    other = "tensorrt-rtx" if format == "tensorrt" else "tensorrt"
    raise BadInput(
        f"--format {format} needs the Python package {modules[0]!r}, which is not installed: pip install {package}; "
        f"or use --format {other}, onnx or openvino"
    )


def _capabilities(library: Any, format: str, targets: Sequence[str]) -> list[Any]:
    """Look the targets up in the library's list. Raises `BadInput` with the list for one that is not there."""
    if targets and format != "tensorrt-rtx":
        raise BadInput(
            f"--target {','.join(targets)}: {format} builds for the GPU of the machine it runs on; leave --target out and run "
            "this on the vehicle, or use --format tensorrt-rtx, which builds ahead of time"
        )
    if format != "tensorrt-rtx":
        return []
    known = {name.lower(): value for name, value in library.ComputeCapability.__members__.items() if name.startswith("SM")}
    unknown = [target for target in targets if target.lower() not in known]
    if unknown:
        raise BadInput(f"--target {', '.join(unknown)}: {format} knows {', '.join(known)}, comma-separated")
    if not targets and not has_gpu():
        raise BadInput(
            "no GPU here to build for; name the compute capabilities of the vehicle's: --target "
            f"{','.join(list(known)[-3:])} (known: {', '.join(known)})"
        )
    return [known[target.lower()] for target in targets]


def has_gpu() -> bool:
    """Tell whether the CUDA driver is here and sees a GPU."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _make_log(library: Any) -> Any:
    """Return a logger that keeps what TensorRT says instead of printing it."""

    class Log(library.ILogger):  # type: ignore[misc]  # the base class is only known here
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def last_error(self) -> str:
            return self.errors[-1].strip()[:300] if self.errors else "it gave no reason"

    return Log()


def _builder(library: Any, format: str, log: Any) -> Any:
    """Create the builder, which for TensorRT needs a GPU."""
    if format == "tensorrt" and not has_gpu():
        raise BadInput(
            "--format tensorrt builds for the GPU of the machine it runs on, and there is none here: run the same command on "
            "the vehicle (it needs no torch), or use --format tensorrt-rtx --target sm89"
        )
    try:
        return library.Builder(log)
    except (RuntimeError, TypeError) as error:  # what its bindings raise for a null pointer
        raise RoadworthyError(f"{format} did not start ({log.last_error()}); see 'roadworthy doctor'") from error


def _strongly_typed(library: Any) -> int:
    """Return the creation flags: TensorRT 10 must be asked for strong typing, 11 may know nothing else."""
    flag = library.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def _parse(library: Any, network: Any, log: Any, model: Path) -> None:
    """Read the ONNX file into `network`. Raises `BadInput` naming the first operator that is not supported."""
    parser = library.OnnxParser(network, log)
    if parser.parse_from_file(str(model.resolve())):
        return
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    reasons = [f"operator {problem.node_operator()} ({problem.node_name()}): {problem.desc()}" for problem in problems]
    raise BadInput(
        f"{model.name}: TensorRT cannot read this graph: {'; '.join(reasons[:3]) or log.last_error()}; replace the operator, "
        "or run the ONNX file itself"
    )


def _add_profile(builder: Any, config: Any, network: Any, batch: Batch | None) -> Batch:
    """Say which batch sizes the engine takes; returns them. Raises `BadInput` for a size that a fixed graph does not take."""
    frames = network.get_input(0)
    first, *rest = tuple(frames.shape)
    if first > 0:
        if batch is not None and batch != Batch(first, first, first):
            raise BadInput(f"--batch {batch}: the ONNX file takes exactly {first} frames; export it with an open batch")
        return Batch(first, first, first)
    chosen = batch or Batch(1, 1, 1)
    profile = builder.create_optimization_profile()
    profile.set_shape(frames.name, (chosen.least, *rest), (chosen.usual, *rest), (chosen.most, *rest))
    config.add_optimization_profile(profile)
    return chosen


def _timing_cache(config: Any, version: str) -> Path:
    """Load what earlier builds on this machine measured, and return the file to keep it in."""
    path = cache_folder() / f"tensorrt-{version}.timing"
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
    # Another GPU's or driver's measurements are dropped by TensorRT itself.
    config.set_timing_cache(cache, ignore_mismatch=False)
    return path
