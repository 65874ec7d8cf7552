"""What this machine can do at best: a float32 matrix product and a copy through main memory, measured in a fresh process.

    python -m roadworthy.runtime.peak 2

A process of its own, because numpy's threads are set when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from roadworthy.runtime.errors import RoadworthyError

GEMM_SIZE = 2048  # rows and columns: 48 MiB of float32, 17 GFLOP
COPY_BYTES = 1 << 28  # per thread; far beyond any cache
REPEATS = 7  # the best counts: a peak is what the machine can do undisturbed


@dataclass(frozen=True)
class Peak:
    """Measured limits of the processor cores that were asked for."""

    gflops: float  # [1e9 float32 operations per second] of a matrix product
    copy_gb_per_s: float  # [1e9 bytes per second], read and written counted, as STREAM's copy counts
    threads: int

    def to_dict(self) -> dict[str, float]:
        """Return the figures ready for JSON."""
        return asdict(self)


def measure_peak(threads: int, *, gemm_size: int = GEMM_SIZE, copy_bytes: int = COPY_BYTES) -> Peak:
    """Measure in a fresh process with `threads` threads; takes a few seconds. Smaller sizes measure the caches, too."""
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "roadworthy.runtime.peak", str(threads), str(gemm_size), str(copy_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits, check=False)
    if done.returncode != 0:
        raise RoadworthyError(f"measuring the machine's peak failed: {done.stderr.strip()[-300:]}")
    return Peak(**json.loads(done.stdout))


def _measure_here(threads: int, gemm_size: int = GEMM_SIZE, copy_bytes: int = COPY_BYTES) -> Peak:
    import numpy as np

    left = np.random.default_rng(0).standard_normal((gemm_size, gemm_size), np.float32)
    result = np.empty_like(left)
    best_gemm = best_copy = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        np.matmul(left, left, out=result)
        best_gemm = min(best_gemm, time.perf_counter() - started)
    sources = [np.ones(copy_bytes, np.uint8) for _ in range(threads)]
    targets = [np.zeros(copy_bytes, np.uint8) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # numpy copies without holding the interpreter
        for _ in range(REPEATS):
            started = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best_copy = min(best_copy, time.perf_counter() - started)
    return Peak(2 * gemm_size**3 / best_gemm / 1e9, 2 * threads * copy_bytes / best_copy / 1e9, threads)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure_here(*map(int, sys.argv[1:])).to_dict()))
