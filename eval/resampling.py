"""What is resampled: items (images, drives) in clusters and under seeds, and figures as functions of how often each counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput

RESAMPLES = 2000  # bootstrap repetitions
AT_ONCE = 100  # repetitions whose weights are in memory at the same time

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]  # weights [R, items] -> value per repetition [R]


class Level(NamedTuple):
    """One level of a hierarchy: how often each of its units (seeds, groups of images, routes) was drawn."""

    draws: npt.NDArray[np.uint16]  # [R, units]
    member: npt.NDArray[np.intp]  # [items] the unit of each item

    @property
    def units(self) -> int:
        """The number of its units."""
        return int(self.draws.shape[1])

    def weights(self, repetitions: slice) -> Floats:
        """Return how often each item counts, `[r, items]`, if only this level is drawn."""
        return self.draws[repetitions][:, self.member].astype(np.float64)  # [r, units] -> [r, items]


@dataclass(frozen=True, eq=False)
class Resampling:
    """The repetitions of one bootstrap, shared by all that is compared on the same items."""

    levels: tuple[Level, ...]  # the lowest first (groups of images, or routes), then those of the seeds

    @property
    def clusters(self) -> int:
        """What was drawn at the lowest level: groups of images, or routes."""
        return self.levels[0].units

    def repeat(self, statistic: Statistic, levels: Sequence[Level] | None = None) -> Floats:
        """Evaluate `statistic` [R] while `levels` (None: all) are drawn and the others stand still.

        Weights are made for a few repetitions at a time: all of them together would take 16 kB of memory for every item.
        """
        drawn = self.levels if levels is None else levels
        parts = []
        for start in range(0, len(drawn[0].draws), AT_ONCE):
            chunk = slice(start, start + AT_ONCE)
            parts.append(statistic(math.prod((level.weights(chunk) for level in drawn[1:]), start=drawn[0].weights(chunk))))
        return np.concatenate(parts)


def cluster_bootstrap(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Resampling:
    """Draw items with replacement, whole groups at a time; `groups` names the group of each item.

    With every item in a group of its own this is the plain bootstrap over items.
    """
    if not groups:
        raise BadInput("there is nothing to resample: expected at least one image or route")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    return Resampling((_draw(len(names), len(names), member, resamples, rng),))


def _draw(count: int, units: int, member: npt.NDArray[np.intp], resamples: int, rng: np.random.Generator) -> Level:
    """Draw `count` of `units` with replacement, `resamples` times."""
    draws = rng.multinomial(count, np.full(units, 1 / units), size=resamples)  # [R, units]
    return Level(draws.astype(np.uint16), member)


def hierarchical_bootstrap(
    seeds: Sequence[Sequence[str]], clusters: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> Resampling:
    """Draw items hierarchically: first each level of `seeds` from the top, then the `clusters` (routes, groups of images).

    Each list names the unit of every item. The levels are crossed: what is drawn of the routes serves all seeds (each policy
    drives the same routes), so an item weighs the product of how often each of its units was drawn. Of n seeds n - 1 are
    drawn, which makes the bootstrap's variance of a mean the unbiased s²/n (McCarthy and Snowden, Vital and Health Statistics
    2/95, 1985); with the three seeds of a study, drawing three would lose a third of it. A level with one unit adds nothing:
    the luck of that seed is then not in the interval.
    """
    levels = list(cluster_bootstrap(clusters, resamples, seed).levels)
    for depth, names in enumerate(seeds):
        if len(names) != len(clusters):
            raise BadInput(f"{len(names)} seeds for {len(clusters)} items; expected one of each per item")
        units, member = np.unique(np.asarray(names), return_inverse=True)
        if len(units) > 1:
            rng = np.random.default_rng([seed, depth])
            levels.append(_draw(len(units) - 1, len(units), member, resamples, rng))
    return Resampling(tuple(levels))


def weighted_mean(values: Floats) -> Statistic:
    """Make the statistic "mean of `values` [items]", nan entries left out."""
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)

    def mean(weights: Floats) -> Floats:
        total = weights @ present.astype(np.float64)  # [R]
        means: Floats = np.divide(weights @ filled, total, out=np.full(len(weights), np.nan), where=total > 0)
        return means

    return mean


def ratio_of_sums(numerator: Floats, denominator: Floats) -> Statistic:
    """Make the statistic Σ numerator / Σ denominator over items; inf where only the denominator is zero, nan for 0/0."""

    def ratio(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ numerator) / (weights @ denominator), np.float64)

    return ratio


def of_confusion(confusions: Counts, score: Callable[[Counts], Floats]) -> Statistic:
    """Make the statistic `score` of summed confusion matrices `[R, N, N] -> [R]` from one per image, `[items, N, N]`."""
    images, classes, _ = confusions.shape
    flat = confusions.reshape(images, -1).astype(np.float64)

    def scores(weights: Floats) -> Floats:
        return score(np.rint(weights @ flat).astype(np.int64).reshape(-1, classes, classes))  # weights are whole numbers

    return scores


def mean_over_seeds(statistics: Sequence[Statistic]) -> Statistic:
    """Make the statistic "mean over seeds" from one statistic per seed.

    The items are those of the first seed, then those of the second, and so on: weights `[R, seeds * items]`. A seed counts by
    how often it was drawn. With a single statistic this is that statistic.
    """
    if len(statistics) == 1:
        return statistics[0]

    def mean(weights: Floats) -> Floats:
        parts = weights.reshape(len(weights), len(statistics), -1)  # [R, seeds * items] -> [R, seeds, items]
        share = parts.sum(axis=2)  # [R, seeds]
        drawn = share > 0
        values = np.zeros(share.shape)  # [R, seeds]
        for index, statistic in enumerate(statistics):
            values[drawn[:, index], index] = statistic(parts[drawn[:, index], index])
        means: Floats = (values * share).sum(axis=1) / share.sum(axis=1)
        return means

    return mean
