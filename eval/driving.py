"""Driving metrics from recorded episodes: kilometres between infractions, route completion, success.

The infractions in an `Episode` are events, merged by the agent while it drove (`agent/infractions.py`: one crash is one event,
however many steps it lasts). Kilometres between infractions count them with the windows of the CoRL 2017 CARLA benchmark
(`recount`): who runs into three people within ten seconds has one collision with a person. The tables of rl-carla and of the
leaderboard count every event, as theirs do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import INFRACTION_KINDS, Infraction
from roadworthy.eval.resampling import Resampling, hierarchical_bootstrap, ratio_of_sums, weighted_mean
from roadworthy.eval.statistics import Difference, Estimate, binomial_interval, differences, estimate, poisson_interval
from roadworthy.runtime.errors import BadInput

# [s] The default `frames_recount` (100, 30, 20, 20, 20) of the CoRL 2017 driving benchmark (Dosovitskiy et al.,
# arXiv 1711.03938) at its 10 frames per second.
RECOUNT_WINDOW_S: Mapping[str, float] = {
    "collision_person": 10.0,
    "collision_car": 3.0,
    "collision_static": 2.0,
    "off_line": 2.0,
    "off_road": 2.0,
}

FIT_TO_JUDGE = 0.5  # [fraction of the training routes] a policy below this says nothing about its segmenter


def journey(episode: Episode) -> str:
    """Name what two policies must share to be compared: the same route in the same town, weather and traffic."""
    return f"{episode.suite}/{episode.town}/{episode.task}/{episode.route}/{episode.weather}/{episode.seed}"


def circuit(episode: Episode) -> str:
    """Name the road that was driven. The same circuit under several weathers is one cluster: what is hard about it stays."""
    return f"{episode.town}/{episode.task}/{episode.route}"


def driver_of(episode: Episode) -> tuple[str, str, str]:
    """Tell who drove: the digest of the model, and the digest and path of the policy ("" where the episode does not say)."""
    model, policy, path = (str(episode.again.get(key, "")) for key in ("model_sha256", "policy_sha256", "policy"))
    return model, policy, "" if policy else path


def usable(episodes: Iterable[Episode]) -> list[Episode]:
    """Leave out the episodes that an error of the simulator ended, and all but the last record of a driver's repeated one."""
    last = {(episode.id, driver_of(episode)): episode for episode in episodes if episode.ended != "error"}
    return list(last.values())


def finished(episode: Episode) -> bool:
    """Tell whether the driver reached the goal by itself, never put back on its route."""
    return episode.ended == "goal" and episode.rescues == 0


def finished_share(episodes: Sequence[Episode]) -> float:
    """Return the fraction of episodes that were finished; 0 for none."""
    return sum(finished(episode) for episode in episodes) / len(episodes) if episodes else 0.0


def unaided_completion(episode: Episode) -> float:
    """Return how much of the route the driver covers per start, 0..1.

    A judged drive goes on after a crash: the car is put back on its route, so a bad driver too is carried to the goal. Each
    rescue therefore counts as a new start, and what was covered is shared between the starts.
    """
    return episode.route_completion / (1 + episode.rescues)


def recount(episode: Episode) -> tuple[Infraction, ...]:
    """Return the infractions that count: each only when its kind's window has passed since the last one counted."""
    last: dict[str, float] = {}
    counted: list[Infraction] = []
    for event in sorted(episode.infractions, key=lambda event: event.time_s):
        if event.time_s - last.get(event.kind, -math.inf) >= RECOUNT_WINDOW_S[event.kind]:
            last[event.kind] = event.time_s
            counted.append(event)
    return tuple(counted)


@dataclass(frozen=True)
class KmBetween:
    """Kilometres driven between infractions of one kind."""

    kind: str
    events: int
    km: float  # [km] driven
    between_km: float  # [km] inf when nothing happened; the papers then write "more than `km`"
    low_km: float  # [km] 95 % interval
    high_km: float  # [km] inf when nothing happened

    def words(self) -> str:
        """Write it as the papers' tables do: "more than 1.2" where none happened."""
        return f"more than {self.km:.2f}" if self.events == 0 else f"{self.between_km:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; what is not finite becomes null."""
        facts = {"between_km": self.between_km, "low_km": self.low_km, "high_km": self.high_km}
        finite = {key: value if math.isfinite(value) else None for key, value in facts.items()}
        return {"kind": self.kind, "events": self.events, "km": self.km, "words": self.words(), **finite}


