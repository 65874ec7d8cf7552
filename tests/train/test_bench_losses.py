"""The loss benchmark runs and reports what it says it does (its numbers are judged elsewhere, on a quiet machine)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadworthy.scripts import bench_losses


def test_the_benchmark_writes_times_memory_and_their_ratios(tmp_path: Path) -> None:
    path, small = tmp_path / "bench.json", ["1", "5", "64", "64"]
    rest = ["--rounds", "2", "--threads", "1", "--output", str(path)]
    bench_losses.main(["--shape", *small, "--soft-shape", *small, *rest])
    result = json.loads(path.read_text())
    for case, losses in bench_losses.CASES.items():
        found = result[case]
        assert found["shape"] == [1, 5, 64, 64]
        assert found["median_ms"].keys() == found["peak_extra_mb"].keys() == losses.keys()
        for loss, ratio in found["time_ratio"].items():
            times = found["median_ms"]
            assert ratio == pytest.approx(times[loss] / times["cross_entropy"], rel=0.05)
    for limit in result["limits"]:
        assert limit["met"] == (limit["found"] <= limit["limit"])
