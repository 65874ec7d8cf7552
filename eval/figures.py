"""A study's figures as CSV, one table per file, for spreadsheets and for other people's plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roadworthy.agent.infractions import INFRACTION_KINDS
from roadworthy.eval.image_scores import METRICS
from roadworthy.runtime.files import write_text

Row = dict[str, Any]


def write_csv(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the tables of a study to `folder` and return their paths.

    segmenters (a row pools the training seeds), seeds, precisions, latency, classes, comparisons and episodes, each `.csv`.
    `results` is what `results.collect` wrote. What was not measured is an empty cell.
    """
    tables = {
        "segmenters": [_segmenter(segmenter) for segmenter in results["segmenters"]],
        "seeds": list(_seeds(results)),
        "precisions": list(_precisions(results)),
        "latency": [_latency(row) for row in (results["latency"] or {"rows": []})["rows"]],
        "classes": list(_classes(results)),
        "comparisons": [
            {"metric": metric, **pair} for metric, pairs in results["comparisons"].items() for pair in pairs
        ],
        "episodes": [_episode(episode) for episode in results["episodes"]],
    }  # fmt: skip
    written = []
    for name, rows in tables.items():
        path = folder / f"{name}.csv"
        write_text(path, _text(rows))
        written.append(path)
    return written


def _segmenter(segmenter: Mapping[str, Any]) -> Row:
    row: Row = {key: segmenter[key] for key in ("name", "label", "model", "objective", "updates", "train_s")}
    row["seeds"] = len(segmenter["seeds"])
    for metric in METRICS:
        row |= _estimate(metric, segmenter["metrics"].get(metric))
    latency = segmenter["latency"]
    row |= {
        key: latency and latency[key]
        for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms", "frames_per_second", "batch", "backend")
    }
    for where, drive in segmenter["drive"].items():
        row |= {f"{where}_episodes": drive and drive["episodes"], f"{where}_km": drive and drive["km"]}
        row |= _estimate(f"{where}_completion", drive and drive["completion"])
        row |= _estimate(f"{where}_success", drive and drive["success"])
        for kind in INFRACTION_KINDS:
            between = drive and drive["between"][kind]
            row |= {f"{where}_{kind}_events": between and between["events"]}
            row |= {f"{where}_{kind}_{key}": between and between[key] for key in ("between_km", "low_km", "high_km")}
    return row


def _seeds(results: Mapping[str, Any]) -> Iterable[Row]:
    for segmenter in results["segmenters"]:
        for one in segmenter["seeds"]:
            facts = {
                key: one[key] for key in ("name", "seed", "train_s", "model_bytes", "episodes", "km", "infractions_per_km")
            }
            yield {"segmenter": segmenter["name"], **facts, **one["metrics"]}


def _precisions(results: Mapping[str, Any]) -> Iterable[Row]:
    for segmenter in results["segmenters"]:
        for precision, facts in segmenter["precisions"].items():
            drifts = [_estimate(f"{metric}_drift", (facts["drift"] or {}).get(metric)) for metric in METRICS]
            row: Row = {"segmenter": segmenter["name"], "precision": precision, "file_bytes": facts["file_bytes"]}
            yield row | facts["metrics"] | {key: value for drift in drifts for key, value in drift.items()}


def _latency(row: Mapping[str, Any]) -> Row:
    names = ("architecture", "precision", "backend", "batch", "p50_ms", "p90_ms", "p99_ms", "max_ms", "jitter_ms",
             "frames_per_second", "file_bytes")  # fmt: skip
    cold = row.get("cold_start") or {}
    models = {"models": " ".join(row["models"])}
    return models | {name: row[name] for name in names} | {key: cold.get(key) for key in ("total_s", "memory_mb")}


def _estimate(name: str, found: Mapping[str, Any] | None) -> Row:
    return {name: found and found["value"], f"{name}_low": found and found["low"], f"{name}_high": found and found["high"]}


def _classes(results: Mapping[str, Any]) -> Iterable[Row]:
    for segmenter in results["segmenters"]:
        figures = segmenter["per_class"]
        for index, name in enumerate(results["classes"]):
            yield {
                "segmenter": segmenter["name"],
                "class": name,
                **{key: figures[key][index] for key in ("iou", "bf", "hausdorff_px", "accuracy")},
            }


def _episode(episode: Mapping[str, Any]) -> Row:
    row = {key: value for key, value in episode.items() if key not in ("infractions", "trajectory")}
    kinds = [event["kind"] for event in episode["infractions"]]
    return row | {kind: kinds.count(kind) for kind in INFRACTION_KINDS}


def _text(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
