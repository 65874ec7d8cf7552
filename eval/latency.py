"""Measure several exported models against each other: interleaved, so that ratios hold on a busy machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from roadworthy.runtime import load, machine
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.timing import measure

ProgressCallback = Callable[[str, float], None]


def measure_latency(
    models: Mapping[str, Path],
    output: Path,
    *,
    rounds: int = 150,
    warmup: int = 10,
    threads: int | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Time one frame at a time through each model and write the figures to `output` (JSON); returns what was written.

    Args:
        models: exported models by name; each is fed random frames of its own size.
        output: where the JSON goes.
        rounds: calls per model.
        warmup: untimed calls per model before.
        threads: CPU threads of the runtime; None = all physical cores.
        seed: of the frames and the order of calls.
        progress: called with a text and the fraction done.

    Raises:
        BadInput: no models, or one that cannot be loaded.
    """
    if not models:
        raise BadInput("no models to measure; name at least one")
    rng = np.random.default_rng(seed)
    calls: dict[str, Callable[[], object]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name, path in models.items():
        segmenter = load(path, device="cpu", threads=threads)
        size = (1, segmenter.metadata.height, segmenter.metadata.width, 3)
        frame = rng.integers(0, 256, size, dtype=np.uint8)
        calls[name] = lambda segmenter=segmenter, frame=frame: segmenter(frame)  # type: ignore[misc]
        facts[name] = {
            "backend": segmenter.backend,
            "size": [segmenter.metadata.height, segmenter.metadata.width],
            "architecture": segmenter.metadata.architecture,
            "file_bytes": path.stat().st_size,
        }
    quiet = machine.describe()  # its load average is the one before we made load ourselves
    measured = measure(calls, warmup=warmup, rounds=rounds, seed=seed, progress=progress)
    result = {
        "rounds": rounds,
        "batch": 1,
        "threads": threads,
        "machine": quiet.to_dict(),
        "models": {name: {**facts[name], **latency.to_dict()} for name, latency in measured.items()},
    }
    write_text(output, json.dumps(result, indent=1, allow_nan=False))
    return result
