"""`roadworthy bench`: models, backends, batch sizes and what people write by hand, measured in one interleaved run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roadworthy.eval.roofline import count_work
from roadworthy.eval.roofline import place as place_under_roof
from roadworthy.runtime import Segmenter, load, machine
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.coldstart import cold_start
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.files import write_text
from roadworthy.runtime.peak import Peak, measure_peak
from roadworthy.runtime.timing import Latency, measure, ratio

ProgressCallback = Callable[[str, float], None]
Frames = npt.NDArray[np.uint8]

BUSY_LOAD = 0.5  # runnable processes per usable core before we start, above which the machine is not quiet
STAGE_ROUNDS = 15
CPU_CALLS = 8


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and how long."""

    backends: tuple[str, ...] = ("auto",)  # names of `runtime.backends`, auto, or all that read the file
    against: tuple[str, ...] = ()  # names of `eval.peers`; they need the run folder beside the model
    batches: tuple[int, ...] = (1,)  # [frames]
    rounds: int = 100  # timed calls of each
    warmup: int = 10  # untimed calls of each before
    threads: int | None = None  # CPU threads; None: what the runtime chooses
    device: str = "auto"
    cold: bool = True  # also start each model in a fresh process
    roofline: bool = True  # also measure the machine's peaks and count the model's work
    max_seconds: float | None = 120.0  # [s] of timed rounds per batch size; at least ten rounds are made
    seed: int = 0


@dataclass
class _Contender:
    """One thing that is timed: a model on a backend, or a peer."""

    name: str
    call: Callable[[], object]
    facts: dict[str, Any] = field(default_factory=dict)
    segmenter: Segmenter | None = None
    frames: Frames | None = None


