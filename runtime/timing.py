"""Timing callables fairly: side by side in interleaved rounds, with an interval, and a warning when the machine was not quiet.

Measuring one thing after the other compares the machine at two moments. Here every round calls each callable once, in a
new order, so that a slow moment slows them all, and ratios between them hold even on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput

RESAMPLES = 1000  # of the bootstrap
SLOW_TAIL = 1.5  # p90 above this many times p50 is called noisy
OUTLIER = 3.0  # a call above this many times the median is counted as one
DRIFT = 0.15  # relative change of the median between first and second half that is called noisy


@dataclass(frozen=True)
class Interval:
    """A central estimate with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers ready for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Latency:
    """The samples of one callable, in the order they were taken."""

    samples_ms: tuple[float, ...]
    seed: int = 0  # of the bootstrap

    @property
    def p50_ms(self) -> float:
        """Median."""
        return self.percentile(50)

    @property
    def p90_ms(self) -> float:
        """Nine of ten calls took at most this."""
        return self.percentile(90)

    @property
    def p99_ms(self) -> float:
        """99 of 100 calls took at most this; below 100 samples it is close to the maximum."""
        return self.percentile(99)

    @property
    def max_ms(self) -> float:
        """The slowest call."""
        return max(self.samples_ms)

    @property
    def jitter_ms(self) -> float:
        """Mean absolute difference between one call and the next."""
        return float(np.abs(np.diff(self.samples_ms)).mean()) if len(self.samples_ms) > 1 else 0.0

    @property
    def outliers(self) -> int:
        """Calls that took more than `OUTLIER` times the median."""
        return int((np.asarray(self.samples_ms) > OUTLIER * self.p50_ms).sum())

    @property
    def fps(self) -> float:
        """Calls per second at the median, one after the other."""
        return 1000.0 / self.p50_ms

    def percentile(self, percent: float) -> float:
        """Return the latency [ms] that `percent` of the calls stayed below."""
        return float(np.percentile(self.samples_ms, percent))

    def interval(self, percent: float = 50) -> Interval:
        """Return a percentile (the median) with its 95 % bootstrap interval [ms]."""
        samples = np.asarray(self.samples_ms)
        repetitions = np.percentile(samples[_resamples(len(samples), self.seed)], percent, axis=1)
        return _interval(self.percentile(percent), repetitions)

    def noise(self) -> str | None:
        """Say why these samples deserve little trust, or None when nothing speaks against them."""
        samples = np.asarray(self.samples_ms)
        if len(samples) < 10:
            return f"only {len(samples)} samples"
        if self.p90_ms > SLOW_TAIL * self.p50_ms:
            return f"p90 is {self.p90_ms / self.p50_ms:.1f} times p50: other processes were running"
        first, second = (float(np.median(half)) for half in np.array_split(samples, 2))
        if abs(second - first) > DRIFT * min(first, second):
            return f"the median moved from {first:.2f} to {second:.2f} ms while measuring: the machine changed speed"
        return None

    def to_dict(self, samples: bool = False) -> dict[str, object]:
        """Return the figures ready for JSON, with every sample if asked."""
        figures: dict[str, object] = {
            "p50_ms": self.p50_ms,
            "p50_interval_ms": [self.interval().low, self.interval().high],
            "p90_ms": self.p90_ms,
            "p90_interval_ms": [self.interval(90).low, self.interval(90).high],
            "p99_ms": self.p99_ms,
            "p99_interval_ms": [self.interval(99).low, self.interval(99).high],
            "max_ms": self.max_ms,
            "jitter_ms": self.jitter_ms,
            "outliers": self.outliers,
            "fps": self.fps,
            "samples": len(self.samples_ms),
            "noise": self.noise(),
        }
        return figures | ({"samples_ms": list(self.samples_ms)} if samples else {})


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 5,
    rounds: int = 100,
    max_seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Latency]:
    """Time every callable `rounds` times, interleaved, after `warmup` calls of each; the result keeps the names.

    A turn is an untimed call and a timed one: the first meets the caches of the contender before it and its threads, which
    OpenMP and ONNX Runtime leave spinning for a while, and would be charged for both. With `max_seconds` the rounds stop after
    that time, but not before there are ten. A callable must return only when its work is done (a GPU call synchronises inside).
    """
    if not calls or rounds < 1 or warmup < 0:
        raise BadInput(f"nothing to measure: {len(calls)} calls, {rounds} rounds, {warmup} warm-up calls")
    for call in calls.values():
        for _ in range(warmup):
            call()
    order = np.random.default_rng(seed)
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    for done in range(rounds):
        if max_seconds is not None and done >= 10 and time.perf_counter() - started > max_seconds:
            break
        for index in order.permutation(len(names)):
            call = calls[names[index]]
            call()
            before = time.perf_counter_ns()
            call()
            samples[names[index]].append((time.perf_counter_ns() - before) / 1e6)
        if progress is not None:
            progress(f"measuring latency: round {done + 1} of {rounds}", (done + 1) / rounds)
    return {name: Latency(tuple(values), seed) for name, values in samples.items()}


def ratio(candidate: Latency, reference: Latency) -> Interval:
    """Return median(candidate) / median(reference) of one interleaved run, its interval from resampling whole rounds."""
    a, b = np.asarray(candidate.samples_ms), np.asarray(reference.samples_ms)
    if len(a) != len(b):
        raise BadInput(f"{len(a)} and {len(b)} samples are not of one interleaved run; measure both in one call")
    rounds = _resamples(len(a), candidate.seed)  # the same rounds for both: a slow moment counts against neither
    return _interval(candidate.p50_ms / reference.p50_ms, np.median(a[rounds], axis=1) / np.median(b[rounds], axis=1))


def _resamples(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return indices [RESAMPLES, count] drawn with replacement."""
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _interval(value: float, resampled: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high))
