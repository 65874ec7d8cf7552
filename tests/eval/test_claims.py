"""A claim of a paper is "seen" only where the interval says so, and the page of results says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from roadworthy.eval.calibration import BINS
from roadworthy.eval.claims import CLAIMS, Claim, judge_claims
from roadworthy.eval.image_scores import METRICS, ImageScores, ious
from roadworthy.eval.pooling import pool
from roadworthy.eval.segmentation import expected_severity
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import iou, mean_iou
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.scripts.make_results import page
from roadworthy.train.objectives import OBJECTIVES

IMAGES = 24


def evaluation(right: float, seed: int, contours: float = 0.5) -> dict[str, Any]:
    """Make what `evaluate` writes, of made-up predictions: about the fraction `right` of each class's pixels is right."""
    rng, count = np.random.default_rng(seed), len(CAMVID)
    hard = np.random.default_rng(0).normal(0, 0.02, IMAGES)  # the same images for every model
    confusions = np.zeros((IMAGES, count, count), np.int64)
    for image in range(IMAGES):
        share = np.clip(right + hard[image] + rng.normal(0, 0.005), 0, 1)
        confusions[image] = np.diag(np.full(count, round(1000 * share)))
        confusions[image, np.arange(count), (np.arange(count) + 1) % count] += 1000 - round(1000 * share)
    bf = contours + hard[:, None] + rng.normal(0, 0.005, (IMAGES, count))
    reliability = np.zeros((IMAGES, BINS, 3))
    reliability[:, -1] = (1000 * count, 900 * count, 800 * count)
    names = tuple(f"image {i}" for i in range(IMAGES))
    scores = ImageScores(names, names, confusions, bf, 10 - 5 * bf, np.full(IMAGES, 0.9), np.full(IMAGES, 0.82), reliability)
    cost = (1 - np.eye(count)).tolist()
    return {
        "taxonomy": "camvid", "classes": list(CAMVID.classes), "ground": {"name": "severity", "cost": cost},
        "per_image": scores.to_dict(), "metrics": {}, "reliability": reliability.sum(axis=0).tolist(),
        "severity_contributions": np.zeros((count, count)).tolist(),
        "per_class": {key: [0.5] * count for key in ("iou", "bf", "hausdorff_px", "accuracy")}, "per_group": {},
    }  # fmt: skip


def seeds(right: float, first: int, contours: float = 0.5) -> list[dict[str, Any]]:
    return [evaluation(right, first + i, contours) for i in range(3)]


def test_claims_name_objectives_and_metrics_that_exist() -> None:
    for claim in CLAIMS:
        assert {claim.first, claim.second} <= set(OBJECTIVES)
        assert claim.metric in METRICS or int(claim.metric.removeprefix("group ")) in CAMVID.groups
        assert (claim.sign == 0) == (claim.margin > 0)


def test_a_claim_is_seen_only_where_the_intervals_say_so() -> None:
    found = {"cross-entropy": seeds(0.6, 10), "gambling": seeds(0.6, 20, 0.6), "focal": seeds(0.6, 30)}
    claims = [
        Claim("paper", "better", "figures", "gambling", "cross-entropy", "bf", 1),
        Claim("paper", "worse", "figures", "gambling", "cross-entropy", "bf", -1),
        Claim("paper", "another mIoU", "figures", "focal", "cross-entropy", "miou", 1),
        Claim("paper", "alike", "figures", "focal", "cross-entropy", "miou", 0, 0.05),
        Claim("paper", "too alike", "figures", "gambling", "cross-entropy", "bf", 0, 0.05),
        Claim("paper", "absent", "figures", "el-gan", "cross-entropy", "miou", 1),
    ]
    findings = judge_claims(found, CAMVID, claims=claims)
    assert [finding.answer for finding in findings] == ["seen", "not seen", "not seen", "seen", "not seen", "not tested"]
    assert findings[1].reason == "the opposite was found"
    assert findings[2].reason == "the two cannot be told apart"
    assert findings[5].reason == "the study has no el-gan"
    levels = [finding.difference.level for finding in findings if finding.difference is not None]
    assert levels == pytest.approx([1 - 0.05 / 5] * 5)


def test_seeds_that_differ_more_than_the_objectives_do_hide_a_difference() -> None:
    """With the same gap, one seed's images alone would call it; three seeds that scatter do not."""
    steady = {"cross-entropy": seeds(0.6, 10), "focal": seeds(0.62, 20)}
    scattered = {
        "cross-entropy": seeds(0.6, 10),
        "focal": [evaluation(right, 20 + i) for i, right in enumerate((0.55, 0.62, 0.69))],
    }
    claim = [Claim("paper", "text", "figures", "focal", "cross-entropy", "miou", 1)]
    assert judge_claims(steady, CAMVID, claims=claim)[0].answer == "seen"
    assert judge_claims(scattered, CAMVID, claims=claim)[0].answer == "not seen"


