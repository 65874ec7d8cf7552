"""All figures of a study in one plain structure (`results.json`), read from the study's files alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from roadworthy.agent.episodes import Episode, read_episodes
from roadworthy.eval.driving import compare_drives, drive_summary, finished_share, fit_to_judge, recount, usable
from roadworthy.eval.driving_plan import has_judge
from roadworthy.eval.entrants import Entrant, entrants, in_sample_severity, rows
from roadworthy.eval.folder import TRUTH, StudyFolder, artifact
from roadworthy.eval.image_scores import compare_scores
from roadworthy.eval.pooling import drift, pool
from roadworthy.eval.statistics import Difference
from roadworthy.eval.study import DrivePlan, ExistingData, RecordingPlan, StudyConfig, study_data
from roadworthy.runtime import machine
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import Taxonomy, get_taxonomy

# Where a drive took place, as CARLA's benchmarks tell: (held-out town, held-out weather) -> key, and words for a table.
CONDITIONS: Mapping[tuple[bool, bool], tuple[str, str]] = {
    (False, False): ("training", "training town"),
    (True, False): ("held_out", "held-out town"),
    (False, True): ("new_weather", "training town, new weather"),
    (True, True): ("held_out_new_weather", "held-out town, new weather"),
}


class Drive(NamedTuple):
    """One judged drive and the group of weathers it was judged under."""

    episode: Episode
    weathers: str  # "training" or "held-out"

    @property
    def condition(self) -> str:
        """The key of where it took place, see `CONDITIONS`."""
        return CONDITIONS[self.episode.held_out, self.weathers != "training"][0]


def collect(folder: StudyFolder, study: StudyConfig, markers: Mapping[str, Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Gather the study's figures, compare the segmenters, and write `results.json`; returns what was written.

    `markers` are the done-markers of the study's jobs by name; `command` is what to type to repeat the study.
    """
    members = rows(entrants(study))
    evaluations = {
        precision: {
            row: [_read(folder.evaluation(artifact(entrant.name, precision))) for entrant in each]
            for row, each in members.items()
        }
        for precision in study.precisions
    }
    ranked = evaluations[study.precisions[0]]
    first = next(iter(ranked.values()))[0]
    taxonomy = get_taxonomy(first["taxonomy"])
    latency = _read(folder.latency) if study.latency is not None else None
    drives = {
        row: [drive for entrant in each for drive in _drives(folder, study, entrant.name)] for row, each in members.items()
    }
    judge = _judge_on_truth(folder, study)
    comparisons = compare_scores(ranked, seed=study.seed)
    if all(drives.values()):
        comparisons |= _compare_drives(members, drives, study.seed)
    facts = machine.describe()
    plan, drive_plan = study.train, study.drive
    results = {
        "name": study.name,
        "title": study.title,
        "command": command,
        "seconds": sum(float(marker["seconds"]) for marker in markers.values()),
        "stages": {name: float(marker["seconds"]) for name, marker in markers.items()},
        "machine": {**facts.to_dict(), "load_1min": latency["machine"]["load_1min"] if latency else None},
        "revision": first["revision"],
        "study": study_data(study),
        "precisions": list(study.precisions),
        "seeds": {
            "study": study.seed,
            "training": list(plan.seeds) if plan else [],
            "policy": list(drive_plan.policy_seeds) if drive_plan else [],
            "routes": drive_plan.seed if drive_plan else None,
            "recordings": [data.seed for data in (study.train_data, study.test_data) if isinstance(data, RecordingPlan)],
        },
        "classes": list(taxonomy.classes),
        "palette": [list(colour) for colour in taxonomy.palette],
        "data": {
            "train_frames": _result(markers, "record-train").get("frames"),
            "test": study.test_data.data if isinstance(study.test_data, ExistingData) else None,
            "test_images": first["images"],
            "test_clusters": first["clusters"],
            "convention": first["convention"],
        },
        "floors": {name: marker["result"] for name, marker in markers.items() if name.startswith("floor-")},
        "judge_finished": None if judge is None else finished_share(judge),
        "segmenters": [
            _segmenter(folder, study, markers, each, {key: found[row] for key, found in evaluations.items()}, taxonomy,
                       latency, drives[row], judge)
            for row, each in members.items()
        ],
        "comparisons": {metric: [_difference(pair) for pair in pairs] for metric, pairs in comparisons.items()},
        "latency": latency and {key: latency[key] for key in ("rows", "warnings", "rounds", "threads")},
        "ground": first["ground"],
        "towns": {town: _town(folder, drive_plan, town) for town in drive_plan.test_towns} if drive_plan else {},
        "episodes": [_episode(drive) for each in drives.values() for drive in each],
        "examples": first["examples"],
    }  # fmt: skip
    write_text(folder.results, json.dumps(results, indent=1, allow_nan=False))
    return results


