"""What the papers claim of the step from the town to CamVid, and how a study's intervals answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadworthy.eval.adaptation_plan import BOTH, SOURCE_ONLY, STATISTICS


@dataclass(frozen=True)
class Claim:
    """A paper's sentence: the method `first` is better than each of `others`."""

    sentence: str
    first: str
    others: tuple[str, ...]


# That adapting helps needs both: the target's frames in batch normalisation alone may explain a gain on source-only training.
CONTROLS = (SOURCE_ONLY, STATISTICS)

CLAIMS: Sequence[Claim] = (
    Claim("Entropy minimisation improves on source-only training (ADVENT).", "MinEnt", CONTROLS),
    Claim("Adversarial entropy minimisation improves on source-only training (ADVENT).", "AdvEnt", CONTROLS),
    Claim("AdvEnt is better than MinEnt (ADVENT).", "AdvEnt", ("MinEnt",)),
    Claim("Both together are better than either (ADVENT).", BOTH, ("MinEnt", "AdvEnt")),
    Claim("Conservative self-training improves on source-only training (CRST).", "CRST-LRENT, cross-entropy", CONTROLS),
    Claim("On conservative labels the Wasserstein loss is better than cross-entropy (arXiv 2008.04751, table III).",
          "CRST-LRENT, Wasserstein", ("CRST-LRENT, cross-entropy",)),
)  # fmt: skip


def claimed_pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs that decide those claims of which a study has all methods."""
    tested = [claim for claim in CLAIMS if claim.first in methods and set(claim.others) <= set(methods)]
    return [(claim.first, other) for claim in tested for other in claim.others]


def claims(facts: Mapping[str, Any]) -> list[str]:
    """Return each claim with what the study saw of it."""
    known = {(each["first"], each["second"]): each for each in facts["differences"]}
    return [f"{claim.sentence} Here: {_answer(claim, known)}." for claim in CLAIMS]


def _answer(claim: Claim, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    found = {other: known.get((claim.first, other)) for other in claim.others}
    lacking = [other for other, difference in found.items() if difference is None]
    if lacking:
        return f"not tested: the study does not compare {claim.first} with {' and '.join(lacking)}"
    signs = {other: _sign(difference) for other, difference in found.items() if difference is not None}
    against = "; ".join(f"against {other} {signed(each)}" for other, each in found.items() if each is not None)
    if all(sign > 0 for sign in signs.values()):
        return f"seen ({against})"
    if signs.get(SOURCE_ONLY, 0) > 0:
        return f"explained by batch statistics: better than {SOURCE_ONLY}, not than {STATISTICS} ({against})"
    if any(sign < 0 for sign in signs.values()):
        worse = " and ".join(other for other, sign in signs.items() if sign < 0)
        return f"not seen: it is worse than {worse} ({against})"
    unclear = " and ".join(other for other, sign in signs.items() if sign == 0)
    return f"not seen: cannot be told apart from {unclear} ({against})"


def _sign(difference: Mapping[str, Any]) -> int:
    """Return 1 for better, -1 for worse, and 0 where the data cannot tell."""
    if not difference["distinguishable"]:
        return 0
    return 1 if difference["value"] > 0 else -1


def signed(difference: Mapping[str, Any]) -> str:
    """Return a difference in points with its interval and the interval's level, as text."""
    points = f"{100 * difference['value']:+.1f} points"
    if difference["low"] is None:
        return f"{points}, no interval"
    low, high = f"{100 * difference['low']:+.1f}", f"{100 * difference['high']:+.1f}"
    return f"{points}, {100 * difference['level']:.4g} % interval {low} to {high}"
