"""The verdict in plain words: what the figures of a study support, and what they do not.

Nothing here is decided by eye: a model is said to lead only where the paired intervals separate it from every other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Metric -> (name in a sentence, +1 when larger is better, -1 when smaller)
JUDGED: Mapping[str, tuple[str, int]] = {
    "miou": ("mean IoU", 1),
    "bf": ("BF-score", 1),
    "hausdorff_px": ("Hausdorff distance", -1),
    "expected_severity": ("expected severity", -1),
    "ece": ("calibration error", -1),
    "completion": ("route completion", 1),
    "infractions_per_km": ("infractions per kilometre", -1),
}
DRIVING = ("completion", "infractions_per_km")
MOST_LISTED = 3  # pairs that a sentence names one by one


@dataclass(frozen=True)
class Standing:
    """How the models stand on one metric."""

    metric: str
    leader: str | None  # better than every other one, beyond doubt
    apart: tuple[tuple[str, str], ...]  # (better, worse) pairs that the data tell apart
    together: tuple[tuple[str, str], ...]  # pairs that they do not


def standing(metric: str, comparisons: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Standing:
    """Read the pairwise comparisons of one metric."""
    sign = JUDGED[metric][1]
    apart, together = [], []
    for pair in comparisons:
        first, second = str(pair["first"]), str(pair["second"])
        if not pair["distinguishable"]:
            together.append((first, second))
        elif pair["value"] * sign > 0:
            apart.append((first, second))
        else:
            apart.append((second, first))
    leaders = [name for name in names if len(names) > 1 and all((name, other) in apart for other in names if other != name)]
    return Standing(metric, leaders[0] if leaders else None, tuple(apart), tuple(together))


def standings(results: Mapping[str, Any]) -> list[Standing]:
    """Read every metric that may be judged; driving only when all policies drive well enough to judge."""
    names = [str(segmenter["name"]) for segmenter in results["segmenters"]]
    found = []
    for metric in JUDGED:
        if metric in DRIVING and not _fit(results):
            continue
        pairs = results["comparisons"].get(metric) or []
        if pairs:
            found.append(standing(metric, pairs, names))
    return found


def verdict(results: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the headline and the sentences that support or limit it."""
    labels = {str(segmenter["name"]): str(segmenter["label"]) for segmenter in results["segmenters"]}
    judged = standings(results)
    in_sample = {str(segmenter["name"]) for segmenter in results["segmenters"] if segmenter["in_sample_severity"]}
    return _headline(judged, labels, in_sample), [*_per_metric(judged, labels), *_limits(results, labels)]


def _fit(results: Mapping[str, Any]) -> bool:
    return all(segmenter["fit_to_judge"] for segmenter in results["segmenters"])


def _headline(judged: Sequence[Standing], labels: Mapping[str, str], in_sample: Set[str]) -> str:
    """Name who leads; `in_sample` learnt on the matrix that scores expected severity, which is said where it leads on that."""
    won: dict[str, list[str]] = {}
    for item in judged:
        if item.leader is not None:
            own = item.metric == "expected_severity" and item.leader in in_sample
            won.setdefault(item.leader, []).append(JUDGED[item.metric][0] + (" (on the matrix it learnt with)" if own else ""))
    if len(labels) < 2:
        return "One segmenter alone: there is nothing to compare it with."
    if not won:
        return f"This study cannot name a winner among the {len(labels)} segmenters."
    if len(won) == 1:
        ((name, metrics),) = won.items()
        others = len([item for item in judged if item.leader is None])
        rest = f"; on the other {others} measures nobody leads beyond doubt" if others else ""
        return f"{labels[name]} leads on {listed(metrics)}{rest}."
    parts = [f"{labels[name]} leads on {listed(metrics)}" for name, metrics in won.items()]
    return f"No segmenter wins on everything: {'; '.join(parts)}."


def _per_metric(judged: Sequence[Standing], labels: Mapping[str, str]) -> list[str]:
    """Say for each metric which pairs the data tell apart, and which not."""
    sentences = []
    undecided = []
    for item in judged:
        name = JUDGED[item.metric][0]
        if not item.apart:
            undecided.append(name)
            continue
        if not item.together:
            # Every pair is apart: an order. A model's place is the number of models it beats.
            wins = {label: sum(winner == label for winner, _ in item.apart) for label in labels}
            line = sorted(labels, key=lambda label: -wins[label])
            if all((better, worse) in item.apart for better, worse in pairwise(line)):
                order = ", then ".join(labels[label] for label in line)
                sentences.append(f"On {name} the order is clear: {order}.")
                continue
        winners: dict[tuple[str, ...], list[str]] = {}  # by those they beat: who beats the same ones shares a phrase
        for first in dict.fromkeys(first for first, _ in item.apart):
            beaten = tuple(labels[worse] for winner, worse in item.apart if winner == first)
            winners.setdefault(beaten, []).append(labels[first])
        better = [
            f"{listed(each)} {'is' if len(each) == 1 else 'are'} better than {listed(worse)}" for worse, each in winners.items()
        ]
        if len(item.together) <= MOST_LISTED:
            same = listed([f"{labels[first]} from {labels[second]}" for first, second in item.together])
        else:
            same = f"the other {len(item.together)} pairs apart"
        sentences.append(f"On {name} {'; '.join(better)}; the study cannot tell {same}.")
    if undecided:
        sentences.append(f"On {listed(undecided)} the study cannot tell the segmenters apart.")
    return sentences


def _limits(results: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Say what the study cannot know."""
    sentences = []
    driven, trained = results["study"]["drive"] is not None, results["study"]["train"] is not None
    if driven and results["judge_finished"] is not None and not _fit(results):
        sentences.append(
            "Driving decides nothing here: on true labels the judge itself finishes only "
            f"{results['judge_finished']:.0%} of the routes of the training town without help. Train it for longer."
        )
    elif driven and not _fit(results):
        shares = []
        for segmenter in results["segmenters"]:
            share = segmenter["training_finished"]
            shares.append(f"{labels[str(segmenter['name'])]} {'did not drive' if share is None else f'{share:.0%}'}")
        sentences.append(
            "Driving decides nothing here: a policy that cannot finish the training routes judges nobody, and not every policy "
            f"finishes half of them without help (finished in the training town: {', '.join(shares)}). "
            "Train the drivers for longer."
        )
    seeds = len(results["seeds"]["training"])
    if trained and seeds == 1:
        sentences.append(
            "Each objective was trained once: a difference found here is between these trained models. "
            "Whether the objective made it needs several training seeds."
        )
    if driven and len(results["seeds"]["policy"]) < 2:
        whose = "Each segmenter has one driver" if results["judge_finished"] is None else "One judge drove all segmenters"
        sentences.append(f"{whose}: the luck of the policy's training is not in the driving intervals.")
    in_sample = [labels[str(s["name"])] for s in results["segmenters"] if s["in_sample_severity"]]
    if in_sample:
        sentences.append(
            f"{listed(in_sample)} learned on the very matrix that scores expected severity: this figure is in-sample for it."
        )
    return sentences


def listed(items: Sequence[str]) -> str:
    """Join with commas and a final "and"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
