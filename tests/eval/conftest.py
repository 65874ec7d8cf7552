"""A hand-made study, clearly test data: three segmenters with made-up figures, one of them with a hostile name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import INFRACTION_KINDS, Infraction
from roadworthy.eval.calibration import reliability
from roadworthy.eval.driving import compare_drives, drive_summary, finished_share, fit_to_judge
from roadworthy.eval.pictures import Example, label_uri, photo_uri
from roadworthy.eval.study import PRESETS, study_data
from roadworthy.runtime import machine
from roadworthy.runtime.taxonomy import TOWN

HOSTILE = '<script>alert("1")</script>&\'"'


def estimate(value: float, spread: float) -> dict[str, float | None]:
    return {"value": value, "low": value - spread, "high": value + spread, "level": 0.95}


def episodes(name: str, completion: float, rng: np.random.Generator) -> list[Episode]:
    found = []
    for town, held_out in (("Grid01", False), ("Crooked01", True)):
        for route in range(4):
            infractions = tuple(
                Infraction(
                    str(kind), 50 * i, 5.0 * i, 20.0 * i, (float(rng.uniform(0, 200)), float(rng.uniform(-150, 50))), 0.0,
                    HOSTILE if i == 0 else "vehicle.tesla.model3",
                )
                for i, kind in enumerate(rng.choice(INFRACTION_KINDS[2:], size=rng.integers(0, 4)))
            )  # fmt: skip
            done = float(np.clip(completion + rng.normal(0.2, 0.15), 0, 1))
            found.append(
                Episode(
                    id=f"{name}/0/{town}/{route}", segmenter=name, policy_seed=0, suite="test", town=town, held_out=held_out,
                    weather="ClearNoon", task="one-turn", route=route, seed=route, traffic={"vehicles": 8, "walkers": 8},
                    steps=600, duration_s=60.0, distance_m=120 * done, route_length_m=120.0, route_completion=done,
                    ended="goal" if done == 1 else "timeout", infractions=infractions, mean_speed_mps=2.0, reward_sum=1.0,
                )
            )  # fmt: skip
    return found


def latency_row(models: list[str], precision: str, p50: float) -> dict[str, Any]:
    """Make one row of latency, with made-up figures."""
    return {
        "name": f"{models[0]} | auto", "models": models, "model": models[0], "precision": precision, "batch": 1,
        "p50_ms": p50, "p50_interval_ms": [p50 - 0.1, p50 + 0.2], "p90_ms": p50 + 1, "p99_ms": p50 + 3,
        "p90_interval_ms": [p50 + 0.8, p50 + 1.2], "p99_interval_ms": [p50 + 2, p50 + 4], "jitter_ms": 0.4,
        "max_ms": p50 + 9, "fps": 1000 / p50, "frames_per_second": 1000 / p50, "samples": 150,
        "noise": "p90 is 1.9 times p50: other processes were running" if precision == "int8" else None,
        "backend": "onnxruntime (cpu, 2 threads)", "size": [128, 256], "architecture": "enet", "file_bytes": 1_500_000,
        "cold_start": {"total_s": 1.2, "import_s": 0.3, "load_s": 0.5, "first_call_s": 0.1, "memory_mb": 150.0},
    }  # fmt: skip


def make_results(completion: float = 0.8, name: str = HOSTILE) -> dict[str, Any]:
    """Make the structure that `results.collect` gives, with made-up figures."""
    rng = np.random.default_rng(0)
    count = len(TOWN)
    labels = ["cross-entropy", name, "wasserstein"]
    cost = rng.uniform(0, 1, (count, count)) * (1 - np.eye(count))
    drives = {label: episodes(label, completion, rng) for label in labels}
    segmenters = []
    for i, label in enumerate(labels):
        iou: list[float | None] = [float(value) for value in rng.uniform(0.05, 0.95, count)]
        iou[16] = None
        training = [e for e in drives[label] if not e.held_out]
        segmenters.append({
            "name": label, "label": label, "model": "enet", "objective": label, "trained": True,
            "in_sample_severity": label == "wasserstein", "updates": 1050, "train_s": 100.0 + 10 * i,
            "seeds": [
                {"name": label, "label": label, "seed": 0, "file": label, "train_s": 100.0, "train": {}, "export": {},
                 "model_bytes": 1_500_000, "episodes": 8, "km": 0.9, "infractions_per_km": 2.0 + i,
                 "metrics": {"miou": 0.42, "bf": 0.5, "hausdorff_px": 9.0, "mean_max_probability": 0.8,
                             "expected_severity": 0.04}}
            ],
            "precisions": {
                precision: {
                    "files": [label if precision == "fp32" else f"{label}-{precision}"], "metrics": {"miou": 0.42 - 0.01 * j},
                    "drift": {"miou": estimate(-0.01, 0.004), "expected_severity": estimate(0.001, 0.002)} if j else None,
                    "parity": [{"agreement": 0.999 - 0.02 * j}], "file_bytes": 1_500_000 // (1 + j),
                }
                for j, precision in enumerate(("fp32", "int8"))
            },
            "metrics": {
                "miou": estimate(0.42 + 0.02 * i, 0.02), "bf": estimate(0.5 + 0.01 * i, 0.03),
                "pixel_accuracy": estimate(0.85, 0.01),
                "hausdorff_px": estimate(9 - i, 1.5), "mean_max_probability": estimate(0.82 + 0.05 * i, 0.01),
                "std_max_probability": estimate(0.2, 0.01),
                "expected_severity": estimate(0.041 - 0.01 * (i == 2), 0.004), "ece": estimate(0.03 + 0.05 * i, 0.01),
            },
            "per_group": {
                str(group): {"classes": list(names), **estimate(0.3 + 0.1 * group, 0.05)}
                for group, names in TOWN.groups.items()
            },
            "reliability": reliability(
                (certainty := rng.uniform(0.1, 1, 5000)), rng.uniform(size=5000) < certainty - 0.05 * i
            ).tolist(),
            "per_class": {
                "iou": iou, "bf": iou, "hausdorff_px": iou, "accuracy": iou,
                **{key: [None if v is None else [v - 0.05, v + 0.05] for v in iou] for key in ("iou_interval", "bf_interval")},
            },
            "severity_contributions": (cost * rng.uniform(0, 2e-3, cost.shape) * (rng.uniform(size=cost.shape) > 0.7)).tolist(),
            "latency": latency_row(labels, "fp32", 7.4),
            "drive": {
                "all": drive_summary(drives[label]).to_dict(),
                "training": drive_summary(training).to_dict(),
                "held_out": drive_summary([e for e in drives[label] if e.held_out]).to_dict(),
                "new_weather": None, "held_out_new_weather": None,
            },
            "training_finished": finished_share(training),
            "fit_to_judge": fit_to_judge(training),
        })  # fmt: skip
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]

    def differences(low: float, high: float) -> list[dict[str, Any]]:
        return [
            {"first": a, "second": b, "value": (low + high) / 2, "low": low, "high": high, "level": 0.983,
             "distinguishable": low > 0 or high < 0}
            for a, b in pairs
        ]  # fmt: skip

    comparisons = {
        "miou": differences(-0.04, -0.01), "bf": differences(-0.03, 0.01), "hausdorff_px": differences(-1, 2),
        "mean_max_probability": differences(-0.06, -0.04), "pixel_accuracy": differences(-0.01, 0.01),
        "expected_severity": differences(0.001, 0.009), "ece": differences(-0.05, -0.02),
    }  # fmt: skip
    for metric, found in compare_drives(drives).items():
        comparisons[metric] = [
            {"first": d.first, "second": d.second, "distinguishable": d.distinguishable, **d.estimate.to_dict()} for d in found
        ]
    turns = np.linspace(0, 200, 40)
    grid = [[[float(x), float(y)] for x in turns[::8]] for y in (-150, -50, 50)]
    grid += [[[float(x), float(y)] for y in np.linspace(-150, 50, 9)] for x in (0, 100, 200)]
    return {
        "name": "test", "title": f"Test data, no real study {name}", "command": f"roadworthy compare {name}", "seconds": 600.0,
        "stages": {"record-train": 60.0, "latency": 12.0}, "machine": machine.describe().to_dict(), "revision": "0" * 12,
        "study": study_data(PRESETS["quick"]),
        "precisions": ["fp32", "int8"], "floors": {}, "judge_finished": None,
        "latency": {
            "rows": [latency_row(labels, "fp32", 7.4), latency_row([f"{label}-int8" for label in labels], "int8", 5.1)],
            "warnings": [], "rounds": 150, "threads": None,
        },
        "seeds": {"study": 0, "training": [0], "policy": [0], "routes": 100, "recordings": [0, 7]},
        "classes": list(TOWN.classes), "palette": [list(colour) for colour in TOWN.palette],
        "data": {"train_frames": 600, "test": None, "test_images": 120, "test_clusters": 12,
                 "convention": "mIoU is data-set-level"},
        "segmenters": segmenters, "comparisons": comparisons, "ground": {"name": "severity", "cost": cost.tolist()},
        "towns": {
            "Grid01": {"held_out": False, "roads": grid, "routes": [grid[0], grid[4]]},
            "Crooked01": {"held_out": True, "roads": [[[x, 60 * np.sin(x / 40).item() - 50] for x in turns]], "routes": []},
        },
        "episodes": [
            {
                "id": e.id, "trajectory": [list(i.location) for i in e.infractions],
                "segmenter": e.segmenter, "policy_seed": 0, "town": e.town, "held_out": e.held_out, "task": e.task,
                "route": e.route, "weather": e.weather, "weathers": "training", "ended": e.ended,
                "completion": e.route_completion, "distance_m": e.distance_m,
                "duration_s": e.duration_s, "mean_speed_mps": e.mean_speed_mps,
                "infractions": [
                    {"kind": i.kind, "x_m": i.location[0], "y_m": i.location[1], "time_s": i.time_s, "other": i.other}
                    for i in e.infractions
                ],
            }
            for drives_of in drives.values() for e in drives_of
        ],
        "examples": [],
    }  # fmt: skip


def make_examples(names: list[str]) -> list[Example]:
    """Make pictures of noise and blocks."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(3):
        labels = np.kron(rng.integers(0, 20, (8, 16)), np.ones((16, 16))).astype(np.uint8)
        photo = (np.kron(rng.uniform(60, 200, (8, 16, 3)), np.ones((16, 16, 1)))).astype(np.uint8)
        uri = label_uri(labels, TOWN.palette)
        found.append(
            Example(
                f"frame {i} {HOSTILE}",
                photo_uri(photo),
                uri,
                dict.fromkeys(names, uri),
                dict.fromkeys(names, 0.75),
                {names[1]: uri},
            )
        )
    return found


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results()
