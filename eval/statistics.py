"""What the data support: bootstrap intervals, paired differences, exact Poisson rates, and when to say "cannot tell".

Every figure is an `Estimate` at a confidence level (95 % unless told otherwise). Resampling is seeded, so a report can be
repeated to the digit. A bootstrap draws whole clusters (images of one recorded episode; routes of one policy seed), because
what clusters is not independent and would otherwise make the intervals too narrow. With few clusters a percentile interval is
still too narrow: it is expanded (Hesterberg, The American Statistician 69, 2015, section 5.3), and below `clusters_needed`
nothing is ever told apart.

Where there are several seeds (segmenter seed -> policy seed -> route or image) all levels are drawn, and the interval is made
of what each level alone contributes, each with the t quantile of its own few units (Howe, JASA 69, 1974): no percentile of
three seeds can reach further than the most extreme of the three. When models are compared, what the seeds contribute is judged
on all of them together (`differences`), as an analysis of variance does: three seeds of one pair alone say next to nothing.
`tests/eval/test_statistics.py` simulates how often such intervals hold, and how often equal models are called apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, gammaincinv, ndtr, stdtrit

from roadworthy.eval.resampling import Floats, Resampling, Statistic
from roadworthy.runtime.errors import BadInput

LEVEL = 0.95  # confidence level of every interval


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


def clusters_needed(level: float) -> int:
    """Return how many clusters a difference needs before its interval may exclude zero.

    Without any true difference all n clusters fall on one side with probability 2^(1 - n); that must be below 1 - level.
    """
    return 1 + math.ceil(-math.log2(1 - level))


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


class Contribution(NamedTuple):
    """What one level alone contributes to the spread of a figure."""

    variance: float  # of the figure
    freedom: int  # degrees of freedom that the variance rests on; 0: a single unit says nothing


def seeded_interval(
    value: float, repetitions: Floats, contributions: Sequence[Contribution], level: float = LEVEL
) -> tuple[float, float]:
    """Return the interval around `value` whose half-width is √(Σ t²(freedom) · variance) over the levels.

    Howe's interval (JASA 69, 1974) for a sum of independent parts whose variances are estimated: exact where one level makes
    all the spread, a little too wide between. Satterthwaite's degrees of freedom, which one finds more often, are too many
    when a variance on two degrees of freedom happens to come out small: equal models were called apart in 10 to 15 of 100
    simulated studies instead of 5. `repetitions` are those of all levels drawn together; they add
    what the levels' interplay brings beyond the sum of the levels.
    """
    if any(part.freedom < 1 for part in contributions):
        return math.nan, math.nan
    total = sum(part.variance for part in contributions)
    if total == 0:
        return value, value
    squared = sum(float(stdtrit(part.freedom, (1 - level) / 2)) ** 2 * part.variance for part in contributions)
    reach = math.sqrt(squared * max(1.0, float(repetitions.var()) / total))
    return value - reach, value + reach


class _Repetitions(NamedTuple):
    """A figure on the data as they are, with all levels drawn, and with each level drawn alone."""

    value: float
    all: Floats  # [R]
    alone: tuple[Floats, ...]  # one [R] per level, the lowest first; empty where there is one level

    def minus(self, other: _Repetitions) -> _Repetitions:
        """Return the difference of two figures, repetition by repetition."""
        with np.errstate(invalid="ignore"):
            apart = tuple(one - two for one, two in zip(self.alone, other.alone, strict=True))
            return _Repetitions(self.value - other.value, self.all - other.all, apart)

    def finite(self) -> bool:
        """Tell whether every repetition has a value."""
        return all(np.isfinite(found).all() for found in (self.all, *self.alone))


def _repetitions(statistic: Statistic, resampling: Resampling) -> _Repetitions:
    """Evaluate `statistic` as `_Repetitions` describes."""
    value = float(statistic(np.ones((1, len(resampling.levels[0].member))))[0])
    levels = resampling.levels if len(resampling.levels) > 1 else ()
    return _Repetitions(value, resampling.repeat(statistic), tuple(resampling.repeat(statistic, [each]) for each in levels))


def _variances(found: _Repetitions, resampling: Resampling) -> list[float]:
    """Return the unbiased variance that each level alone contributes, the lowest first."""
    # The lowest level drew n of n: its variance lacks the factor that n - 1 draws of n give the others.
    units = resampling.clusters
    factor = units / (units - 1) if units > 1 else 1.0
    return [float(part.var()) * (factor if i == 0 else 1.0) for i, part in enumerate(found.alone)]


def _estimate(found: _Repetitions, resampling: Resampling, level: float) -> Estimate:
    """Make an estimate of what `_repetitions` gave.

    Where there are seeds but a repetition has no finite value, the percentiles are taken, expanded for the level with the
    fewest units.
    """
    if not found.alone or not found.finite():
        fewest = min(each.units for each in resampling.levels)
        return Estimate(found.value, *percentile_interval(found.all, fewest, level), level)
    variances = _variances(found, resampling)
    parts = [Contribution(v, each.units - 1) for v, each in zip(variances, resampling.levels, strict=True)]
    return Estimate(found.value, *seeded_interval(found.value, found.all, parts, level), level)


def estimate(statistic: Statistic, resampling: Resampling, level: float = LEVEL) -> Estimate:
    """Evaluate `statistic` on the data as they are, and its interval on the bootstrap's repetitions."""
    return _estimate(_repetitions(statistic, resampling), resampling, level)


