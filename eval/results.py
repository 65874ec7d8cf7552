"""All figures of a study in one plain structure (`results.json`), read from the study's files alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roadworthy.agent.episodes import Episode, read_episodes
from roadworthy.eval.driving import compare_drives, drive_summary, finished_share, fit_to_judge, usable
from roadworthy.eval.folder import StudyFolder, objective_labels, segmenter_name
from roadworthy.eval.image_scores import compare_scores
from roadworthy.eval.statistics import Difference
from roadworthy.eval.study import StudyConfig, study_data
from roadworthy.runtime import machine
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import get_taxonomy
from roadworthy.train.objectives.spec import parse_spec

SEVERITY_OBJECTIVES = ("wasserstein",)  # they learn on the ground matrix that the evaluation scores with


def in_sample_severity(objective: str) -> bool:
    """Tell whether the objective (as `train.objectives` spells it) learns on the evaluation's ground matrix."""
    return any(term.name in SEVERITY_OBJECTIVES for term in parse_spec(objective))


class Entrant(NamedTuple):
    """One segmenter of a study."""

    name: str  # of its files and jobs
    label: str  # for people
    objective: str
    seed: int  # of its training


def entrants(study: StudyConfig) -> list[Entrant]:
    """List every segmenter of the study."""
    several = len(study.train.seeds) > 1
    return [
        Entrant(segmenter_name(label, seed), f"{label} (seed {seed})" if several else label, objective, seed)
        for label, objective in zip(objective_labels(study.train.objectives), study.train.objectives, strict=True)
        for seed in study.train.seeds
    ]


def collect(folder: StudyFolder, study: StudyConfig, markers: Mapping[str, Mapping[str, Any]], command: str) -> dict[str, Any]:
    """Gather the study's figures, compare the segmenters, and write `results.json`; returns what was written.

    `markers` are the done-markers of the study's jobs by name; `command` is what to type to repeat the study.
    """
    evaluations = {name: _read(folder.evaluation(name)) for name, *_ in entrants(study)}
    latency = _read(folder.latency)
    drives = {name: _drives(folder, study, name) for name in evaluations}
    first = next(iter(evaluations.values()))
    taxonomy = get_taxonomy(first["taxonomy"])
    comparisons = compare_scores(evaluations, seed=study.seed)
    if all(drives.values()):
        comparisons |= compare_drives(drives, seed=study.seed)
    facts = machine.describe()
    results = {
        "name": study.name,
        "title": study.title,
        "command": command,
        "seconds": sum(float(marker["seconds"]) for marker in markers.values()),
        "stages": {name: float(marker["seconds"]) for name, marker in markers.items()},
        "machine": {**facts.to_dict(), "load_1min": latency["machine"]["load_1min"]},
        "revision": first["revision"],
        "study": study_data(study),
        "seeds": {
            "study": study.seed,
            "training": list(study.train.seeds),
            "policy": list(study.drive.policy_seeds),
            "routes": study.drive.seed,
            "recordings": [study.train_data.seed, study.test_data.seed],
        },
        "classes": list(taxonomy.classes),
        "palette": [list(colour) for colour in taxonomy.palette],
        "data": {
            "train_frames": _result(markers, "record-train").get("frames"),
            "test_images": first["images"],
            "test_clusters": first["clusters"],
            "convention": first["convention"],
        },
        "segmenters": [
            _segmenter(
                folder,
                study,
                markers,
                entrant,
                evaluations[entrant.name],
                latency["models"][entrant.name],
                drives[entrant.name],
            )
            for entrant in entrants(study)
        ],
        "comparisons": {metric: [_difference(pair) for pair in pairs] for metric, pairs in comparisons.items()},
        "ground": first["ground"],
        "towns": {town: _town(folder, study, town) for town in study.drive.test_towns},
        "episodes": [_episode(episode) for episodes in drives.values() for episode in episodes],
        "examples": first["examples"],
    }
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


def _drives(folder: StudyFolder, study: StudyConfig, name: str) -> list[Episode]:
    plan = study.drive
    files = [folder.episodes(name, policy_seed, town) for policy_seed in plan.policy_seeds for town in plan.test_towns]
    return usable(episode for file in files for episode in read_episodes(file))


def _segmenter(
    folder: StudyFolder,
    study: StudyConfig,
    markers: Mapping[str, Mapping[str, Any]],
    entrant: Entrant,
    evaluation: Mapping[str, Any],
    latency: Mapping[str, Any],
    drives: Sequence[Episode],
) -> dict[str, Any]:
    """Put together what the page shows of one segmenter."""
    name = entrant.name
    training = [episode for episode in drives if not episode.held_out]
    held_out = [episode for episode in drives if episode.held_out]
    train = _result(markers, f"train-{name}")
    return {
        **entrant._asdict(),
        "in_sample_severity": in_sample_severity(entrant.objective),
        "updates": study.train.pretrain_steps + study.train.finetune_steps,
        "train_s": markers[f"train-{name}"]["seconds"] if f"train-{name}" in markers else None,
        "train": train,
        "export": _result(markers, f"export-{name}"),
        "model_bytes": folder.model(name).stat().st_size if folder.model(name).exists() else None,
        "metrics": evaluation["metrics"],
        "per_class": evaluation["per_class"],
        "per_group": evaluation["per_group"],
        "reliability": evaluation["reliability"],
        "severity_contributions": evaluation["severity_contributions"],
        "latency": latency,
        "drive": {
            key: drive_summary(episodes, seed=study.seed).to_dict() if episodes else None
            for key, episodes in (("all", drives), ("training", training), ("held_out", held_out))
        },
        "training_finished": finished_share(training) if training else None,
        "fit_to_judge": fit_to_judge(training),
    }


def _difference(pair: Difference) -> dict[str, Any]:
    numbers = pair.estimate.to_dict()
    return {"first": pair.first, "second": pair.second, "distinguishable": pair.distinguishable, **numbers}


def _town(folder: StudyFolder, study: StudyConfig, town: str) -> dict[str, Any]:
    """Read the road lines of a town, as the sketch job left them."""
    path = folder.sketch(town)
    sketch = _read(path) if path.exists() else {"roads": [], "routes": []}
    return {"held_out": town not in study.drive.train_towns, "roads": sketch["roads"], "routes": sketch["routes"]}


def _episode(episode: Episode) -> dict[str, Any]:
    """Keep of an episode what the page draws."""
    return {
        "id": episode.id,
        "segmenter": episode.segmenter,
        "policy_seed": episode.policy_seed,
        "town": episode.town,
        "held_out": episode.held_out,
        "task": episode.task,
        "route": episode.route,
        "weather": episode.weather,
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
