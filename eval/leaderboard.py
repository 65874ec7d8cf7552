"""CARLA Leaderboard scores of recorded episodes, under the rules of versions 1.0, 2.0 and 2.1, and its result file.

An episode knows collisions and the distance driven outside its lane. What the leaderboard also punishes is not measured here:
red lights (they give way to a judged driver), stop signs, scenario time-outs, yielding to emergency vehicles and the minimum
speed. The file says so, and the scores are upper bounds of the leaderboard's in this respect.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import Infraction
from roadworthy.eval.driving import driver_of, usable
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

Rules = Literal["1.0", "2.0", "2.1"]
RULES: tuple[Rules, ...] = ("1.0", "2.0", "2.1")

# Our infraction kind -> the leaderboard's name. `off_line` and `off_road` are measured as a distance instead.
COLLISIONS: Mapping[str, str] = {
    "collision_person": "collisions_pedestrian",
    "collision_car": "collisions_vehicle",
    "collision_static": "collisions_layout",
}
FACTOR: Mapping[str, float] = {  # 1.0 and 2.0: each event multiplies the penalty
    "collisions_pedestrian": 0.50,
    "collisions_vehicle": 0.60,
    "collisions_layout": 0.65,
}
COEFFICIENT: Mapping[str, float] = {  # 2.1: each event adds to the divisor
    "collisions_pedestrian": 1.0,
    "collisions_vehicle": 0.70,
    "collisions_layout": 0.60,
}
# Every infraction list of the leaderboard's records with its label, in the order of the result file's `values`.
LABELS: Mapping[str, str] = {
    "collisions_pedestrian": "Collisions with pedestrians",
    "collisions_vehicle": "Collisions with vehicles",
    "collisions_layout": "Collisions with layout",
    "red_light": "Red lights infractions",
    "stop_infraction": "Stop sign infractions",
    "outside_route_lanes": "Off-road infractions",
    "route_dev": "Route deviations",
    "route_timeout": "Route timeouts",
    "vehicle_blocked": "Agent blocked",
    "yield_emergency_vehicle_infractions": "Yield emergency vehicles infractions",
    "scenario_timeouts": "Scenario timeouts",
    "min_speed_infractions": "Min speed infractions",
}
SCORES = ("score_composed", "score_route", "score_penalty")
NOT_MEASURED = (
    "red_light", "stop_infraction", "min_speed_infractions", "yield_emergency_vehicle_infractions", "scenario_timeouts",
    "route_dev",
)  # fmt: skip
FAILED: Mapping[str, str] = {"timeout": "Failed - Agent timed out", "blocked": "Failed - Agent got blocked"}


class Score(NamedTuple):
    """The leaderboard's three figures of one route."""

    composed: float  # driving score, 0..100 = route completion · penalty
    route: float  # route completion, 0..100 [%]
    penalty: float  # infraction penalty, 0..1, 1 = no infraction


def penalty(episode: Episode, rules: Rules) -> float:
    """Return the infraction penalty of an episode, 0..1.

    1.0 and 2.0 multiply: Π factor · (1 − outside). 2.1: (1 − outside) / (1 + Σ coefficient). `outside` is the share of the
    route driven with the car's centre outside its lane. Raises `BadInput` for rules that do not exist.
    """
    if rules not in RULES:
        raise BadInput(f"leaderboard rules {rules!r} do not exist; known: {', '.join(RULES)}")
    inside = 1.0 - outside_share(episode)
    names = [COLLISIONS[event.kind] for event in episode.infractions if event.kind in COLLISIONS]
    if rules == "2.1":
        return inside / (1.0 + sum(COEFFICIENT[name] for name in names))
    return inside * math.prod(FACTOR[name] for name in names)


def outside_share(episode: Episode) -> float:
    """Return the share of the driven way with the car's centre outside its lane, 0..1."""
    return min(episode.outside_m / episode.distance_m, 1.0) if episode.distance_m > 0 else 0.0


def score(episode: Episode, rules: Rules) -> Score:
    """Score one episode. A car that had to be put back on its route gets credit up to its first rescue's share only.

    The leaderboard ends a route where ours goes on after putting the car back: `route_completion / (1 + rescues)` stands for
    how far the driver comes by itself, as everywhere in this suite.
    """
    route = 100.0 * episode.route_completion / (1 + episode.rescues)
    factor = penalty(episode, rules)
    return Score(route * factor, route, factor)


