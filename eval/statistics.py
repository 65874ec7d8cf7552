"""What the data support: bootstrap intervals, paired differences, exact Poisson rates, and when to say "cannot tell".

Every figure is an `Estimate` at a confidence level (95 % unless told otherwise). Resampling is seeded, so a report can be
repeated to the digit. A bootstrap draws whole clusters (images of one recorded episode; routes of one policy seed), because
what clusters is not independent and would otherwise make the intervals too narrow. With few clusters a percentile interval is
still too narrow: it is expanded (Hesterberg, The American Statistician 69, 2015, section 5.3), and below `clusters_needed`
nothing is ever told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv, ndtr, stdtrit

from roadworthy.runtime.errors import BadInput

LEVEL = 0.95  # confidence level of every interval
RESAMPLES = 2000  # bootstrap repetitions

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]  # weights [R, items] -> value per repetition [R]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; `low` and `high` are nan when the data cannot give one."""

    value: float
    low: float
    high: float
    level: float = LEVEL

    def to_dict(self) -> dict[str, float | None]:
        """Return plain JSON: what is not a finite number becomes null."""
        return {key: number if math.isfinite(number) else None for key, number in asdict(self).items()}


@dataclass(frozen=True)
class Difference:
    """A paired difference `first - second`; `distinguishable` only when its interval keeps clear of zero."""

    first: str
    second: str
    estimate: Estimate
    distinguishable: bool


@dataclass(frozen=True, eq=False)
class Resampling:
    """The repetitions of one bootstrap, shared by all that is compared on the same items."""

    weights: Floats  # [R, items] how often each item counts in each repetition
    clusters: int  # what was drawn: groups of images, or routes


def cluster_bootstrap(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Resampling:
    """Draw items with replacement, whole groups at a time; `groups` names the group of each item.

    With every item in a group of its own this is the plain bootstrap over items.
    """
    if not groups:
        raise BadInput("there is nothing to resample: expected at least one image or route")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return Resampling(draws[:, member].astype(np.float64), len(names))  # [R, groups] -> [R, items]


def nested_bootstrap(seeds: Sequence[str], routes: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Resampling:
    """Draw episodes hierarchically: policy seeds first, then routes; `seeds` and `routes` name those of each episode.

    Routes are drawn once per repetition and shared by the policy seeds (each policy drives the same routes), so the two
    factors are resampled independently and an episode weighs (times its seed was drawn) x (times its route was drawn).
    With a single policy seed only the routes vary: the luck of policy training is then not in the interval.
    """
    if len(seeds) != len(routes):
        raise BadInput(f"{len(seeds)} policy seeds for {len(routes)} routes; expected one of each per episode")
    by_route = cluster_bootstrap(routes, resamples, seed + 1)
    return Resampling(cluster_bootstrap(seeds, resamples, seed).weights * by_route.weights, by_route.clusters)


def clusters_needed(level: float) -> int:
    """Return how many clusters a difference needs before its interval may exclude zero.

    Without any true difference all n clusters fall on one side with probability 2^(1 - n); that must be below 1 - level.
    """
    return 1 + math.ceil(-math.log2(1 - level))


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


def of_confusion(confusions: Counts, score: Callable[[Counts], float]) -> Statistic:
    """Make the statistic `score(summed confusion [N, N])` from one confusion matrix per image, `[items, N, N]`."""
    images, classes, _ = confusions.shape
    flat = confusions.reshape(images, -1).astype(np.float64)

    def scores(weights: Floats) -> Floats:
        summed = np.rint(weights @ flat).astype(np.int64).reshape(-1, classes, classes)  # weights are whole numbers
        return np.array([score(matrix) for matrix in summed])

    return scores


def percentile_interval(repetitions: Floats, clusters: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the central interval of bootstrap repetitions, expanded for a small number of clusters.

    The tails are those of a t interval on `clusters` observations rather than of a normal one. Repetitions without a value
    (nan) are left out; a single cluster says nothing about its own spread: (nan, nan).
    """
    usable = repetitions[~np.isnan(repetitions)]
    if usable.size == 0 or clusters < 2:
        return math.nan, math.nan
    reach = -float(stdtrit(clusters - 1, (1 - level) / 2)) * math.sqrt(clusters / (clusters - 1))
    tail = float(ndtr(-reach))
    low, high = np.quantile(usable, [tail, 1 - tail], method="nearest")
    return float(low), float(high)


def estimate(statistic: Statistic, resampling: Resampling, level: float = LEVEL) -> Estimate:
    """Evaluate `statistic` on the data as they are, and its interval on the bootstrap's repetitions."""
    weights = resampling.weights
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    return Estimate(value, *percentile_interval(statistic(weights), resampling.clusters, level), level)


def differences(statistics: Mapping[str, Statistic], resampling: Resampling, level: float = LEVEL) -> list[Difference]:
    """Compare every pair of models on the same resampled items (paired bootstrap).

    The same repetitions serve all models, so what makes an image or a route hard cancels out. With several pairs the
    intervals are widened (Bonferroni), so that the chance of even one false call stays below 1 - level.
    """
    names = list(statistics)
    pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
    repetitions = {name: statistics[name](resampling.weights) for name in names}
    ones = np.ones((1, resampling.weights.shape[1]))
    values = {name: float(statistics[name](ones)[0]) for name in names}
    found = []
    for first, second in pairs:
        strict = 1 - (1 - level) / len(pairs)
        with np.errstate(invalid="ignore"):
            apart = repetitions[first] - repetitions[second]
        interval = Estimate(values[first] - values[second], *percentile_interval(apart, resampling.clusters, strict), strict)
        found.append(Difference(first, second, interval, can_be_told_apart(interval, resampling.clusters)))
    return found


def can_be_told_apart(difference: Estimate, clusters: int) -> bool:
    """Decide whether the data support a difference: its interval excludes zero, and it rests on enough clusters."""
    return clusters >= clusters_needed(difference.level) and (difference.low > 0 or difference.high < 0)


def poisson_interval(events: int, exposure: float, level: float = LEVEL) -> Estimate:
    """Return the rate `events / exposure` with Garwood's exact interval (Biometrika 28, 1936), right for few events too.

    `exposure` is what the rate is per (e.g. kilometres); without exposure everything is nan.
    """
    if events < 0 or exposure < 0:
        raise BadInput(f"{events} events in {exposure} of exposure; expected neither to be negative")
    if exposure == 0:
        return Estimate(math.nan, math.nan, math.nan, level)
    tail = (1 - level) / 2
    low = float(gammaincinv(events, tail)) if events else 0.0
    high = float(gammaincinv(events + 1, 1 - tail))
    return Estimate(events / exposure, low / exposure, high / exposure, level)


def binomial_interval(successes: int, trials: int, level: float = LEVEL) -> Estimate:
    """Return the share `successes / trials` with Clopper and Pearson's exact interval (Biometrika 26, 1934)."""
    if not 0 <= successes <= trials or trials == 0:
        raise BadInput(
            f"{successes} successes in {trials} trials; expected at least one trial and no more successes than trials"
        )
    tail = (1 - level) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Estimate(successes / trials, low, high, level)
