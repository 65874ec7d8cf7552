"""Write the page of a study: `report.html`, one file that needs nothing else, from `results.json` and the pictures.

All text that comes from data (names, commands, versions) is escaped by the template engine; the drawings escape their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from roadworthy.agent.infractions import INFRACTION_KINDS
from roadworthy.eval import charts
from roadworthy.eval.calibration import reliability_curve
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.pictures import Example, load_examples
from roadworthy.eval.plots import Trade, reliability_chart, trade_off
from roadworthy.eval.results import CONDITIONS, load_results
from roadworthy.eval.sightings import SHOWN_EVENTS, Sighting, load_sightings
from roadworthy.eval.tables import (
    KIND_WORDS,
    drift_rows,
    driving_row,
    effect_rows,
    group_names,
    group_row,
    latency_rows,
    number,
    pair_rows,
    ranked,
    ranking_row,
    seed_rows,
)
from roadworthy.eval.verdict import verdict
from roadworthy.runtime.errors import MissingExtra
from roadworthy.runtime.files import write_text

# metric -> (title, what it means, larger is better, None = neither)
PANELS: Mapping[str, tuple[str, str, bool | None]] = {
    "miou": ("mean IoU", "how much of each class is found, averaged over classes", True),
    "bf": ("BF-score", "how well contours match the true ones", True),
    "hausdorff_px": ("Hausdorff distance [px]", "how far contours lie from the true ones", False),
    "expected_severity": ("expected severity", "what an average pixel's mistake costs under the ground matrix", False),
    "mean_max_probability": (
        "mean max-probability",
        "how sure the segmenter is of itself; compare with the pixel accuracy",
        None,
    ),
    "std_max_probability": (
        "spread of max-probability",
        "standard deviation over pixels: near 0 where every pixel is as sure as the others",
        None,
    ),
    "pixel_accuracy": ("pixel accuracy", "fraction of pixels labelled right", True),
    "ece": ("expected calibration error", "how far confidence is from the fraction right, on average over pixels", False),
}

# The keys of `results.CONDITIONS` in a word, for a chart.
PLACES: Mapping[str, str] = {"training": "known", "held_out": "town", "new_weather": "weather", "held_out_new_weather": "both"}


def write_report(folder: StudyFolder) -> Path:
    """Write `report.html` of a finished study and return its path. Raises `BadInput` when the study has no results yet."""
    results = load_results(folder)
    page = render(results, load_examples(folder, results), load_sightings(folder, results))
    write_text(folder.report, page)
    return folder.report


def render(
    results: Mapping[str, Any], examples: Sequence[Example], sightings: Mapping[tuple[str, int], Sighting] | None = None
) -> str:
    """Return the page for `results` (as `results.collect` makes them)."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "report", "writing the report") from error
    environment = Environment(
        loader=PackageLoader("roadworthy.eval", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    headline, sentences = verdict(results)
    segmenters = results["segmenters"]
    judges = all(segmenter["fit_to_judge"] for segmenter in segmenters)
    driving = (driving_row(one, where, words) for one in segmenters for where, words in CONDITIONS.values())
    latency = latency_rows(results) if results["latency"] else []
    return environment.get_template("report.html.j2").render(
        results=results,
        version=version("roadworthy"),
        headline=headline,
        sentences=sentences,
        segmenters=segmenters,
        judges=judges,
        keys=[charts.series_key(index) for index in range(len(segmenters))],
        kinds=[(kind, KIND_WORDS[kind], charts.kind_key(kind)) for kind in INFRACTION_KINDS],
        ranking=[ranking_row(segmenter) for segmenter in ranked(segmenters)],
        order={segmenter["name"]: index for index, segmenter in enumerate(segmenters)},
        panels=[_panel(metric, results) for metric in PANELS],
        driving_panel=_driving_panel(segmenters),
        driving=[row for row in driving if row is not None],
        drives=results["study"]["drive"] is not None,
        pairs=pair_rows(results),
        effects=effect_rows(results),
        seed_rows=seed_rows(segmenters),
        latency=latency,
        latency_chart=_latency_chart(latency, results) if latency else "",
        drifts=drift_rows(results) if len(results["precisions"]) > 1 else [],
        trades=_trades(results) if latency else [],
        reliability=_reliability(segmenters),
        groups=[group_row(segmenter) for segmenter in segmenters],
        group_names=group_names(segmenters),
        class_charts=[
            (title, _class_chart(results, key, title))
            for title, key in (("IoU per class", "iou"), ("BF-score per class", "bf"))
        ],
        matrices=_matrices(results),
        maps=_maps(results, sightings or {}),
        seen=_seen(results, sightings or {}),
        most_seen=SHOWN_EVENTS,
        examples=examples,
        bets=any(example.bets for example in examples),
        legend=_legend(results),
        machine=_machine(results["machine"]),
        stages=_stages(results["stages"]),
        config=json.dumps(results["study"], indent=2),
        pretraining=(results["study"]["train"] or {"pretrain_objective": ""})["pretrain_objective"],
    )


def _class_chart(results: Mapping[str, Any], key: str, title: str) -> Any:
    """Draw the per-class figures `key` (iou or bf) of every segmenter."""
    found = {s["label"]: s["per_class"] for s in results["segmenters"]}
    values = {label: per_class[key] for label, per_class in found.items()}
    intervals = {label: per_class[f"{key}_interval"] for label, per_class in found.items()}
    return charts.class_chart(results["classes"], values, intervals, title)


def _latency_chart(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> Any:
    dots = []
    for index, (shown, row) in enumerate(zip(rows, results["latency"]["rows"], strict=True)):
        label = " ".join((shown["architecture"], shown["precision"], *([f"batch {row['batch']}"] if row["batch"] > 1 else [])))
        dots.append(charts.Dot(label, index, row["p50_ms"], row["p50_ms"], row["p99_ms"], f"p50 {row['p50_ms']:.2f} ms"))
    return charts.interval_chart(dots, "latency: median, line to the 99th percentile [ms]", zero=True)


def _trades(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Draw what accuracy and safe driving cost in latency; the front joins the models that no other one beats."""
    accuracy, driving = [], []
    first, *others = results["precisions"]
    times: dict[str, Mapping[str, Any]] = {}  # by model file: the fewest frames a call, on the first backend
    for row in sorted(results["latency"]["rows"], key=lambda row: int(row["batch"])):
        for file in row["models"]:
            times.setdefault(file, row)
    for index, segmenter in enumerate(results["segmenters"]):
        miou, drive, row = segmenter["metrics"]["miou"], segmenter["drive"]["all"], segmenter["latency"]
        ends = tuple(row["p50_interval_ms"])
        if miou["value"] is not None:
            interval = None if miou["low"] is None else (miou["low"], miou["high"])
            accuracy.append(Trade(segmenter["label"], index, row["p50_ms"], miou["value"], ends, interval))
        for precision in others:
            facts = segmenter["precisions"][precision]
            cost = times[facts["files"][0]]["p50_ms"]
            accuracy.append(Trade(f"{segmenter['label']}, {precision}", index, cost, facts["metrics"]["miou"], tag=precision))
        if drive is not None and drive["km"]:
            rate = drive["infractions_per_km"]
            looks = results["study"]["drive"]["precision"] or first
            cost = times[segmenter["precisions"][looks]["files"][0]]["p50_ms"]
            driving.append(Trade(segmenter["label"], index, cost, rate["value"], None, (rate["low"], rate["high"])))
    found = [("Accuracy against latency", trade_off(accuracy, "p50 latency [ms]", "mean IoU", larger_is_better=True))]
    if driving:
        title = "Infractions against latency"
        found.append((title, trade_off(driving, "p50 latency [ms]", "infractions per km, all kinds", larger_is_better=False)))
    return found


def _reliability(segmenters: Sequence[Mapping[str, Any]]) -> Any:
    curves = {segmenter["label"]: reliability_curve(np.asarray(segmenter["reliability"])) for segmenter in segmenters}
    return reliability_chart(curves, "reliability: fraction right over confidence")


def _panel(metric: str, results: Mapping[str, Any]) -> dict[str, Any]:
    title, meaning, larger = PANELS[metric]
    dots = []
    for index, segmenter in enumerate(results["segmenters"]):
        estimate = segmenter["metrics"][metric]
        note = f"{segmenter['label']}: {number(estimate['value'], 4)}"
        dots.append(charts.Dot(segmenter["label"], index, estimate["value"], estimate["low"], estimate["high"], note))
    direction = "" if larger is None else "larger is better" if larger else "smaller is better"
    return {"title": title, "meaning": meaning, "direction": direction, "chart": charts.interval_chart(dots, title)}


def _driving_panel(segmenters: Sequence[Mapping[str, Any]]) -> Any:
    dots = []
    for index, segmenter in enumerate(segmenters):
        for where, words in CONDITIONS.values():
            drive = segmenter["drive"][where]
            if drive is None:
                continue
            completion = drive["completion"]
            label = f"{segmenter['label']}, {PLACES[where]}"
            note = f"{segmenter['label']}, {words}: {completion['value']:.0%} of a route per start"
            dots.append(charts.Dot(label, index, completion["value"], completion["low"], completion["high"], note))
    return charts.interval_chart(dots, "route completion, 0 to 1", zero=True)


def _matrices(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw the ground matrix, and where each segmenter's expected severity comes from, on one scale."""
    classes = results["classes"]
    top = max(max(map(max, s["severity_contributions"])) for s in results["segmenters"])
    found = [{
        "title": f"Ground matrix “{results['ground']['name']}”",
        "text": "what each mistake costs, 0 to 1; truth in the rows, prediction in the columns",
        "chart": charts.heat_map(results["ground"]["cost"], classes, "ground matrix: cost of each mistake", top_value=1.0),
    }]  # fmt: skip
    for segmenter in results["segmenters"]:
        rows = segmenter["severity_contributions"]
        worst = sorted(((value, t, p) for t, row in enumerate(rows) for p, value in enumerate(row) if value > 0), reverse=True)[
            :3
        ]
        total = sum(map(sum, rows)) or math.inf
        listed = "; ".join(f"{classes[t]} taken for {classes[p]} {value / total:.0%}" for value, t, p in worst)
        found.append({
            "title": f"Where {segmenter['label']} pays",
            "text": f"share of its expected severity: {listed}" if listed else "no mistakes",
            "chart": charts.heat_map(rows, classes, f"severity contributions of {segmenter['label']}", top_value=top),
        })  # fmt: skip
    return found


def _maps(results: Mapping[str, Any], sightings: Mapping[tuple[str, int], Sighting]) -> list[dict[str, Any]]:
    """Draw each town once per segmenter, with the ways driven and the places of infractions."""
    found = []
    for town, facts in results["towns"].items():
        for segmenter in results["segmenters"]:
            names = {one["name"] for one in segmenter["seeds"]}
            drives = [e for e in results["episodes"] if e["town"] == town and e["segmenter"] in names]
            events = [event for drive in drives for event in _events(drive, sightings)]
            tracks = [[(x, y) for x, y in drive["trajectory"]] for drive in drives]
            routes = [[(x, y) for x, y in route] for route in facts["routes"]]
            label = f"{town} with the infractions of {segmenter['label']}"
            found.append({
                "town": town,
                "held_out": facts["held_out"],
                "label": segmenter["label"],
                "drives": len(drives),
                "infractions": len(events),
                "chart": charts.town_map([[(x, y) for x, y in line] for line in facts["roads"]], routes, tracks, events, label),
            })  # fmt: skip
    return found


def _events(drive: Mapping[str, Any], sightings: Mapping[tuple[str, int], Sighting]) -> list[charts.MapEvent]:
    """List the infractions of one drive that have a place."""
    found = []
    for index, item in enumerate(drive["infractions"]):
        if item["x_m"] is not None and item["y_m"] is not None:
            seen = sightings.get((drive["id"], index))
            link = seen.anchor if seen else ""
            found.append(charts.MapEvent(item["kind"], item["x_m"], item["y_m"], _what_happened(drive, item), link))
    return found


def _what_happened(drive: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    what = " ".join(filter(None, (KIND_WORDS[item["kind"]], item["other"])))
    return f"{what} at {item['time_s']:.1f} s, route {drive['route']}, {drive['weather']}"


def _seen(results: Mapping[str, Any], sightings: Mapping[tuple[str, int], Sighting]) -> list[tuple[str, str, Sighting]]:
    """List (segmenter's label, what happened, what was seen) of every infraction that has frames."""
    labels = {one["name"]: one["label"] for segmenter in results["segmenters"] for one in segmenter["seeds"]}
    drives = {drive["id"]: drive for drive in results["episodes"]}
    return [
        (
            f"{labels[drives[name]['segmenter']]} in {drives[name]['town']}",
            _what_happened(drives[name], drives[name]["infractions"][index]),
            seen,
        )
        for (name, index), seen in sightings.items()
    ]


def _legend(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List (class, CSS colour) of the classes that occur in truth or predictions."""
    used = {i for s in results["segmenters"] for i, value in enumerate(s["per_class"]["iou"]) if value is not None}
    return [
        (name, "#{:02x}{:02x}{:02x}".format(*results["palette"][i])) for i, name in enumerate(results["classes"]) if i in used
    ]


def _machine(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("Processor", f"{facts['cpu']}, {facts['usable_cores']} of {facts['physical_cores']} cores usable"),
        ("Instruction sets", ", ".join(facts["instruction_sets"]) or "none of those that matter"),
        ("Memory", f"{facts['memory_gib']} GiB"),
        ("GPU", ", ".join(facts["gpus"]) or "none"),
        ("System", f"{facts['system']}, Python {facts['python']}"),
    ]
    if facts["load_1min"] is not None:
        rows.append(("Load before the latency run", f"{facts['load_1min']} running processes"))
    return [*rows, ("Versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items()))]


def _stages(stages: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{seconds:.0f}") for name, seconds in stages.items()]