def load_results(folder: StudyFolder) -> dict[str, Any]:
    """Read `results.json`. Raises `BadInput` when the study has none."""
    return _read(folder.results)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; run the comparison to the end first") from error
    except ValueError as error:
        raise BadInput(f"{path}: damaged ({error}); delete it and run the comparison again") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected a JSON object")
    return data


def _result(markers: Mapping[str, Mapping[str, Any]], job: str) -> Mapping[str, Any]:
    marker = markers.get(job)
    return marker["result"] if marker and isinstance(marker["result"], dict) else {}


def _drives(folder: StudyFolder, study: StudyConfig, name: str) -> list[Drive]:
    """Read the judged drives of one segmenter, of all its drivers, towns and weathers."""
    if (plan := study.drive) is None:
        return []
    return [
        Drive(episode, weathers)
        for weathers in plan.weathers
        for episode in usable(
            episode
            for policy_seed in plan.policy_seeds
            for town in plan.test_towns
            for episode in read_episodes(folder.episodes(name, policy_seed, town, weathers))
        )
    ]


def _judge_on_truth(folder: StudyFolder, study: StudyConfig) -> list[Episode] | None:
    """Read what the judge drives on the simulator's labels in the training towns; None where each segmenter has a driver."""
    if (plan := study.drive) is None or not has_judge(study):
        return None
    towns = [town for town in plan.test_towns if town in plan.train_towns]
    files = [folder.episodes(TRUTH, seed, town) for seed in plan.policy_seeds for town in towns]
    return usable(episode for file in files for episode in read_episodes(file))


def _compare_drives(
    members: Mapping[str, Sequence[Entrant]], drives: Mapping[str, Sequence[Drive]], seed: int
) -> dict[str, list[Difference]]:
    """Compare the rows on the journeys that all drove, seed by seed; a ready model stands beside every seed of the others."""
    seeds = max(len(each) for each in members.values())
    paired: dict[str, list[Episode]] = {}
    numbers: dict[str, str] = {}
    for row, each in members.items():
        paired[row] = []
        for index, entrant in enumerate([*each] * seeds if len(each) == 1 else each):
            name = f"{row} {index}"
            numbers[name] = str(index)
            paired[row] += [replace(episode, segmenter=name) for episode, _ in drives[row] if episode.segmenter == entrant.name]
    return compare_drives(paired, training_seeds=numbers, seed=seed)


def _segmenter(
    folder: StudyFolder,
    study: StudyConfig,
    markers: Mapping[str, Mapping[str, Any]],
    members: Sequence[Entrant],
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]],
    taxonomy: Taxonomy,
    latency: Mapping[str, Any] | None,
    drives: Sequence[Drive],
    judge: Sequence[Episode] | None,
) -> dict[str, Any]:
    """Put together what the page shows of one row: the seeds of one training, or a ready model."""
    head, plan = members[0], study.train
    first, *others = study.precisions
    objective = head.objective or str(evaluations[first][0]["objective"])
    trained = head.path is None and plan is not None
    training = [drive.episode for drive in drives if drive.condition == "training"]
    seeds = [
        _seed(folder, study, markers, entrant, evaluation, drives)
        for entrant, evaluation in zip(members, evaluations[first], strict=True)
    ]
    return {
        "name": head.row,
        "label": head.row_label,
        "model": head.model or str(evaluations[first][0]["architecture"]),
        "objective": objective,
        "trained": trained,
        "in_sample_severity": trained and in_sample_severity(objective),
        "updates": plan.pretrain_steps + plan.finetune_steps if trained and plan is not None else None,
        "train_s": _mean([one["train_s"] for one in seeds]),
        "seeds": seeds,
        **pool(evaluations[first], taxonomy, seed=study.seed),
        "latency": _latency_of(latency, seeds[0]["file"]),
        "precisions": {
            precision: {
                "files": [artifact(entrant.name, precision) for entrant in members],
                "metrics": {
                    name: metric["value"] for name, metric in pool(found, taxonomy, seed=study.seed)["metrics"].items()
                },
                "drift": drift(found, evaluations[first], seed=study.seed) if precision in others else None,
                "parity": [
                    _result(markers, f"export-{artifact(entrant.name, precision)}").get("parity") for entrant in members
                ],
                "file_bytes": folder.model(artifact(head.name, precision)).stat().st_size,
            }
            for precision, found in evaluations.items()
        },
        "drive": {
            key: drive_summary(chosen, seed=study.seed).to_dict() if chosen else None
            for key, chosen in [
                ("all", [drive.episode for drive in drives]),
                *((key, [drive.episode for drive in drives if drive.condition == key]) for key, _ in CONDITIONS.values()),
            ]
        },
        "training_finished": finished_share(training) if training else None,
        # A driver of its own must be able to drive on this segmenter; the judge, on what is true.
        "fit_to_judge": fit_to_judge(training if judge is None else judge),
    }


