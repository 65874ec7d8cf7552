"""Who takes part in a study: every segmenter that it trains, and every model that is ready; and the rows that seeds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from roadworthy.eval.folder import JUDGE, TRUTH, file_stem, objective_labels, segmenter_name
from roadworthy.eval.study import StudyConfig
from roadworthy.runtime.errors import BadInput
from roadworthy.train.objectives.spec import parse_spec

SEVERITY_OBJECTIVES = ("wasserstein",)  # they learn on the ground matrix that the evaluation scores with


class Entrant(NamedTuple):
    """One segmenter of a study."""

    name: str  # of its files and jobs
    label: str  # for people
    row: str  # name of the row of the tables that it shares with the other seeds of its training
    row_label: str
    model: str  # of train.models; "" for a ready model
    objective: str  # as train.objectives spells it; "" for a ready model
    seed: int | None  # of its training
    path: str | None = None  # of a ready model


def entrants(study: StudyConfig) -> list[Entrant]:
    """List every segmenter of the study: models x objectives x seeds, then those that are ready.

    Raises `BadInput` when two would have one name.
    """
    found: list[Entrant] = []
    if (plan := study.train) is not None:
        for model in plan.models:
            for objective, label in zip(plan.objectives, objective_labels(plan.objectives), strict=True):
                whole = label if len(plan.models) == 1 else f"{model}, {label}"
                for seed in plan.seeds:
                    seeded = f"{whole} (seed {seed})" if len(plan.seeds) > 1 else whole
                    found.append(Entrant(segmenter_name(whole, seed), seeded, file_stem(whole), whole, model, objective, seed))
    for ready in study.models:
        stem = file_stem(ready.name)
        found.append(Entrant(stem, ready.name, stem, ready.name, "", "", None, ready.path))
    names = [JUDGE, TRUTH, *(entrant.name for entrant in found)]
    twice = [name for name in names if names.count(name) > 1] or [
        entrant.name
        for entrant in found
        if entrant.path is not None and entrant.row in {o.row for o in found if o.path is None}
    ]
    if twice:
        raise BadInput(f"{study.name}: two segmenters would be called {twice[0]!r}; give the ready model another name")
    return found


def rows(members: Sequence[Entrant]) -> dict[str, list[Entrant]]:
    """Put the seeds of one training together: row name -> its entrants, in their order."""
    found: dict[str, list[Entrant]] = {}
    for entrant in members:
        found.setdefault(entrant.row, []).append(entrant)
    return found


def in_sample_severity(objective: str) -> bool:
    """Tell whether the objective (as `train.objectives` spells it) learns on the evaluation's ground matrix."""
    return bool(objective) and any(term.name in SEVERITY_OBJECTIVES for term in parse_spec(objective))


def has_gambler(objective: str) -> bool:
    """Tell whether the objective trains a gambler, whose betting maps can be shown."""
    return bool(objective) and any(term.name == "gambling" for term in parse_spec(objective))


def has_critic(objective: str) -> bool:
    """Tell whether the objective trains a second network beside the segmenter."""
    return any(term.name in ("gambling", "adversarial", "el-gan") for term in parse_spec(objective))
