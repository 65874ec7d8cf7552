"""How long a vehicle waits after switching on: a fresh process from its start to the first labels, and what it then weighs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from roadworthy.runtime.errors import RoadworthyError

TIMEOUT_S = 600.0

_PROGRAM = """
import json, sys, time
begun = time.perf_counter()
import numpy, psutil
from roadworthy.runtime import load
imported = time.perf_counter()
path, device, backend, threads, batch = json.loads(sys.argv[1])
segmenter = load(path, device, threads, backend=backend)
loaded = time.perf_counter()
segmenter(numpy.zeros((batch, segmenter.metadata.height, segmenter.metadata.width, 3), numpy.uint8))
done = time.perf_counter()
memory = psutil.Process().memory_info().rss
print(json.dumps([imported - begun, loaded - imported, done - loaded, memory]))
"""


@dataclass(frozen=True)
class ColdStart:
    """Where the time to the first labels goes."""

    total_s: float  # the whole process, Python's own start and end included
    import_s: float
    load_s: float  # reading, compiling and warming up
    first_call_s: float
    memory_mb: float  # resident after the first call

    def to_dict(self) -> dict[str, float]:
        """Return the figures ready for JSON."""
        return asdict(self)


def cold_start(
    model: Path, *, device: str = "auto", backend: str = "auto", threads: int | None = None, batch: int = 1
) -> ColdStart:
    """Load `model` and run a black batch in a fresh process; raises `RoadworthyError` when that fails."""
    arguments = json.dumps([str(model), device, backend, threads, batch])
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    total_s = time.perf_counter() - started
    if done.returncode != 0:
        raise RoadworthyError(f"{model}: a fresh process could not run it: {done.stderr.strip()[-400:]}")
    import_s, load_s, first_call_s, memory = json.loads(done.stdout)
    return ColdStart(total_s, import_s, load_s, first_call_s, memory / 2**20)
