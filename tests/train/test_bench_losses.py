"""The loss benchmark runs and reports what it says it does (its numbers are judged elsewhere, on a quiet machine)."""

from __future__ import annotations

import json
from pathlib import Path

from roadworthy.scripts.bench_losses import main


def test_the_benchmark_writes_times_memory_and_their_ratios(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    main(["--shape", "1", "5", "64", "64", "--rounds", "2", "--threads", "1", "--output", str(path)])
    result = json.loads(path.read_text())
    assert result["shape"] == [1, 5, 64, 64]
    assert result["median_ms"].keys() == result["peak_extra_mb"].keys() == {"cross_entropy", "wasserstein"}
    times = result["median_ms"]
    assert abs(result["time_ratio"] - times["wasserstein"] / times["cross_entropy"]) < 0.05 * result["time_ratio"]