def km_between(episodes: Iterable[Episode], kind: str) -> KmBetween:
    """Divide the kilometres driven by the infractions of `kind` (CoRL 2017), with Garwood's exact interval.

    The interval takes events as independent. Infractions cluster by route: `drive_summary` widens it where the hierarchical
    bootstrap is wider.
    """
    chosen = list(episodes)
    km = sum(episode.distance_m for episode in chosen) / 1000
    events = sum(_recounted(episode, kind) for episode in chosen)
    rate = poisson_interval(events, km)  # [1 / km]
    return KmBetween(kind, events, km, _inverse(rate.value), _inverse(rate.high), _inverse(rate.low))


def _inverse(rate: float) -> float:
    """Turn events per km into km per event."""
    return rate if math.isnan(rate) else math.inf if rate == 0 else 1 / rate


def _recounted(episode: Episode, kind: str) -> int:
    if kind not in INFRACTION_KINDS:
        raise BadInput(f"unknown infraction {kind!r}; known: {', '.join(INFRACTION_KINDS)}")
    return sum(event.kind == kind for event in recount(episode))


@dataclass(frozen=True)
class DriveSummary:
    """How one segmenter's policies drove one set of routes."""

    episodes: int
    km: float  # [km]
    completion: Estimate  # mean of `unaided_completion`, 0..1
    success: Estimate  # fraction of routes `finished`
    rescues: int  # times a car was put back on its route
    infractions_per_km: Estimate  # of all kinds together
    between: Mapping[str, KmBetween]  # per kind

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "episodes": self.episodes,
            "km": self.km,
            "completion": self.completion.to_dict(),
            "success": self.success.to_dict(),
            "rescues": self.rescues,
            "infractions_per_km": self.infractions_per_km.to_dict(),
            "between": {kind: value.to_dict() for kind, value in self.between.items()},
        }


def _resampling(episodes: Sequence[Episode], seed: int) -> Resampling:
    """Make the hierarchical bootstrap of episodes: segmenter seed, policy seed, then circuit."""
    levels = [[e.segmenter for e in episodes], [str(e.policy_seed) for e in episodes]]
    return hierarchical_bootstrap(levels, [circuit(e) for e in episodes], seed=seed + 1)


def drive_summary(episodes: Sequence[Episode], *, seed: int = 0) -> DriveSummary:
    """Summarise the episodes of one segmenter with 95 % intervals (hierarchical bootstrap: policy seed, then route)."""
    if not episodes:
        raise BadInput("no episodes to summarise; drive first")
    resampling = _resampling(episodes, seed)
    return DriveSummary(
        episodes=len(episodes),
        km=sum(episode.distance_m for episode in episodes) / 1000,
        completion=estimate(weighted_mean(np.array([unaided_completion(episode) for episode in episodes])), resampling),
        success=_success(episodes, resampling),
        rescues=sum(episode.rescues for episode in episodes),
        infractions_per_km=_rate(episodes, resampling),
        between={kind: _widen(km_between(episodes, kind), episodes, resampling) for kind in INFRACTION_KINDS},
    )


def _rate(episodes: Sequence[Episode], resampling: Resampling) -> Estimate:
    """Estimate infractions of all kinds per kilometre; the exact Poisson interval where it is wider."""
    km = np.array([episode.distance_m / 1000 for episode in episodes])
    events = np.array([float(len(recount(episode))) for episode in episodes])
    exact = poisson_interval(int(events.sum()), float(km.sum()))
    resampled = estimate(ratio_of_sums(events, km), resampling)
    # fmin and fmax pass over nan: a bootstrap without an interval changes nothing.
    low, high = np.fmin(exact.low, resampled.low), np.fmax(exact.high, resampled.high)
    return replace(exact, low=max(float(low), 0.0), high=float(high))


def _success(episodes: Sequence[Episode], resampling: Resampling) -> Estimate:
    """Estimate the share of finished routes; the exact binomial interval where it is wider (none or all finished)."""
    exact = binomial_interval(sum(finished(episode) for episode in episodes), len(episodes))
    resampled = estimate(weighted_mean(np.array([float(finished(episode)) for episode in episodes])), resampling)
    return replace(exact, low=float(np.fmin(exact.low, resampled.low)), high=float(np.fmax(exact.high, resampled.high)))


