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
    low, high = latency["p50_interval_ms"]
    drive = segmenter["drive"]["all"]
    return {
        "segmenter": segmenter,
        "cells": [
            _cell(metrics["miou"], 3),
            _cell(metrics["bf"], 3),
            _cell(metrics["mean_max_probability"], 3),
            _cell(metrics["expected_severity"], 1, 1000),
            Cell(f"{latency['p50_ms']:.1f}", latency["p50_ms"], f"{low:.1f}", f"{high:.1f}"),
            Cell(f"{latency['fps']:.0f}", latency["fps"], f"{1000 / high:.0f}", f"{1000 / low:.0f}"),
        ],
        "driving": [
            _cell(drive and drive["completion"], 0, 100),
            *(_km_cell(drive and drive["between"][kind]) for kind in INFRACTION_KINDS),
        ],
    }


def driving_row(segmenter: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Make a segmenter's row of the driving table for `where`, "training" or "held_out"."""
    drive = segmenter["drive"][where]
    return {
        "segmenter": segmenter,
        "where": "training town" if where == "training" else "held-out town",
        "episodes": drive["episodes"] if drive else 0,
        "km": number(drive["km"], 2) if drive else "–",
        "cells": [
            _cell(drive and drive["completion"], 0, 100),
            _cell(drive and drive["success"], 0, 100),
            Cell(str(drive["rescues"]), drive["rescues"]) if drive else Cell("–", None),
            *(_km_cell(drive and drive["between"][kind]) for kind in INFRACTION_KINDS),
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


def latency_row(segmenter: Mapping[str, Any]) -> dict[str, Any]:
    """Make a segmenter's row of the latency table."""
    latency = segmenter["latency"]
    percentiles = [(latency[f"{name}_ms"], *latency[f"{name}_interval_ms"]) for name in ("p50", "p90", "p99")]
    low, high = latency["p50_interval_ms"]
    return {
        "segmenter": segmenter,
        "backend": latency["backend"],
        "bytes": f"{latency['file_bytes'] / 1e6:.2f}",
        "cells": [
            *(Cell(f"{value:.2f}", value, f"{least:.2f}", f"{most:.2f}") for value, least, most in percentiles),
            Cell(f"{latency['max_ms']:.2f}", latency["max_ms"]),
            Cell(f"{latency['fps']:.0f}", latency["fps"], f"{1000 / high:.0f}", f"{1000 / low:.0f}"),
        ],
    }


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
