"""Intervals cover what they promise, pairing helps, clusters widen, and few events are treated exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, poisson

from roadworthy.eval import resampling as draws
from roadworthy.eval import statistics
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import mean_iou


def test_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    weights = draws.cluster_bootstrap([str(i) for i in range(40)], resamples=500, seed=1)
    covered = 0
    for _ in range(200):
        values = rng.exponential(size=40)
        interval = statistics.estimate(draws.weighted_mean(values), weights)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.87 <= covered / 200 <= 0.99


def test_images_of_one_group_count_as_one() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=12), 10)  # ten identical images per episode
    groups = [str(i // 10) for i in range(120)]
    alone = statistics.estimate(draws.weighted_mean(values), draws.cluster_bootstrap([str(i) for i in range(120)]))
    together = statistics.estimate(draws.weighted_mean(values), draws.cluster_bootstrap(groups))
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (draws.cluster_bootstrap(["a", "b", "c", "d"], seed=seed) for seed in (3, 3, 4))
    weights = [found.levels[0].weights(slice(None)) for found in (first, again, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    assert set(weights[0].sum(axis=1)) == {4.0}


def test_confusions_are_resampled_as_whole_images() -> None:
    confusions = np.array([[[4, 0], [0, 4]], [[0, 4], [4, 0]]])  # one perfect image, one all wrong
    statistic = draws.of_confusion(confusions, lambda matrices: np.array([mean_iou(matrix) for matrix in matrices]))
    np.testing.assert_allclose(statistic(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])), [1 / 3, 1, 0])


def test_one_image_has_no_interval() -> None:
    interval = statistics.estimate(draws.weighted_mean(np.array([0.4])), draws.cluster_bootstrap(["a"]))
    assert interval.value == pytest.approx(0.4)
    assert math.isnan(interval.low)
    assert interval.to_dict() == {"value": pytest.approx(0.4), "low": None, "high": None, "level": 0.95}


def test_pairing_tells_apart_what_the_intervals_alone_do_not() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=60)  # what makes an image hard is the same for both models
    first, second = hard + 0.05 + 0.01 * rng.normal(size=60), hard
    weights = draws.cluster_bootstrap([str(i) for i in range(60)])
    one, two = (statistics.estimate(draws.weighted_mean(values), weights) for values in (first, second))
    assert one.low < two.high
    assert two.low < one.high  # the separate intervals overlap
    (difference,) = statistics.differences(
        {"first": draws.weighted_mean(first), "second": draws.weighted_mean(second)}, weights
    )
    assert difference.distinguishable
    assert difference.estimate.value == pytest.approx(0.05, abs=0.01)


def test_equal_models_are_seldom_told_apart_even_among_several() -> None:
    rng = np.random.default_rng(0)
    weights = draws.cluster_bootstrap([str(i) for i in range(40)], resamples=800)
    called = 0
    for _ in range(60):
        models = {name: draws.weighted_mean(rng.normal(size=40)) for name in "abc"}
        called += any(difference.distinguishable for difference in statistics.differences(models, weights))
    assert called / 60 <= 0.15


def test_identical_models_cannot_be_told_apart() -> None:
    values = np.random.default_rng(0).normal(size=10)
    weights = draws.cluster_bootstrap([str(i) for i in range(10)])
    (difference,) = statistics.differences({n: draws.weighted_mean(values) for n in ("a", "b")}, weights)
    assert not difference.distinguishable
    assert difference.estimate.value == 0


def test_hierarchical_bootstrap_is_wider_when_policy_seeds_differ() -> None:
    seeds = [str(s) for s in range(4) for _ in range(10)]
    routes = [str(r) for _ in range(4) for r in range(10)]
    values = np.repeat([0.0, 0.3, 0.7, 1.0], 10)  # all the spread is between policy seeds
    nested = statistics.estimate(draws.weighted_mean(values), draws.hierarchical_bootstrap([seeds], routes))
    naive = draws.cluster_bootstrap([f"{s}/{r}" for s, r in zip(seeds, routes, strict=True)])
    plain = statistics.estimate(draws.weighted_mean(values), naive)
    assert nested.high - nested.low > 2 * (plain.high - plain.low)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_few_seeds_hold(seeds: int) -> None:
    """Mean over seeds and images, both random; an interval of the images alone would be far too narrow."""
    rng = np.random.default_rng(seeds)
    images = [f"image {i}" for i in range(30)]
    resampling = draws.hierarchical_bootstrap(
        [[f"seed {s}" for s in range(seeds) for _ in images]], images * seeds, resamples=400, seed=1
    )
    alone = draws.cluster_bootstrap(images, resamples=400, seed=1)
    covered = narrow = 0
    for _ in range(300):
        luck, hard = rng.normal(size=(seeds, 1)), rng.normal(size=(1, 30))
        values = luck + hard + rng.normal(size=(seeds, 30))
        pooled = draws.mean_over_seeds([draws.weighted_mean(row) for row in values])
        found = statistics.estimate(pooled, resampling)
        assert found.value == pytest.approx(values.mean())
        covered += found.low <= 0 <= found.high
        without = statistics.estimate(draws.weighted_mean(values.mean(axis=0)), alone)
        narrow += without.low <= 0 <= without.high
    assert covered / 300 >= 0.93
    assert narrow / 300 <= 0.8


@pytest.mark.parametrize(("models", "seeds", "loud"), [(2, 2, 1.0), (3, 2, 1.0), (3, 3, 3.0), (7, 3, 1.0), (7, 3, 3.0)])
def test_equal_models_are_seldom_called_apart_when_their_seeds_scatter(models: int, seeds: int, loud: float) -> None:
    """All differences are the luck of seeds and images; the seeds of one model may scatter `loud` times as much."""
    rng = np.random.default_rng([models, seeds])
    images = [f"image {i}" for i in range(12)]
    resampling = draws.hierarchical_bootstrap(
        [[str(s) for s in range(seeds) for _ in images]], images * seeds, resamples=200, seed=1
    )
    called = 0
    for _ in range(100):
        hard = rng.normal(size=(1, 12))
        scatter = [loud if index == 0 else 1.0 for index in range(models)]
        values = [hard + each * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, 12)) for each in scatter]
        found = {str(i): draws.mean_over_seeds([draws.weighted_mean(row) for row in each]) for i, each in enumerate(values)}
        called += any(difference.distinguishable for difference in statistics.differences(found, resampling))
    assert called <= 10  # 5 are promised; with Satterthwaite's degrees of freedom it was 10 to 15


def test_seeds_of_all_models_together_tell_what_those_of_two_cannot() -> None:
    rng = np.random.default_rng(0)
    images = [f"image {i}" for i in range(12)]
    resampling = draws.hierarchical_bootstrap([[str(s) for s in range(3) for _ in images]], images * 3)
    levels = [1.0, *[0.0] * 6]  # the first of seven is better
    values = [level + 0.1 * rng.normal(size=(3, 1)) + 0.1 * rng.normal(size=(3, 12)) for level in levels]
    found = {str(i): draws.mean_over_seeds([draws.weighted_mean(row) for row in each]) for i, each in enumerate(values)}
    assert [pair.distinguishable for pair in statistics.differences(found, resampling)] == [True] * 6 + [False] * 15
    two = {name: found[name] for name in ("0", "1")}
    (alone,) = statistics.differences(two, resampling, level=1 - 0.05 / 21)
    assert not alone.distinguishable


def test_one_route_has_no_interval_however_many_seeds_drove_it() -> None:
    resampling = draws.hierarchical_bootstrap([["a", "b", "c"]], ["route"] * 3)
    found = statistics.estimate(draws.weighted_mean(np.array([0.45, 0.5, 0.55])), resampling)
    assert found.value == pytest.approx(0.5)
    assert math.isnan(found.low)


def test_equal_seeds_add_nothing_but_the_images_stay() -> None:
    rng = np.random.default_rng(0)
    images = [f"image {i}" for i in range(40)]
    values = rng.normal(size=40)
    resampling = draws.hierarchical_bootstrap([["a"] * 40 + ["b"] * 40 + ["c"] * 40], images * 3)
    pooled = statistics.estimate(draws.mean_over_seeds([draws.weighted_mean(values)] * 3), resampling)
    one = statistics.estimate(draws.weighted_mean(values), draws.cluster_bootstrap(images))
    assert pooled.value == pytest.approx(one.value)
    assert pooled.high - pooled.low == pytest.approx(one.high - one.low, rel=0.1)


def test_seeds_are_paired_when_models_are_compared() -> None:
    rng = np.random.default_rng(0)
    images = [f"image {i}" for i in range(40)]
    luck = rng.normal(size=(3, 1))  # of the shared pre-training: the same for both models
    first, second = (luck + rng.normal(scale=0.1, size=(3, 40)) + shift for shift in (0.3, 0.0))
    resampling = draws.hierarchical_bootstrap([[f"{s}" for s in range(3) for _ in images]], images * 3)
    models = {name: draws.mean_over_seeds([draws.weighted_mean(row) for row in values])
              for name, values in (("first", first), ("second", second))}  # fmt: skip
    one, two = (statistics.estimate(model, resampling) for model in models.values())
    assert one.low < two.high
    assert two.low < one.high
    (difference,) = statistics.differences(models, resampling)
    assert difference.distinguishable


def test_only_the_named_pairs_share_the_chance_of_a_false_call() -> None:
    values = {name: draws.weighted_mean(np.arange(8.0) * (i + 1)) for i, name in enumerate("abcd")}
    resampling = draws.cluster_bootstrap([str(i) for i in range(8)])
    found = statistics.differences(values, resampling, pairs=[("b", "a"), ("c", "a")])
    assert [(pair.first, pair.second) for pair in found] == [("b", "a"), ("c", "a")]
    assert [pair.estimate.level for pair in found] == pytest.approx([0.975, 0.975])
    alone = statistics.differences(values, resampling, pairs=[("b", "a"), ("c", "a")], share=False)
    assert [pair.estimate.level for pair in alone] == [0.95, 0.95]
    assert alone[:1] == statistics.differences(values, resampling, pairs=[("b", "a")])
    assert statistics.differences(values, resampling, pairs=[]) == []


def test_a_rate_that_is_infinite_in_some_repetitions_has_an_interval_of_percentiles() -> None:
    km, events = np.ones(8), np.array([0.0, 1, 0, 0, 0, 0, 0, 0])
    resampling = draws.hierarchical_bootstrap([["a"] * 4 + ["b"] * 4], ["1", "2", "3", "4"] * 2)
    found = statistics.estimate(draws.ratio_of_sums(km, events), resampling)
    assert found.value == 8
    assert found.high == math.inf


@pytest.mark.parametrize("clusters", [6, 8, 12])
def test_intervals_hold_for_few_clusters_too(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    resampling = draws.cluster_bootstrap([str(i) for i in range(clusters)], seed=1)
    covered = 0
    for _ in range(300):
        interval = statistics.estimate(draws.weighted_mean(rng.normal(size=clusters)), resampling)
        covered += interval.low <= 0 <= interval.high
    assert covered / 300 >= 0.90


def test_too_few_clusters_never_tell_apart() -> None:
    assert statistics.clusters_needed(0.95) == 6
    for clusters in (2, 5, 6):
        resampling = draws.cluster_bootstrap([str(i) for i in range(clusters)])
        better, worse = (draws.weighted_mean(np.full(clusters, value)) for value in (1.0, 0.0))
        (difference,) = statistics.differences({"better": better, "worse": worse}, resampling)
        assert difference.estimate.low == 1
        assert difference.distinguishable == (clusters == 6)


@given(events=st.integers(0, 40), exposure=st.floats(0.1, 100))
def test_poisson_interval_is_exact(events: int, exposure: float) -> None:
    rate = statistics.poisson_interval(events, exposure)
    assert rate.value == pytest.approx(events / exposure)
    assert poisson.cdf(events, rate.high * exposure) == pytest.approx(0.025)
    if events:
        assert poisson.sf(events - 1, rate.low * exposure) == pytest.approx(0.025)
    else:
        assert rate.low == 0
        assert rate.high * exposure == pytest.approx(-math.log(0.025))  # 3.69 events per exposure cannot be excluded


@given(trials=st.integers(1, 30), data=st.data())
def test_binomial_interval_agrees_with_scipy(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    share = statistics.binomial_interval(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(BadInput):
        statistics.poisson_interval(-1, 2)
    assert math.isnan(statistics.poisson_interval(0, 0).value)
    with pytest.raises(BadInput):
        statistics.binomial_interval(3, 2)
    with pytest.raises(BadInput, match="nothing to resample"):
        draws.cluster_bootstrap([])