def differences(
    statistics: Mapping[str, Statistic],
    resampling: Resampling,
    level: float = LEVEL,
    pairs: Sequence[tuple[str, str]] | None = None,
    share: bool = True,
) -> list[Difference]:
    """Compare models pair by pair (None: every pair) on the same resampled items (paired bootstrap).

    The same repetitions serve all models, so what makes an image, a route or a seed's pre-training hard cancels out. With
    several pairs the intervals are widened (Bonferroni), so that the chance of even one false call stays below 1 - level;
    without `share` every pair has the whole `level`.

    What the luck of the seeds contributes is taken from all `statistics` together: the mean over all their pairs, which is
    the residual of an analysis of variance of models and seeds and has (models - 1) · (seeds - 1) degrees of freedom; or from
    the pair itself where that is more, so that a model whose seeds scatter more than the others' is not called too early.
    """
    chosen = list(combinations(statistics, 2)) if pairs is None else list(pairs)
    if not chosen:
        return []
    found = {name: _repetitions(statistic, resampling) for name, statistic in statistics.items()}
    pooled = _pooled_variances(list(found.values()), resampling)
    strict = 1 - (1 - level) / len(chosen) if share else level
    result = []
    for first, second in chosen:
        apart = found[first].minus(found[second])
        if apart.finite() and pooled is not None:
            parts = [
                Contribution(own, each.units - 1) if i == 0 else
                Contribution(max(own, shared), (len(found) - 1) * (each.units - 1))
                for i, (own, shared, each) in enumerate(
                    zip(_variances(apart, resampling), pooled, resampling.levels, strict=True)
                )
            ]  # fmt: skip
            interval = Estimate(apart.value, *seeded_interval(apart.value, apart.all, parts, strict), strict)
        else:
            interval = _estimate(apart, resampling, strict)
        result.append(Difference(first, second, interval, can_be_told_apart(interval, resampling.clusters)))
    return result


def _pooled_variances(found: Sequence[_Repetitions], resampling: Resampling) -> list[float] | None:
    """Return each level's variance of a difference, the mean over all pairs of models; None without seeds or a finite value.

    Σ over pairs of Var(x_i - x_j) = models · Σ_i Var(x_i - mean), which spares the pairs.
    """
    if not all(each.alone and each.finite() for each in found):
        return None
    centred = []
    for each in found:
        means = tuple(np.mean(parts, axis=0) for parts in zip(*(one.alone for one in found), strict=True))
        centred.append(each._replace(alone=tuple(own - mean for own, mean in zip(each.alone, means, strict=True))))
    of_models = [_variances(each, resampling) for each in centred]  # [models][levels]
    return [2 / (len(found) - 1) * sum(of_level) for of_level in zip(*of_models, strict=True)]


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
