"""The tables of the report: every figure with its interval, ready to be shown and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadworthy.agent.infractions import INFRACTION_KINDS
from roadworthy.eval.verdict import DRIVING, JUDGED

KIND_WORDS: Mapping[str, str] = {
    "collision_person": "person",
    "collision_car": "car",
    "collision_static": "static",
    "off_line": "off-line",
    "off_road": "off-road",
}


@dataclass(frozen=True)
class Cell:
    """One figure of a table: what is shown, what sorts, and its interval."""

    text: str
    sort: float | None  # None sorts last
    low: str = ""
    high: str = ""
    note: str = ""


def number(value: float | None, digits: int) -> str:
    """Write a figure; nothing measured is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def _cell(estimate: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> Cell:
    """Write an estimate with its interval; nothing measured is a dash."""
    if estimate is None or estimate["value"] is None:
        return Cell("–", None)
    low, high = (None if estimate[key] is None else estimate[key] * scale for key in ("low", "high"))
    note = "no interval: too few images or routes" if low is None else ""
    return Cell(
        number(estimate["value"] * scale, digits),
        estimate["value"],
        number(low, digits) if low is not None else "",
        number(high, digits) if high is not None else "",
        note,
    )


def _km_cell(between: Mapping[str, Any] | None) -> Cell:
    """Write kilometres between infractions; "> 1.2" when none happened in 1.2 km."""
    if between is None or (between["between_km"] is None and between["events"]):
        return Cell("–", None)
    low = number(between["low_km"], 2)
    if between["events"] == 0:
        if not between["km"]:
            return Cell("–", None, note="nothing driven")
        return Cell(f"> {between['km']:.2f}", 1e6 + between["km"], low, "∞", f"none in {between['km']:.2f} km")
    high = "∞" if between["high_km"] is None else number(between["high_km"], 2)
    return Cell(
        f"{between['between_km']:.2f}", between["between_km"], low, high, f"{between['events']} in {between['km']:.2f} km"
    )


def ranked(segmenters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put the segmenters in order of mean IoU, best first."""
    return sorted(segmenters, key=lambda s: -(s["metrics"]["miou"]["value"] or 0.0))


def ranking_row(segmenter: Mapping[str, Any]) -> dict[str, Any]:
    """Make a segmenter's row of the ranking; the driving cells are apart, so that they can be greyed out."""
    metrics, latency = segmenter["metrics"], segmenter["latency"]
    drive = segmenter["drive"]["all"]
    return {
        "segmenter": segmenter,
        "cells": [
            _cell(metrics["miou"], 3),
            _cell(metrics["bf"], 3),
            _cell(metrics["mean_max_probability"], 3),
            _cell(metrics["expected_severity"], 1, 1000),
        ],
        "latency": [_time_cell(latency, "p50", 1), _rate_cell(latency)] if latency else [],
        "driving": [
            _cell(drive and drive["completion"], 0, 100),
            *(_km_cell(drive and drive["between"][kind]) for kind in INFRACTION_KINDS),
        ],
    }


def _time_cell(latency: Mapping[str, Any], percentile: str, digits: int) -> Cell:
    """Write a percentile of a row of latency [ms] with its interval."""
    value, (low, high) = latency[f"{percentile}_ms"], latency[f"{percentile}_interval_ms"]
    return Cell(number(value, digits), value, number(low, digits), number(high, digits))


def _rate_cell(latency: Mapping[str, Any]) -> Cell:
    """Write the frames per second of a row of latency with their interval."""
    value, batch, (low, high) = latency["frames_per_second"], latency["batch"], latency["p50_interval_ms"]
    return Cell(f"{value:.0f}", value, f"{1000 * batch / high:.0f}", f"{1000 * batch / low:.0f}")


def driving_row(segmenter: Mapping[str, Any], where: str, words: str) -> dict[str, Any] | None:
    """Make a segmenter's row of the driving table for `where`, a key of `results.CONDITIONS`; None without drives."""
    drive = segmenter["drive"][where]
    if drive is None:
        return None
    return {
        "segmenter": segmenter,
        "where": words,
        "episodes": drive["episodes"],
        "km": number(drive["km"], 2),
        "cells": [
            _cell(drive["completion"], 0, 100),
            _cell(drive["success"], 0, 100),
            Cell(str(drive["rescues"]), drive["rescues"]),
            *(_km_cell(drive["between"][kind]) for kind in INFRACTION_KINDS),
        ],
    }


def group_names(segmenters: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List (importance group, its classes), the most important first."""
    groups = segmenters[0]["per_group"]
    return [(group, ", ".join(groups[group]["classes"])) for group in sorted(groups, key=int, reverse=True)]


def group_row(segmenter: Mapping[str, Any]) -> dict[str, Any]:
    """Make a segmenter's row of the table of importance groups."""
    groups = segmenter["per_group"]
    return {"segmenter": segmenter, "cells": [_cell(groups[group], 3) for group in sorted(groups, key=int, reverse=True)]}


def latency_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of the latency table: one per graph, backend, precision and batch, with the models that share it."""
    owners = {
        file: (segmenter["label"], precision)
        for segmenter in results["segmenters"]
        for precision, facts in segmenter["precisions"].items()
        for file in facts["files"]
    }
    found = []
    for row in results["latency"]["rows"]:
        labels = list(dict.fromkeys(owners[file][0] for file in row["models"]))
        cold = row.get("cold_start")
        found.append({
            "architecture": row["architecture"] if row["architecture"] != "unknown" else labels[0],
            "labels": labels,
            "precision": owners[row["models"][0]][1],
            "backend": row["backend"],
            "batch": row["batch"],
            "size": f"{row['size'][1]}x{row['size'][0]}",
            "cells": [
                *(_time_cell(row, percentile, 2) for percentile in ("p50", "p90", "p99")),
                Cell(f"{row['jitter_ms']:.2f}", row["jitter_ms"]),
                _rate_cell(row),
                Cell(f"{row['file_bytes'] / 1e6:.2f}", row["file_bytes"]),
                Cell(f"{cold['total_s']:.2f}", cold["total_s"]) if cold else Cell("–", None),
                Cell(f"{cold['memory_mb']:.0f}", cold["memory_mb"]) if cold else Cell("–", None),
            ],
            "noise": row["noise"],
        })  # fmt: skip
    return found


def drift_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of the table of precisions: what rounding changes of each segmenter, on its checks and on the test data."""
    found = []
    for segmenter in results["segmenters"]:
        for precision, facts in segmenter["precisions"].items():
            parities = [parity for parity in facts["parity"] if parity is not None and parity["agreement"] is not None]
            worst = min((parity["agreement"] for parity in parities), default=None)
            drift = facts["drift"] or {}
            found.append({
                "segmenter": segmenter,
                "precision": precision,
                "cells": [
                    Cell("–", None) if worst is None else Cell(f"{100 * worst:.3f}", worst),
                    Cell(number(facts["metrics"]["miou"], 3), facts["metrics"]["miou"]),
                    _signed_cell(drift.get("miou"), 100),
                    _signed_cell(drift.get("expected_severity"), 1000),
                    Cell(f"{facts['file_bytes'] / 1e6:.2f}", facts["file_bytes"]),
                ],
            })  # fmt: skip
    return found


def seed_rows(segmenters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make the rows of the table of training seeds: the figures that a row of the ranking pools."""
    return [
        {
            "segmenter": segmenter,
            "seed": one["seed"],
            "cells": [
                Cell(number(one["metrics"]["miou"], 3), one["metrics"]["miou"]),
                Cell(number(one["metrics"]["bf"], 3), one["metrics"]["bf"]),
                Cell(number(one["metrics"]["hausdorff_px"], 2), one["metrics"]["hausdorff_px"]),
                Cell(number(one["metrics"]["mean_max_probability"], 3), one["metrics"]["mean_max_probability"]),
                Cell(number(1000 * one["metrics"]["expected_severity"], 1), one["metrics"]["expected_severity"]),
                Cell(number(one["infractions_per_km"], 2), one["infractions_per_km"]),
            ],
        }
        for segmenter in segmenters
        if len(segmenter["seeds"]) > 1
        for one in segmenter["seeds"]
    ]


# Metric -> factor that it is shown with in the table of effects
EFFECTS: Mapping[str, float] = {"miou": 100, "bf": 100, "expected_severity": 1000, "infractions_per_km": 1}


def effect_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of effect and cost: each segmenter against the study's first, and what it costs to train and to run."""
    baseline, *others = results["segmenters"]
    found = []
    for segmenter in others:
        cells = []
        for metric, factor in EFFECTS.items():
            sign = JUDGED[metric][1]
            pair = _against(results, metric, segmenter["name"], baseline["name"])
            judged = metric not in DRIVING or all(one["fit_to_judge"] for one in results["segmenters"])
            apart = pair is not None and pair["distinguishable"] and judged
            answer = "" if pair is None else "not judged" if not judged else "cannot be told apart"
            if apart and pair is not None:
                answer = "better" if pair["value"] * sign > 0 else "worse"
            cells.append((_signed_cell(pair, factor), answer))
        trained, before = segmenter["train_s"], baseline["train_s"]
        ratio = trained / before if trained and before else None
        latency = segmenter["latency"] and segmenter["latency"]["p50_ms"]
        found.append({
            "segmenter": segmenter,
            "effects": cells,
            "train": Cell("–", None) if trained is None else Cell(f"{trained / 60:.1f}", trained),
            "ratio": Cell("–", None) if ratio is None else Cell(f"{ratio:.2f}", ratio),
            "latency": Cell("–", None) if latency is None else Cell(f"{latency:.1f}", latency),
        })  # fmt: skip
    return found


def _against(results: Mapping[str, Any], metric: str, name: str, baseline: str) -> dict[str, Any] | None:
    """Return the comparison of `name` minus `baseline`, turned round where it was made the other way."""
    for pair in results["comparisons"].get(metric) or []:
        if (pair["first"], pair["second"]) == (name, baseline):
            return dict(pair)
        if (pair["first"], pair["second"]) == (baseline, name):
            turned = {"value": pair["value"], "low": pair["high"], "high": pair["low"]}
            return {**pair, **{key: None if value is None else -value for key, value in turned.items()}}
    return None


def _signed_cell(estimate: Mapping[str, Any] | None, factor: float) -> Cell:
    """Write a difference with its interval."""
    if estimate is None or estimate["value"] is None:
        return Cell("–", None)
    low, high = ("" if estimate[key] is None else _signed(factor * estimate[key]) for key in ("low", "high"))
    return Cell(_signed(factor * estimate["value"]), estimate["value"], low, high)


def pair_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every paired difference with the answer: told apart, or not."""
    labels = {segmenter["name"]: segmenter["label"] for segmenter in results["segmenters"]}
    fit = all(segmenter["fit_to_judge"] for segmenter in results["segmenters"])
    rows = []
    for metric, (name, sign) in JUDGED.items():
        judged = fit or metric not in DRIVING
        for pair in results["comparisons"].get(metric) or []:
            better = pair["first"] if pair["value"] is not None and pair["value"] * sign > 0 else pair["second"]
            answer = f"{labels[better]} is better" if pair["distinguishable"] else "cannot be told apart"
            rows.append({
                "metric": name,
                "first": labels[pair["first"]],
                "second": labels[pair["second"]],
                "value": _signed(pair["value"]),
                "low": _signed(pair["low"]),
                "high": _signed(pair["high"]),
                "answer": answer if judged else "not judged",
                "muted": not judged,
            })  # fmt: skip
    return rows


def _signed(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:+.3g}"