def _widen(exact: KmBetween, episodes: Sequence[Episode], resampling: Resampling) -> KmBetween:
    """Take the wider end of the exact Poisson and the bootstrap interval on either side."""
    if exact.events == 0 or len(episodes) < 2:
        return exact
    km = np.array([episode.distance_m / 1000 for episode in episodes])
    counts = np.array([float(_recounted(episode, exact.kind)) for episode in episodes])
    resampled = estimate(ratio_of_sums(km, counts), resampling)
    # fmin and fmax pass over nan: a bootstrap without an interval changes nothing.
    low, high = np.fmin(exact.low_km, resampled.low), np.fmax(exact.high_km, resampled.high)
    return replace(exact, low_km=float(low), high_km=float(high))


@dataclass(frozen=True)
class RouteFollowing:
    """The table of the rl-carla studies: how far, how fast, and how far between faults."""

    drive_percent: float  # [%] of the routes' length that was driven, rescues counted as new starts
    km: float  # [km] driven
    km_per_h: float  # [km/h] mean speed, standing counted
    km_per_out_of_lane: float  # [km] inf when it never left its lane
    km_per_collision: float  # [km] of any kind; inf when nothing was hit


def route_following(episodes: Sequence[Episode]) -> RouteFollowing:
    """Summarise episodes as the rl-carla studies do. Raises `BadInput` when there are none."""
    if not episodes:
        raise BadInput("no episodes to summarise; drive first")
    km = sum(episode.distance_m for episode in episodes) / 1000
    hours = sum(episode.duration_s for episode in episodes) / 3600
    length = sum(episode.route_length_m for episode in episodes)
    covered = sum(unaided_completion(episode) * episode.route_length_m for episode in episodes)
    left = sum(event.kind == "off_line" for episode in episodes for event in episode.infractions)
    hits = sum(event.kind.startswith("collision_") for episode in episodes for event in episode.infractions)
    return RouteFollowing(
        100 * covered / length if length else 0.0,
        km,
        km / hours if hours else 0.0,
        km / left if left else math.inf,
        km / hits if hits else math.inf,
    )


def fit_to_judge(training_episodes: Sequence[Episode]) -> bool:
    """Decide whether a segmenter's policies drive well enough to say anything about the segmenter.

    A policy that cannot finish the training routes judges nobody: it must finish at least half of them.
    """
    if not training_episodes:
        return False
    return finished_share(training_episodes) >= FIT_TO_JUDGE


def compare_drives(
    drives: Mapping[str, Sequence[Episode]], *, training_seeds: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, list[Difference]]:
    """Compare objectives on the journeys that all of them drove with the same policy seeds (paired, hierarchical bootstrap).

    Where an objective was trained with several seeds, `drives` has the episodes of all of them under one name, and
    `training_seeds` tells the seed of each `Episode.segmenter`; episodes of one seed are then paired.

    Returns the differences of "completion" (mean, 0..1) and "infractions_per_km" (all kinds together); the lists are empty
    when fewer than two segmenters, or two journeys, can be paired.
    """
    known = training_seeds or {}
    keyed = {
        name: {(known.get(e.segmenter, ""), e.policy_seed, journey(e)): e for e in episodes}
        for name, episodes in drives.items()
    }
    shared = sorted(set.intersection(*(set(episodes) for episodes in keyed.values()))) if keyed else []
    first = [next(iter(keyed.values()))[key] for key in shared] if len(keyed) > 1 else []
    if len({circuit(episode) for episode in first}) < 2:
        return {"completion": [], "infractions_per_km": []}
    completion, rate = {}, {}
    for name, episodes in keyed.items():
        chosen = [episodes[key] for key in shared]
        completion[name] = weighted_mean(np.array([unaided_completion(episode) for episode in chosen]))
        events = np.array([float(len(recount(episode))) for episode in chosen])
        rate[name] = ratio_of_sums(events, np.array([episode.distance_m / 1000 for episode in chosen]))
    resampling = _resampling(first, seed)
    return {"completion": differences(completion, resampling), "infractions_per_km": differences(rate, resampling)}
