"""What the papers claim of their objectives, and whether a study has seen it: decided by intervals, never by eye.

Sources: arXiv 1908.02711 (gambling adversarial networks) and arXiv 2008.04751 (reinforced Wasserstein training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadworthy.eval.evaluate import group_members
from roadworthy.eval.image_scores import ImageScores, read_scores, resample_images
from roadworthy.eval.resampling import Statistic, mean_over_seeds
from roadworthy.eval.statistics import LEVEL, Estimate, can_be_told_apart, differences
from roadworthy.runtime.taxonomy import Taxonomy

GAMBLING, WASSERSTEIN = "arXiv 1908.02711", "arXiv 2008.04751"


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper that a study can test: a metric of one objective against another's."""

    paper: str
    text: str
    reported: str  # the paper's own figures and where they are
    first: str  # name of the objective that the claim is about
    second: str  # name of the one it is compared with
    metric: str  # of image_scores.METRICS, or "group 4": the mean IoU of that importance group
    sign: int = 0  # +1: the first one's figure is larger, -1: smaller; 0: both are alike within `margin`
    margin: float = 0.0  # of the metric; how far apart is still alike


CLAIMS: Sequence[Claim] = (
    Claim(GAMBLING, "Gambling gives better contours than cross-entropy.", "BF-score 73.8 against 71.8, table 6",
          "gambling", "cross-entropy", "bf", 1),
    Claim(GAMBLING, "Gambling's contours lie nearer to the true ones than those of cross-entropy.",
          "Hausdorff distance 16.0 against 17.9, table 6", "gambling", "cross-entropy", "hausdorff_px", -1),
    Claim(GAMBLING, "Gambling gives better contours than focal loss.", "BF-score 73.8 against 71.4, table 6",
          "gambling", "focal", "bf", 1),
    Claim(GAMBLING, "Gambling gives better contours than a real/fake discriminator.", "BF-score 73.8 against 72.7, table 6",
          "gambling", "adversarial", "bf", 1),
    Claim(GAMBLING, "Gambling gives better contours than EL-GAN.", "BF-score 73.8 against 69.6, table 6",
          "gambling", "el-gan", "bf", 1),
    Claim(GAMBLING, "On CamVid a real/fake discriminator has a higher mean IoU than gambling.",
          "mean IoU 72.7 against 72.1, table 6", "adversarial", "gambling", "miou", 1),
    Claim(GAMBLING, "A real/fake discriminator makes the segmenter surer of itself.",
          "mean max-probability 98.4 % against 90.7 %, table 1 (Cityscapes)",
          "adversarial", "cross-entropy", "mean_max_probability", 1),
    Claim(GAMBLING, "EL-GAN makes the segmenter surer of itself.",
          "mean max-probability 98.9 % against 90.7 %, table 1 (Cityscapes)",
          "el-gan", "cross-entropy", "mean_max_probability", 1),
    Claim(GAMBLING, "Gambling leaves the segmenter as unsure as cross-entropy does (here: within the 2.4 points that are the "
          "paper's own spread).", "mean max-probability 91.4 ± 2.4 % against 90.7 ± 2.3 %, table 1 (Cityscapes)",
          "gambling", "cross-entropy", "mean_max_probability", 0, 0.024),
    Claim(WASSERSTEIN, "Wasserstein training finds the most important classes better than cross-entropy.",
          "pedestrian 71.3 against 64.6, bike 60.0 against 38.6, table II (FCN)", "wasserstein", "cross-entropy", "group 4", 1),
    Claim(WASSERSTEIN, "Wasserstein training finds the most important classes better than importance-aware loss.",
          "pedestrian 71.3 against 69.5, bike 60.0 against 57.6, table II (FCN)",
          "wasserstein", "importance-aware", "group 4", 1),
    Claim(WASSERSTEIN, "Importance-aware loss finds the most important classes better than cross-entropy.",
          "pedestrian 69.5 against 64.6, bike 57.6 against 38.6, table II (FCN)",
          "importance-aware", "cross-entropy", "group 4", 1),
    Claim(WASSERSTEIN, "Wasserstein training raises the mean IoU over cross-entropy.", "72.4 against 69.6, table II (FCN)",
          "wasserstein", "cross-entropy", "miou", 1),
    Claim(WASSERSTEIN, "Wasserstein training makes less severe mistakes than cross-entropy (here: in-sample, on the matrix it "
          "learnt with).", "confusion statistics of one class, figure 5",
          "wasserstein", "cross-entropy", "expected_severity", -1),
)  # fmt: skip

