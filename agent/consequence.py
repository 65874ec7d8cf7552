"""Severity by consequence: which confusions come before infractions more often than they should?

Distances between class centroids are symmetric, severity is not (arXiv 2008.04751 says so itself). Here every infraction of
recorded drives is a case: the confusions (t taken for p) in the two seconds before it, inside the image region of what was hit
or crossed, are held against matched frames of quiet stretches: same command and weather, speed within 2 m/s, t in view.
A pair's evidence is its smoothed log-odds ratio, its interval a bootstrap over drives: the infractions of one drive share a
scene. Pairs that the data do not support keep the predefined cost, and how many they are is part of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from roadworthy.agent.episodes import Episode, read_episodes
from roadworthy.agent.witness import Sight, sights, sights_folder
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids
from roadworthy.runtime.scores import confusion
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.train.ground import GroundMatrix

# True classes that make up the image region of what was hit or crossed.
REGIONS: Mapping[str, tuple[str, ...]] = {
    "collision_person": ("person", "rider"),
    "collision_car": ("car", "truck", "bus", "train", "motorcycle", "bicycle", "rider"),
    "collision_static": ("building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    "off_line": ("road", "road line", "sidewalk", "terrain"),
    "off_road": ("road", "road line", "sidewalk", "terrain", "vegetation"),
}
LEAST_PIXELS = 12  # of a class in the region of a frame; fewer say nothing
SPEED_WINDOW_MPS = 2.0  # [m/s] between a case's frame and its controls
CONTROLS = 6  # matched frames per frame of a case, at most
LEAST_DRIVES = 5  # with an infraction and the class in view, below which a pair has no evidence
RESAMPLES = 1000
TAIL = 0.025  # of the bootstrap, on either side

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One infraction: how often each class of its region was taken for each, before it and in matched quiet frames."""

    kind: str
    drive: str  # whose infraction it is
    before: Floats  # [N, N] share of the truth's pixels, nan where the class was not in view or had no match
    quiet: Floats  # the same in the matched frames
    controls: Mapping[int, frozenset[int]]  # by class: the quiet frames it was held against, by their number
    unmatched: frozenset[int] = frozenset()  # classes in view before it that no matched quiet frame had in view


