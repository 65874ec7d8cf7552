"""The timer, on callables whose order and figures are known. No assertion depends on how fast this machine is."""

import json
import time

import numpy as np
import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.timing import Latency, measure, ratio


def test_every_round_gives_each_an_untimed_call_and_a_timed_one() -> None:
    log: list[str] = []
    result = measure({"a": lambda: log.append("a"), "b": lambda: log.append("b")}, warmup=2, rounds=30)
    assert log[:4] == ["a", "a", "b", "b"]
    rounds = [tuple(log[i : i + 4]) for i in range(4, len(log), 4)]
    assert len(rounds) == 30
    assert set(rounds) == {("a", "a", "b", "b"), ("b", "b", "a", "a")}  # both orders occur
    assert len(result["a"].samples_ms) == len(result["b"].samples_ms) == 30


def test_what_the_contender_before_left_is_not_charged() -> None:
    """Every second call of `heavy` in a row is quick: only the quick one may be timed."""
    slow = {"next": True}

    def heavy() -> None:
        time.sleep(0.02 if slow["next"] else 0.0)
        slow["next"] = False

    def disturber() -> None:
        slow["next"] = True

    result = measure({"heavy": heavy, "disturber": disturber}, warmup=0, rounds=12)
    assert result["heavy"].p50_ms < 20.0


def test_it_measures_time() -> None:
    result = measure({"sleep": lambda: time.sleep(0.005), "nothing": lambda: None}, warmup=1, rounds=12)
    assert min(result["sleep"].samples_ms) >= 5.0
    assert result["nothing"].p50_ms < result["sleep"].p50_ms


def test_a_time_limit_keeps_at_least_ten_rounds() -> None:
    result = measure({"a": lambda: time.sleep(0.002)}, warmup=0, rounds=1000, max_seconds=0.001)
    assert len(result["a"].samples_ms) == 10


def test_percentiles_and_interval() -> None:
    latency = Latency(tuple(float(value) for value in range(1, 102)))
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms) == (51, 91, 100, 101)
    assert latency.fps == pytest.approx(1000 / 51)
    interval = latency.interval()
    assert interval == latency.interval()  # seeded
    # The exact 95 % interval of a median of 101 values: the 41st and the 61st (binomial quantiles).
    assert interval.low == pytest.approx(41, abs=2)
    assert interval.high == pytest.approx(61, abs=2)


def test_a_ratio_is_paired_by_round() -> None:
    slow_moments = np.random.default_rng(0).uniform(1, 10, 60)  # the machine's speed swings tenfold
    quick, slow = Latency(tuple(slow_moments)), Latency(tuple(2 * slow_moments))
    interval = ratio(quick, slow)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(BadInput, match="one interleaved run"):
        ratio(quick, Latency((1.0, 2.0)))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([1.0] * 5, "only 5 samples"),
        ([1.0] * 80 + [9.0] * 20, "other processes"),
        ([1.0] * 50 + [1.4] * 50, "changed speed"),
        ([1.0, 1.01] * 50, None),
    ],
)
def test_noise_is_named(samples: list[float], reason: str | None) -> None:
    noise = Latency(tuple(samples)).noise()
    assert (noise is None) if reason is None else (noise is not None and reason in noise)


def test_json() -> None:
    figures = json.loads(json.dumps(Latency((1.0, 2.0, 3.0)).to_dict(samples=True)))
    assert figures["p50_ms"] == 2.0
    assert figures["samples_ms"] == [1.0, 2.0, 3.0]


def test_nothing_to_measure() -> None:
    with pytest.raises(BadInput, match="nothing to measure"):
        measure({})
