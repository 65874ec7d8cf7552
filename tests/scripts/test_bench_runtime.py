"""The verdicts of the runtime benchmark, on latencies that are known."""

import json
from pathlib import Path

import numpy as np

from roadworthy.runtime import load
from roadworthy.runtime.timing import Latency
from roadworthy.scripts.bench_runtime import BASELINE, EVERYTHING, LATENT, OURS, _figures

from .colour_model import write_colour_model


def test_targets_are_judged_by_ratios_of_one_run(tmp_path: Path) -> None:
    swings = np.random.default_rng(0).uniform(1, 5, 40)  # a busy machine: every round another speed
    p50_ms = {BASELINE: 56, "ort-graph": 47, "openvino": 27, "torch": 84, OURS: 28, LATENT: 14, EVERYTHING: 36}
    latencies = {name: Latency(tuple(value * swings)) for name, value in p50_ms.items()}
    figures = _figures("enet", latencies, load(write_colour_model(tmp_path / "m.onnx"), threads=1))
    found = {check["what"]: (round(check["value"], 3), check["met"]) for check in figures["targets"]}
    assert found == {
        "to the baseline": (0.5, True),
        "to the best by hand (openvino)": (1.037, True),
        "latent only to the whole network": (0.5, False),
        "latent only to the whole network with all outputs": (0.389, True),
    }
    assert figures["wrapper_overhead_ms"] > 0
    json.dumps(figures, allow_nan=False)