@dataclass(frozen=True)
class Consequence:
    """What the drives say about each pair, `[N, N]`, truth first; nan without evidence."""

    log_odds: Floats
    low: Floats  # 95 % interval
    high: Floats
    spread: Floats  # standard deviation over the bootstrap
    cases: npt.NDArray[np.int64]  # infractions that the pair's evidence rests on
    drives: npt.NDArray[np.int64]  # in which these were
    controls: npt.NDArray[np.int64]  # [N] quiet frames that all cases of a class were held against
    infractions: int  # cases in all
    unmatched: int  # infractions without a matched quiet frame
    unmatched_rows: npt.NDArray[np.int64]  # [N] of the others, how many had the class in view and no quiet frame with it

    @property
    def supported(self) -> npt.NDArray[np.bool_]:
        """Pairs whose confusion precedes infractions more often than chance allows, `bool [N, N]`.

        Every pair with enough drives is a question put to the data, so the level is divided by their number (Bonferroni). The
        reach is that of a t interval on the drives, whose bootstrap lacks a factor of n / (n - 1) in the variance.
        """
        # The bootstrap does not draw the quiet frames: what all drives are held against must not be a handful of them.
        enough = (self.drives >= LEAST_DRIVES) & (self.controls[:, None] >= self.drives)
        asked = enough & ~np.eye(len(self.drives), dtype=bool)
        n = np.maximum(self.drives, 2)
        reach = -stdtrit(n - 1, TAIL / max(1, int(asked.sum()))) * np.sqrt(n / (n - 1))  # [N, N]
        return np.asarray(asked & (np.nan_to_num(self.log_odds - reach * self.spread, nan=-1.0) > 0))

    def matrix(self, predefined: GroundMatrix) -> GroundMatrix:
        """Return the ground matrix: log-odds where supported, scaled to a largest entry of 1, else the predefined cost."""
        supported = self.supported
        cost = predefined.scaled().cost.copy()
        if supported.any():
            cost[supported] = self.log_odds[supported] / self.log_odds[supported].max()
        return GroundMatrix("consequence", predefined.taxonomy, predefined.classes, cost)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; nan becomes null."""
        pairs = int(self.supported.sum())
        total = self.log_odds.size - len(self.log_odds)
        return {
            "infractions": self.infractions,
            "unmatched": self.unmatched,
            "unmatched_rows": self.unmatched_rows.tolist(),
            "supported_pairs": pairs,
            "supported_share": pairs / total,
            "supported": self.supported.tolist(),
            "cases": self.cases.tolist(),
            "drives": self.drives.tolist(),
            "quiet_frames": self.controls.tolist(),
            **{
                name: [[float(v) if math.isfinite(v) else None for v in row] for row in table]
                for name, table in (("log_odds", self.log_odds), ("low", self.low), ("high", self.high))
            },
        }


def weigh(cases: Sequence[Case], classes: int, *, unmatched: int = 0, seed: int = 0) -> Consequence:
    """Turn cases into log-odds ratios with intervals.

    With a = Σ before and c = Σ quiet over the n cases in which the class was in view on both sides, the log-odds ratio is
    log((a + ½)/(n − a + ½)) − log((c + ½)/(n − c + ½)) (Haldane's correction). Raises `BadInput` when there are no cases.
    """
    if not cases:
        raise BadInput("no infraction has matched quiet frames; drive more: roadworthy drive eval")
    before, quiet = (np.stack([getattr(case, name) for case in cases]).reshape(len(cases), -1) for name in ("before", "quiet"))
    both = np.isfinite(before) & np.isfinite(quiet)  # [cases, N*N]
    before, quiet = np.where(both, before, 0.0), np.where(both, quiet, 0.0)
    counts = both.sum(axis=0)
    names, member = np.unique([case.drive for case in cases], return_inverse=True)
    drives = np.stack([both[member == index].any(axis=0) for index in range(len(names))]).sum(axis=0)  # [N*N]
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, len(cases))), draws[:, member].astype(np.float64)])  # [1 + R, cases]
    odds = _log_odds(weights @ before, weights @ quiet, weights @ both)  # [1 + R, N*N]
    odds[:, counts == 0] = np.nan
    low, high = np.quantile(odds[1:], [TAIL, 1 - TAIL], axis=0)
    shape = (classes, classes)
    return Consequence(
        log_odds=odds[0].reshape(shape),
        low=low.reshape(shape),
        high=high.reshape(shape),
        spread=odds[1:].std(axis=0).reshape(shape),
        cases=counts.reshape(shape),
        drives=drives.reshape(shape),
        controls=np.array([len(_union(case.controls.get(row) for case in cases)) for row in range(classes)], np.int64),
        infractions=len(cases) + unmatched,
        unmatched=unmatched,
        unmatched_rows=np.array([sum(row in case.unmatched for case in cases) for row in range(classes)], np.int64),
    )


def _union(sets: Iterable[frozenset[int] | None]) -> frozenset[int]:
    return frozenset().union(*(each for each in sets if each))


def _log_odds(before: Floats, quiet: Floats, n: Floats) -> Floats:
    return np.asarray(np.log((before + 0.5) / (n - before + 0.5)) - np.log((quiet + 0.5) / (n - quiet + 0.5)))


def read_cases(files: Iterable[Path], seed: int = 0) -> tuple[list[Case], int]:
    """Read the cases of episode files whose saved frames have truth and predictions; returns them and how many had no match.

    `seed` decides between quiet frames of the same speed.

    Predictions are `NAME.labels.png` beside the frames (`roadworthy drive eval` leaves the frames, `ground consequence` and
    studies make the predictions).
    """
    quiet: list[_Seen] = []
    events: list[tuple[str, str, list[_Seen]]] = []
    for file in files:
        for episode in read_episodes(file):
            found: dict[int, list[_Seen]] = {}
            for sight in sights(sights_folder(file, episode.id)):
                seen = _look(sight, episode)
                if seen is None:
                    continue
                if sight.infraction is None:
                    quiet.append(seen)
                elif sight.offset_s <= 0:
                    found.setdefault(sight.infraction, []).append(seen)
            events += [
                (episode.infractions[index].kind, f"{file} {episode.id}", frames)
                for index, frames in found.items()
                if index < len(episode.infractions)
            ]
    rng = np.random.default_rng(seed)
    cases = [case for kind, drive, frames in events if (case := _case(kind, drive, frames, quiet, rng)) is not None]
    return cases, len(events) - len(cases)


@dataclass(frozen=True)
class _Seen:
    """What one saved frame's classes were taken for, and what it is matched by."""

    shares: Floats  # [N, N] of each class's pixels that went to each class; nan for classes not in view
    command: int
    weather: str
    speed_mps: float


def predicted_path(sight: Sight) -> Path:
    """Return where the predicted train ids of a saved frame lie."""
    return sight.frame.with_suffix(".labels.png")


def _look(sight: Sight, episode: Episode) -> _Seen | None:
    path = predicted_path(sight)
    if sight.tags is None or not path.exists():
        return None
    truth, labels = TOWN.fold(read_ids(sight.tags), str(sight.tags)), read_ids(path)
    return _Seen(_shares(confusion(labels, truth, len(TOWN))), sight.command, episode.weather, sight.speed_mps)


def _case(kind: str, drive: str, frames: Sequence[_Seen], quiet: Sequence[_Seen], rng: np.random.Generator) -> Case | None:
    """Match every frame before an infraction with quiet ones, class by class of its region; None when nothing has a match."""
    before: list[Floats] = []
    after: list[Floats] = []
    viewed: set[int] = set()
    used: dict[int, frozenset[int]] = {}
    for frame in frames:
        alike = [
            (number, other)
            for number, other in enumerate(quiet)
            if other.command == frame.command
            and other.weather == frame.weather
            and abs(other.speed_mps - frame.speed_mps) <= SPEED_WINDOW_MPS
        ]
        # Shuffled before they are sorted: else all cases of one speed would be held against the same few frames.
        shuffled = [alike[index] for index in rng.permutation(len(alike))]
        nearest = sorted(shuffled, key=lambda pair: abs(pair[1].speed_mps - frame.speed_mps))
        for row in (TOWN.index(name) for name in REGIONS[kind]):
            if not np.isfinite(frame.shares[row]).all():
                continue
            viewed.add(row)
            controls = [(number, other) for number, other in nearest if np.isfinite(other.shares[row]).all()][:CONTROLS]
            if controls:
                used[row] = used.get(row, frozenset()) | {number for number, _ in controls}
                before.append(_row(frame, row))
                after.append(_mean([_row(other, row) for _, other in controls]))  # a frame counts as much here as there
    return Case(kind, drive, _mean(before), _mean(after), used, frozenset(viewed - used.keys())) if before else None


def _row(seen: _Seen, row: int) -> Floats:
    """Return the shares of one class alone, `[N, N]`."""
    alone = np.full(seen.shares.shape, np.nan)
    alone[row] = seen.shares[row]
    return alone


def _shares(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the share of each class's pixels that went to each class, `[N, N]`; nan for classes not in view."""
    total = counts.sum(axis=1, keepdims=True)  # [N, 1]
    return np.where(total >= LEAST_PIXELS, counts / np.maximum(total, 1), np.nan)


def _mean(tables: Sequence[Floats]) -> Floats:
    """Mean over tables, nan entries left out."""
    stack = np.stack(tables)
    present = np.isfinite(stack)
    count = present.sum(axis=0)
    total = np.where(present, stack, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(stack.shape[1:], np.nan), where=count > 0)
    return mean