def test_a_pooled_figure_is_the_mean_of_the_seeds_within_what_it_can_be() -> None:
    found = [
        evaluation(right, 40 + i, contours) for i, (right, contours) in enumerate(((0.55, 0.05), (0.62, 0.6), (0.69, 0.3)))
    ]
    pooled = pool(found, CAMVID)
    each = [ImageScores.from_dict(one["per_image"], len(CAMVID)) for one in found]
    assert pooled["metrics"]["miou"]["value"] == pytest.approx(np.mean([mean_iou(one.confusions.sum(axis=0)) for one in each]))
    for name, figure in pooled["metrics"].items():
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"]
        assert figure["high"] <= 1 or name == "hausdorff_px"
    assert pooled["metrics"]["bf"]["low"] == 0  # three seeds that far apart say next to nothing
    assert all(0 <= low <= high <= 1 for low, high in pooled["per_class"]["bf_interval"])
    assert pool(found[:1], CAMVID)["metrics"] == found[0]["metrics"]


def test_many_confusions_at_once_score_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    scores = ImageScores.from_dict(evaluation(0.6, 1)["per_image"], len(CAMVID))
    cost = rng.uniform(size=(len(CAMVID), len(CAMVID))) * (1 - np.eye(len(CAMVID)))
    weights = np.rint(rng.uniform(0, 3, (5, IMAGES)))
    found = {name: statistic(weights) for name, statistic in scores.statistics(cost).items()}
    summed = np.tensordot(weights, scores.confusions, 1).astype(np.int64)  # [5, N, N]
    summed[:, 3] = summed[:, :, 3] = 0  # a class that does not occur
    for row in range(5):
        assert ious(summed)[row] == pytest.approx(iou(summed[row]), nan_ok=True)
        whole = np.tensordot(weights[row], scores.confusions, 1).astype(np.int64)
        assert found["miou"][row] == pytest.approx(mean_iou(whole))
        assert found["expected_severity"][row] == pytest.approx(expected_severity(whole, cost))
        assert found["pixel_accuracy"][row] == pytest.approx(np.trace(whole) / whole.sum())


def results(found: Mapping[str, Sequence[Mapping[str, Any]]], floor: float) -> dict[str, Any]:
    """Make the parts of results.json that the page reads."""
    plan = {
        "floor_miou": floor, "crop": [240, 320], "pretrain_steps": 100, "finetune_steps": 50, "batch_size": 4,
        "pretrain_objective": "cross-entropy", "models": ["enet"], "seeds": [0, 1, 2],
    }  # fmt: skip
    rows = []
    for name, each in found.items():
        pooled = pool(each, CAMVID)
        miou = pooled["metrics"]["miou"]["value"]
        each_seed = [{"file": f"{name}-s{i}", "metrics": {"miou": miou}} for i in range(3)]
        rows.append(
            {"name": name, "label": name, "objective": name, "metrics": pooled["metrics"], "train_s": 60.0, "seeds": each_seed}
        )
    return {
        "name": "test", "title": "Test data, no real study", "command": "roadworthy compare", "revision": "0",
        "seconds": 60.0,
        "machine": {"cpu": "a processor", "usable_cores": 2, "gpus": []},
        "data": {"test": "camvid:somewhere", "test_images": IMAGES, "convention": "a convention"},
        "floors": {"floor-enet": {"miou": 0.6, "miou_of_seeds": [0.5, 0.6, 0.7], "floor_miou": floor}},
        "study": {"train": plan, "width": 480, "height": 360, "seed": 0}, "segmenters": rows,
    }  # fmt: skip


def test_the_page_says_what_was_found_and_compares_nothing_below_the_floor() -> None:
    found = {"cross-entropy": seeds(0.6, 10), "gambling": seeds(0.6, 20, 0.6)}
    text = page(results(found, 0.2), found)
    assert "## Claim by claim" in text
    assert "*Seen*: Gambling gives better contours than cross-entropy." in text
    assert "*Not tested*: EL-GAN makes the segmenter surer of itself." in text
    assert "**better**" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table[:4]} == {table[0].count("|")}  # every row has the same columns
    assert "the shared pre-training, `cross-entropy`, has a mean IoU of 60.0 % (seed by seed 50.0, 60.0, 70.0)" in text
    weak = {**results(found, 0.58), "floors": {"floor-enet": {"miou": 0.6, "miou_of_seeds": [0.6], "floor_miou": 0.58}}}
    weak["segmenters"][0]["metrics"]["miou"]["value"] = 0.57
    assert "57.0 %, **below that floor**" in page(weak, found)
    assert "Claim by claim" in page(weak, found)
    low = page(results(found, 0.99), found)
    assert "**Floor not reached**" in low
    assert "Claim by claim" not in low
    assert "**better**" not in low
    with pytest.raises(BadInput, match="no row 'cross-entropy'"):
        page(results({"gambling": found["gambling"]}, 0.2), {"gambling": found["gambling"]})
