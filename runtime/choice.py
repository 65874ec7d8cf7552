"""Which backend runs a model when nobody says: by the file, the device, and on the CPU by a quick measurement.

An engine runs on TensorRT; an ONNX file on the GPU where ONNX Runtime has one; else on the CPU, where neither ONNX Runtime
nor OpenVINO is the faster one everywhere (any int8: OpenVINO; float: it depends), nor is spinning good or bad. With
`threads` left open the candidates are timed once on this machine and the winner is remembered; with `threads` given nothing is
measured, so that the same call computes with the same kernels every time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from roadworthy.runtime.backends import BACKENDS, Placement
from roadworthy.runtime.backends.backend import parse_device
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.files import cache_folder, write_text
from roadworthy.runtime.machine import cuda_devices, usable_cores, versions
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.sidecar import sha256

BUDGET_S = 1.5  # [s] of timed calls; of slow models each candidate still gets one
MAX_ROUNDS = 15
UNMOVED_MS = 100.0  # [ms] a call that takes longer hardly feels what ran before it
REACHES_GPU = "it reaches the GPU"
MARGIN = 0.05  # the fixed choice stays unless another is faster by this fraction: less is noise


@dataclass(frozen=True)
class Choice:
    """A backend, how it runs, and why."""

    backend: str
    placement: Placement
    reason: str


# Times some calls of a candidate: returns a callable that runs the model once.
OpenCandidate = Callable[[Choice], Callable[[], object]]


def choose(
    path: Path, metadata: ModelMetadata, device: str, threads: int | None, backend: str, open_candidate: OpenCandidate
) -> Choice:
    """Decide what runs the model at `path`; `device`, `threads` and `backend` as `runtime.load` takes them."""
    kind, _ = parse_device(device)
    able = [name for name, entry in BACKENDS.items() if path.suffix in entry.suffixes]
    if not able:
        known = sorted({suffix for entry in BACKENDS.values() for suffix in entry.suffixes})
        raise BadInput(f"{path}: no backend reads files ending in {path.suffix!r}; expected one of {', '.join(known)}")
    placement = Placement(device, threads or usable_cores())
    if backend != "auto":
        if backend not in able:
            raise BadInput(f"{path}: backend {backend} does not read {path.suffix} files; use {' or '.join(able)}")
        return Choice(backend, placement, "asked for")
    if len(able) == 1:
        return Choice(able[0], placement, f"the one that reads {path.suffix} files")
    if kind == "cuda" or (kind == "auto" and _onnxruntime_has_cuda()):
        return Choice("onnxruntime", placement, REACHES_GPU if kind == "auto" else "device cuda was asked for")
    installed = [name for name in able if importlib.util.find_spec(BACKENDS[name].package) is not None]
    if not installed:
        raise MissingExtra("onnxruntime", "cpu", f"running {path.name}")
    placement = Placement("cpu", placement.threads)
    fixed = _fixed(installed, metadata)
    if threads is not None:
        return Choice(fixed, placement, f"threads were given, so nothing was measured; {_why(fixed, installed, metadata)}")
    return _remembered_or_measured(path, [fixed, *(name for name in installed if name != fixed)], placement, open_candidate)


def _fixed(installed: Sequence[str], metadata: ModelMetadata) -> str:
    """Return the CPU backend that is usually the faster one for a model of this precision."""
    wanted = "onnxruntime" if metadata.precision not in ("int8", "fp16") else "openvino"
    return wanted if wanted in installed else installed[0]


def _why(fixed: str, installed: Sequence[str], metadata: ModelMetadata) -> str:
    """Say what speaks for the fixed choice."""
    if len(installed) == 1:
        return f"only {fixed} is installed"
    return f"{fixed} is usually faster for {'float32' if fixed == 'onnxruntime' else metadata.precision} models"


def _onnxruntime_has_cuda() -> bool:
    """Tell whether the installed ONNX Runtime was built with CUDA and there is a device."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and cuda_devices() > 0


def _remembered_or_measured(path: Path, names: Sequence[str], placement: Placement, open_candidate: OpenCandidate) -> Choice:
    """Return the winner of an earlier measurement of this file on this machine, or measure now."""
    facts = json.dumps([sha256(path), placement.threads, names, versions()], sort_keys=True)
    memory = cache_folder() / "choices" / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
        return Choice(kept["backend"], Placement(**kept["placement"]), f"{kept['reason']} (measured earlier)")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never measured, or the note is from another version: measure again and write it anew
    candidates = [Choice(name, placement, "") for name in names]
    busy = _is_busy()
    if "onnxruntime" in names and placement.threads > 1 and not busy:
        candidates.append(Choice("onnxruntime", Placement("cpu", placement.threads, spinning=True), ""))
    choice = _race(candidates, open_candidate)
    if busy:
        return replace(choice, reason=f"{choice.reason}; the machine is busy, so this is not remembered")
    try:
        write_text(memory, json.dumps(asdict(choice)) + "\n")
    except (BadInput, OSError):
        return choice  # a read-only home: it is measured again next time
    return choice


def _is_busy() -> bool:
    """Tell whether others use the cores: then spinning would take them, and a measurement says little about later."""
    return psutil.getloadavg()[0] > usable_cores()


def _race(candidates: Sequence[Choice], open_candidate: OpenCandidate) -> Choice:
    """Time the candidates in turns and return the fastest; the first one wins ties. One that cannot open drops out."""
    calls: list[tuple[Choice, Callable[[], object]]] = []
    failure: BadInput | None = None
    for candidate in candidates:
        try:
            calls.append((candidate, open_candidate(candidate)))
        except BadInput as error:
            failure = failure or error
    if failure is not None and not calls:
        raise failure
    best_ms = [float("inf")] * len(calls)
    started = time.perf_counter()
    for done in range(MAX_ROUNDS):
        if done and time.perf_counter() - started > BUDGET_S:
            break
        for index, (_, call) in enumerate(calls):
            if best_ms[index] < UNMOVED_MS:
                call()  # untimed: what the candidate before left, spinning threads and caches, will not be there later
            before = time.perf_counter()
            call()
            best_ms[index] = min(best_ms[index], 1e3 * (time.perf_counter() - before))
    fastest = min(range(len(calls)), key=best_ms.__getitem__)
    winner = 0 if best_ms[0] <= best_ms[fastest] * (1 + MARGIN) else fastest
    figures = ", ".join(f"{_label(choice)} {ms:.2f} ms" for (choice, _), ms in zip(calls, best_ms, strict=True))
    chosen = calls[winner][0]
    return Choice(chosen.backend, chosen.placement, f"fastest on this machine: {figures}")


def _label(choice: Choice) -> str:
    """Name a candidate."""
    return f"{choice.backend}{' spinning' if choice.placement.spinning else ''}"