# What these papers claim and a study of segmentation on one data set cannot test.
NOT_TESTED: Sequence[tuple[str, str, str]] = (
    (GAMBLING, "The same order on Cityscapes with U-Net and PSPNet (tables 2 to 5).", "another data set and other networks"),
    (GAMBLING, "The gain is largest for fine structures (tables 3 and 4).", "there is no comparison per class here"),
    (WASSERSTEIN, "The same on Cityscapes with SegNet, ENet and FCN (table I).", "another data set"),
    (WASSERSTEIN, "Conservative targets help self-training from GTA5 to Cityscapes (table III).", "other data sets"),
    (WASSERSTEIN, "A driver on the segmenter's latents goes further between infractions (tables IV to VI).",
     "nothing is driven here; the quick study drives"),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a study says to a claim."""

    claim: Claim
    answer: str  # "seen", "not seen" or "not tested"
    reason: str
    difference: Estimate | None = None  # first - second


def judge_claims(
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]],
    taxonomy: Taxonomy,
    *,
    seed: int = 0,
    claims: Sequence[Claim] = CLAIMS,
) -> list[Finding]:
    """Judge every claim on what `evaluate` wrote, by name of the objective and training seed.

    All claims together share a chance of 5 % of one false "seen" (Bonferroni). What the luck of the seeds contributes is taken
    from all objectives, see `differences`. A claim of likeness is seen where the whole interval lies within its margin.
    """
    testable = [claim for claim in claims if claim.first in evaluations and claim.second in evaluations]
    scores = read_scores(evaluations)
    cost = np.array(next(iter(evaluations.values()))[0]["ground"]["cost"], np.float64)
    resampling = resample_images(next(iter(scores.values())), seed)
    level = 1 - (1 - LEVEL) / max(len(testable), 1)
    seen: dict[tuple[str, str, str], Estimate] = {}  # by metric and pair
    for metric in dict.fromkeys(claim.metric for claim in testable):
        statistics = {
            name: mean_over_seeds([_statistic(score, metric, cost, taxonomy) for score in each])
            for name, each in scores.items()
        }
        pairs = [(claim.first, claim.second) for claim in testable if claim.metric == metric]
        for pair in differences(statistics, resampling, level, pairs, share=False):
            seen[metric, pair.first, pair.second] = pair.estimate
    found = []
    for claim in claims:
        lacking = [name for name in (claim.first, claim.second) if name not in evaluations]
        if lacking:
            found.append(Finding(claim, "not tested", f"the study has no {' and no '.join(lacking)}"))
            continue
        found.append(_judge(claim, seen[claim.metric, claim.first, claim.second], resampling.clusters))
    return found


def _statistic(score: ImageScores, metric: str, cost: np.ndarray[Any, Any], taxonomy: Taxonomy) -> Statistic:
    if metric.startswith("group "):
        return score.group_statistics(group_members(taxonomy))[int(metric.removeprefix("group "))]
    return score.statistics(cost)[metric]


def _judge(claim: Claim, difference: Estimate, clusters: int) -> Finding:
    """Hold the interval of a difference against what the claim expects."""
    if claim.sign == 0:
        within = -claim.margin <= difference.low and difference.high <= claim.margin
        reason = "the interval lies within the margin" if within else "the interval reaches beyond the margin"
        return Finding(claim, "seen" if within else "not seen", reason, difference)
    if not can_be_told_apart(difference, clusters):
        return Finding(claim, "not seen", "the two cannot be told apart", difference)
    if difference.value * claim.sign > 0:
        return Finding(claim, "seen", "the interval excludes zero", difference)
    return Finding(claim, "not seen", "the opposite was found", difference)