def bench(
    models: Mapping[str, Path], output: Path, config: BenchConfig = BenchConfig(), progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Measure `models` (by name) and write everything to `output` (JSON); returns what was written.

    Raises `BadInput` for a model, backend or peer that cannot be used, before anything is timed.
    """
    if not models:
        raise BadInput("no models to measure; name at least one")
    report = progress or (lambda text, fraction: None)
    before = machine.describe()  # its load average is the one before we made load ourselves
    threads = config.threads or machine.usable_cores()
    peak = measure_peak(threads) if config.roofline else None
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for index, batch in enumerate(config.batches):
            report(f"opening models for batches of {batch}", index / len(config.batches))
            contenders = _contenders(models, config, threads, batch, folder)
            done = index / len(config.batches)
            measured = measure(
                {contender.name: contender.call for contender in contenders},
                warmup=config.warmup,
                rounds=config.rounds,
                max_seconds=config.max_seconds,
                seed=config.seed,
                progress=lambda text, part, done=done: report(text, done + part / len(config.batches)),  # type: ignore[misc]
            )
            fastest = min(contenders, key=lambda contender: measured[contender.name].p50_ms).name
            for contender in contenders:
                rows.append(_row(contender, measured, fastest, batch, config, peak))
    result = {
        "machine": before.to_dict(),
        "warnings": _warnings(before, rows),
        "threads": config.threads,
        "rounds": config.rounds,
        "peak": None if peak is None else peak.to_dict(),
        "rows": rows,
    }
    write_text(output, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _contenders(models: Mapping[str, Path], config: BenchConfig, threads: int, batch: int, folder: Path) -> list[_Contender]:
    """Open everything that is timed with batches of `batch`."""
    rng = np.random.default_rng(config.seed)
    found: list[_Contender] = []
    for name, path in models.items():
        frames: Frames | None = None
        for backend in _backends(path, config.backends):
            segmenter = load(path, config.device, config.threads, backend=backend)
            if segmenter.batch not in (None, batch):
                raise BadInput(f"{path}: takes batches of {segmenter.batch}, not {batch}; export it with --batch 1:4:16")
            if frames is None:
                size = (batch, segmenter.metadata.height, segmenter.metadata.width, 3)
                frames = rng.integers(0, 256, size, dtype=np.uint8)
            found.append(
                _Contender(f"{name} | {backend}", _bind(segmenter, frames), _facts(name, path, segmenter), segmenter, frames)
            )
        if config.against:
            assert frames is not None
            found += _peers(name, path, frames, config.against, threads, folder)
    return found


def _backends(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the backends to try for a file; `all` stands for those that read it."""
    if tuple(wanted) != ("all",):
        return list(wanted)
    return [name for name, entry in BACKENDS.items() if path.suffix in entry.suffixes]


def _bind(segmenter: Segmenter, frames: Frames) -> Callable[[], object]:
    return lambda: segmenter(frames)


def _facts(name: str, path: Path, segmenter: Segmenter) -> dict[str, Any]:
    """Return what identifies a row."""
    return {
        "model": name,
        "path": str(path),
        "kind": "roadworthy",
        "backend": segmenter.backend,
        "reason": segmenter.reason,
        "precision": segmenter.metadata.precision,
        "size": [segmenter.metadata.height, segmenter.metadata.width],
        "outputs": list(segmenter.outputs),
        "file_bytes": path.stat().st_size + sum(part.stat().st_size for part in [path.with_suffix(".bin")] if part.is_file()),
    }


def _peers(name: str, path: Path, frames: Frames, against: Sequence[str], threads: int, folder: Path) -> list[_Contender]:
    """Build the peers of the run that `path` was exported from."""
    from roadworthy.eval.peers import PEERS, PeerContext, build_peers
    from roadworthy.train.checkpoint import load_run

    run = path.parent
    try:
        network, _, _ = load_run(run)
    except BadInput as error:
        raise BadInput(f"--against needs the run that {path.name} was exported from beside it: {error}") from error
    place = folder / f"{name.replace('/', '_')}-{len(frames)}"
    place.mkdir(exist_ok=True)
    peers = build_peers(against, PeerContext(network.eval(), frames, threads, place))
    return [
        _Contender(
            f"{name} | {PEERS[peer][1]}",
            lambda call=call: call(frames),  # type: ignore[misc]
            {"model": name, "kind": "peer", "backend": PEERS[peer][1], "precision": "fp32", "size": list(frames.shape[1:3]),
             "outputs": ["labels"]},
        )
        for peer, call in peers.items()
    ]  # fmt: skip


def _row(
    contender: _Contender, measured: Mapping[str, Latency], fastest: str, batch: int, config: BenchConfig, peak: Peak | None
) -> dict[str, Any]:
    """Put together all figures of one contender."""
    latency = measured[contender.name]
    row = {"name": contender.name, "batch": batch, **contender.facts, **latency.to_dict(samples=True)}
    row["frames_per_second"] = batch * latency.fps
    row["ratio_to_fastest"] = ratio(latency, measured[fastest]).to_dict()
    row["cpu_percent"] = _cpu_percent(contender.call)
    segmenter, frames = contender.segmenter, contender.frames
    if segmenter is None or frames is None:
        return row
    stages = [segmenter.time_stages(frames) for _ in range(STAGE_ROUNDS)]
    row["stages_ms"] = {stage: float(np.median([one[stage] for one in stages])) for stage in stages[0]}
    if config.cold:
        name = segmenter.backend.split(" ")[0]
        row["cold_start"] = cold_start(
            segmenter.path, device=config.device, backend=name, threads=config.threads, batch=batch
        ).to_dict()
    if peak is not None and segmenter.path.suffix == ".onnx":
        try:
            work = count_work(segmenter.path, batch)
        except MissingExtra as error:
            row["roofline"] = {"missing": str(error)}
        else:
            row["roofline"] = work.to_dict() | place_under_roof(work, latency.p50_ms, peak).to_dict()
    return row


def _cpu_percent(call: Callable[[], object]) -> float:
    """Return the processor time of a call in percent of its wall time: 200 means two cores all the time."""
    used, started = time.process_time(), time.perf_counter()
    for _ in range(CPU_CALLS):
        call()
    return 100 * (time.process_time() - used) / (time.perf_counter() - started)


def _warnings(before: machine.Machine, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what speaks against these figures."""
    found = []
    if before.load_1min > BUSY_LOAD * before.usable_cores:
        found.append(
            f"{before.load_1min} processes were already running on {before.usable_cores} cores: trust the ratios, not the ms"
        )
    found += [f"{row['name']}, batch {row['batch']}: {row['noise']}" for row in rows if row["noise"]]
    slow = [row for row in rows if row["outliers"]]
    found += [f"{row['name']}, batch {row['batch']}: {row['outliers']} calls took 3 times the median or more" for row in slow]
    return found


def accuracy(model: Path, data: str, *, split: str | None = None, limit: int | None = None, backend: str = "auto") -> float:
    """Return the data-set-level mean IoU of `model` on the labelled data `data` (KIND:PATH), void ignored.

    `limit` takes that many images, spread evenly. Predictions are compared at the labels' size.
    """
    from roadworthy.runtime.scaling import segment_image
    from roadworthy.runtime.scores import Confusion
    from roadworthy.train.data import open_dataset

    segmenter = load(model, backend=backend)
    dataset = open_dataset(data, split)
    if dataset.taxonomy.classes != segmenter.metadata.class_names:
        raise BadInput(
            f"{data} has the classes of {dataset.taxonomy.name}, {model.name} predicts {segmenter.metadata.taxonomy}; "
            "give data of the same taxonomy"
        )
    scores = Confusion(len(dataset.taxonomy))
    for index in np.unique(np.linspace(0, len(dataset) - 1, limit or len(dataset)).round().astype(int)):
        sample = dataset[int(index)]
        scores.update(segment_image(segmenter, sample.image)[0], sample.labels)
    return scores.mean_iou()