def leaderboard(episodes: Sequence[Episode], rules: Rules = "2.1") -> dict[str, Any]:
    """Return the result file of the leaderboard (`_checkpoint`, `entry_status`, `labels`, `values`) for one driver's episodes.

    Raises `BadInput` when there is no usable episode, or when they are of several drivers.
    """
    chosen = usable(episodes)
    if not chosen:
        raise BadInput("there are no usable episodes to score; drive first")
    drivers = {(episode.segmenter, episode.policy_seed, driver_of(episode)): episode for episode in chosen}
    if len(drivers) > 1:
        named = [
            f"{each.segmenter} with {each.again.get('policy', f'policy seed {each.policy_seed}')}" for each in drivers.values()
        ]
        raise BadInput(
            f"episodes of {len(drivers)} drivers ({'; '.join(sorted(named))}); the leaderboard scores one: "
            "export each by itself"
        )
    records = [_record(index, episode, rules) for index, episode in enumerate(chosen)]
    scores = np.array([[record["scores"][name] for name in SCORES] for record in records])  # [routes, 3]
    spread = scores.std(axis=0, ddof=1) if len(records) > 1 else np.zeros(len(SCORES))
    means = dict(zip(SCORES, scores.mean(axis=0).round(6).tolist(), strict=True))
    per_km = _per_km(records, chosen)
    failed = [(record["route_id"], record["index"], record["status"]) for record in records if "Failed" in record["status"]]
    perfect = all(record["status"] == "Perfect" for record in records)
    summary = {
        "index": -1,
        "route_id": -1,
        "status": "Failed" if failed else "Perfect" if perfect else "Completed",
        "infractions": per_km,
        "scores_mean": means,
        "scores_std_dev": dict(zip(SCORES, spread.round(3).tolist(), strict=True)),
        "meta": {
            "total_length": round(sum(record["meta"]["route_length"] for record in records), 3),
            "duration_game": round(sum(record["meta"]["duration_game"] for record in records), 3),
            "duration_system": -1,  # not recorded
            "exceptions": failed,
            "rules": rules,
            "not_measured": list(NOT_MEASURED),
        },
    }
    return {
        "_checkpoint": {"global_record": summary, "progress": [len(records), len(records)], "records": records},
        "entry_status": "Finished",
        "eligible": True,
        "sensors": ["carla_camera", "carla_speedometer"],
        "values": [*(str(means[name]) for name in SCORES), *(str(per_km[key]) for key in LABELS)],
        "labels": ["Avg. driving score", "Avg. route completion", "Avg. infraction penalty", *LABELS.values()],
    }


def write_leaderboard(episodes: Sequence[Episode], path: Path, rules: Rules = "2.1") -> dict[str, Any]:
    """Write the leaderboard's result file to `path`, atomically; returns what was written."""
    result = leaderboard(episodes, rules)
    write_text(path, json.dumps(result, indent=4))
    return result


def _record(index: int, episode: Episode, rules: Rules) -> dict[str, Any]:
    found = score(episode, rules)
    infractions: dict[str, list[str]] = {key: [] for key in LABELS}
    for event in episode.infractions:
        if event.kind in COLLISIONS:
            infractions[COLLISIONS[event.kind]].append(_sentence(event))
    share = outside_share(episode)
    if share > 0:
        # The leaderboard's own tools read the metres from the ninth word of this sentence.
        words = f"Agent went outside its route lanes for about {episode.outside_m:.3f} meters"
        infractions["outside_route_lanes"].append(f"{words} ({100 * share:.2f}% of the completed route)")
    if episode.ended == "timeout":
        infractions["route_timeout"].append("Route timeout.")
    if episode.ended == "blocked":
        infractions["vehicle_blocked"].append("Agent got blocked")
    count = sum(map(len, infractions.values()))
    alone = episode.ended == "goal" and episode.rescues == 0
    helped = f"Failed - Agent was put back on its route {episode.rescues} times"
    return {
        "index": index,
        "route_id": f"RouteScenario_{index}_rep0",
        "status": ("Completed" if count else "Perfect") if alone else FAILED.get(episode.ended, helped),
        "num_infractions": count,
        "infractions": infractions,
        "scores": {name: round(value, 6) for name, value in zip(SCORES, found, strict=True)},
        "meta": {
            "route_length": round(episode.route_length_m, 3),
            "duration_game": round(episode.duration_s, 3),
            "duration_system": -1,  # not recorded
            "episode": episode.id,
            "town": episode.town,
            "weather": episode.weather,
        },
    }


def _sentence(event: Infraction) -> str:
    x, y = event.location
    kind = {"collision_person": "a pedestrian", "collision_car": "a vehicle", "collision_static": "a static element"}[
        event.kind
    ]
    return f"Agent collided against {kind} with type={event.other} at (x={x:.3f}, y={y:.3f})"


def _per_km(records: Sequence[Mapping[str, Any]], episodes: Sequence[Episode]) -> dict[str, float]:
    """Return events per kilometre of completed route, as the leaderboard does; kilometres outside the lanes are not divided.

    A drive on which the car was put back goes on, and so do its events: they are divided by all of the route that it
    completed, not by the share that its score gets. (The leaderboard's own tools, which know no rescues, divide by the latter.)
    """
    km = sum(episode.route_length_m / 1000 * episode.route_completion for episode in episodes)
    found = {key: sum(len(record["infractions"][key]) for record in records) / max(km, 0.001) for key in LABELS}
    found["outside_route_lanes"] = sum(
        float(text.split(" ")[8]) / 1000 for record in records for text in record["infractions"]["outside_route_lanes"]
    )
    return {key: round(value, 3) for key, value in found.items()}
