"""The page's figures are those of the benchmarks' files."""

import json
from pathlib import Path
from typing import Any

import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.make_deploy_figures import main, table


def figures() -> dict[str, Any]:
    def latency(p50: float, ratio: float) -> dict[str, Any]:
        return {
            "p50_ms": p50,
            "p90_ms": p50 + 1,
            "ratio_to_baseline": {"value": ratio, "low": ratio - 0.1, "high": ratio + 0.1},
        }

    return {
        "backend": "openvino (cpu, 2 threads)",
        "contenders": {"ort": latency(40.0, 1.0), "roadworthy": latency(26.0, 0.65)},
        "targets": [
            {"what": "to the baseline", "value": 0.65, "low": 0.55, "high": 0.75, "limit": 0.6, "met": False},
            {"what": "without a limit", "value": 1.0, "low": 1.0, "high": 1.0, "limit": None, "met": None},
        ],
        "wrapper_overhead_ms": 0.05,
        "wrapper_overhead_met": True,
        "int8": {"agreement": 0.971, "float_miou": 0.47, "int8_miou": 0.468, "drift_points": 0.2},
    }


def test_a_target_that_was_missed_is_named() -> None:
    lines = table("enet", "360x480", 30, figures())
    assert lines[0].startswith("**enet, 480x360**, 30 rounds")
    assert "| **ours**, labels | 26.0 | 27.0 | 0.65x (0.55–0.75) |" in lines
    assert "- to the baseline: 0.65x (0.55–0.75), at most 0.6: **not met**" in lines
    assert not any("without a limit" in line for line in lines)
    assert any("97.1 % of the labels" in line and "+0.20 points lost" in line for line in lines)


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    machine = {"cpu": "a CPU", "usable_cores": 2, "versions": {"torch": "1", "onnxruntime": "2", "openvino": "3"}}
    report = {"model": "enet", "rounds": 30, "machine": machine, "sizes": {"360x480": figures()}}
    (tmp_path / "enet.json").write_text(json.dumps(report))
    serve = {"backend": "onnxruntime", "in-process": {"p50_ms": 6.0}, "grpc": {"p50_ms": 9.5, "added_ms": 3.5}}
    (tmp_path / "serve.json").write_text(json.dumps(serve))
    page = tmp_path / "deploy.md"
    page.write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n")
    arguments = [str(tmp_path / "enet.json"), "--serve", str(tmp_path / "serve.json"), "--page", str(page)]
    main(arguments, standalone_mode=False)
    text = page.read_text()
    assert text.startswith("before\n<!-- figures: begin -->\na CPU, 2 cores, torch 1")
    assert "- grpc: p50 9.5 ms, 3.5 ms more (at most 8)" in text
    assert text.endswith("<!-- figures: end -->\nafter\n")
    assert "old" not in text
    (tmp_path / "enet.json").write_text("[]")
    with pytest.raises(BadInput, match=r"enet\.json: has no 'sizes'"):
        main(arguments, standalone_mode=False)