def _seed(
    folder: StudyFolder,
    study: StudyConfig,
    markers: Mapping[str, Mapping[str, Any]],
    entrant: Entrant,
    evaluation: Mapping[str, Any],
    drives: Sequence[Drive],
) -> dict[str, Any]:
    """Put together the figures of one training seed; the row pools them."""
    file = artifact(entrant.name, study.precisions[0])
    marker = markers.get(f"train-{entrant.name}")
    own = [drive.episode for drive in drives if drive.episode.segmenter == entrant.name]
    km = sum(episode.distance_m for episode in own) / 1000
    return {
        "name": entrant.name,
        "label": entrant.label,
        "seed": entrant.seed,
        "file": file,
        "train_s": marker["seconds"] if marker else None,
        "train": _result(markers, f"train-{entrant.name}"),
        "export": _result(markers, f"export-{entrant.name}"),
        "model_bytes": folder.model(file).stat().st_size if folder.model(file).exists() else None,
        "metrics": {name: metric["value"] for name, metric in evaluation["metrics"].items()},
        "episodes": len(own),
        "km": km,
        "infractions_per_km": sum(len(recount(episode)) for episode in own) / km if km else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _latency_of(latency: Mapping[str, Any] | None, file: str) -> dict[str, Any] | None:
    """Return the row of a model's graph for the fewest frames a call, on the first backend; None without latency."""
    if latency is None:
        return None
    chosen: dict[str, Any] = min((row for row in latency["rows"] if file in row["models"]), key=lambda row: int(row["batch"]))
    return chosen


def _difference(pair: Difference) -> dict[str, Any]:
    numbers = pair.estimate.to_dict()
    return {"first": pair.first, "second": pair.second, "distinguishable": pair.distinguishable, **numbers}


def _town(folder: StudyFolder, plan: DrivePlan, town: str) -> dict[str, Any]:
    """Read the road lines of a town, as the sketch job left them."""
    path = folder.sketch(town)
    sketch = _read(path) if path.exists() else {"roads": [], "routes": []}
    return {"held_out": town not in plan.train_towns, "roads": sketch["roads"], "routes": sketch["routes"]}


def _episode(drive: Drive) -> dict[str, Any]:
    """Keep of an episode what the page draws."""
    episode = drive.episode
    return {
        "id": episode.id,
        "segmenter": episode.segmenter,
        "policy_seed": episode.policy_seed,
        "town": episode.town,
        "held_out": episode.held_out,
        "task": episode.task,
        "route": episode.route,
        "weather": episode.weather,
        "weathers": drive.weathers,
        "ended": episode.ended,
        "completion": episode.route_completion,
        "rescues": episode.rescues,
        "distance_m": episode.distance_m,
        "duration_s": episode.duration_s,
        "mean_speed_mps": episode.mean_speed_mps,
        "trajectory": [list(place) for place in episode.trajectory],
        "infractions": [
            {"kind": item.kind, "x_m": _finite(item.location[0]), "y_m": _finite(item.location[1]), "time_s": item.time_s,
             "other": item.other}
            for item in episode.infractions
        ],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
