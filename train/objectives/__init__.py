"""Objectives, by name. A new one is one file and one line of `OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from roadworthy.runtime.errors import BadInput
from roadworthy.train.objectives.advent import AdvEnt, AdvEntOptions
from roadworthy.train.objectives.adversarial import Adversarial, AdversarialOptions
from roadworthy.train.objectives.cross_entropy import CrossEntropy, CrossEntropyOptions
from roadworthy.train.objectives.el_gan import ElGan, ElGanOptions
from roadworthy.train.objectives.focal import Focal, FocalOptions
from roadworthy.train.objectives.gambling import Gambling, GamblingOptions
from roadworthy.train.objectives.importance_aware import ImportanceAware, ImportanceAwareOptions
from roadworthy.train.objectives.minent import MinEnt, MinEntOptions
from roadworthy.train.objectives.objective import Batch, Objective, Schedule, Setting
from roadworthy.train.objectives.scene_adaptation import SceneAdaptation, SceneAdaptationOptions
from roadworthy.train.objectives.self_training import SelfTraining, SelfTrainingOptions
from roadworthy.train.objectives.spec import parse_spec, read_options
from roadworthy.train.objectives.wasserstein import Wasserstein, WassersteinOptions
from roadworthy.train.objectives.weighted_sum import WeightedSum

__all__ = [
    "OBJECTIVES",
    "Batch",
    "Objective",
    "Schedule",
    "Setting",
    "adapts",
    "build_objective",
    "check_spec",
    "supervised_objectives",
]


class Kind(NamedTuple):
    """A registered objective: its options dataclass and how to build it from them."""

    options: type[Any]
    build: Callable[[Any, Setting], Objective]


OBJECTIVES: Mapping[str, Kind] = {
    "cross-entropy": Kind(CrossEntropyOptions, CrossEntropy),
    "focal": Kind(FocalOptions, Focal),
    "importance-aware": Kind(ImportanceAwareOptions, ImportanceAware),
    "adversarial": Kind(AdversarialOptions, Adversarial),
    "el-gan": Kind(ElGanOptions, ElGan),
    "gambling": Kind(GamblingOptions, Gambling),
    "wasserstein": Kind(WassersteinOptions, Wasserstein),
    # Terms for the frames of a target domain that nobody labelled, beside one of the above.
    "minent": Kind(MinEntOptions, MinEnt),
    "advent": Kind(AdvEntOptions, AdvEnt),
    "scene-adaptation": Kind(SceneAdaptationOptions, SceneAdaptation),
    "self-training": Kind(SelfTrainingOptions, SelfTraining),
}


def supervised_objectives() -> tuple[str, ...]:
    """Return the names of those that learn from labels, and so can stand alone."""
    return tuple(name for name, kind in OBJECTIVES.items() if getattr(kind.build, "supervised", True))


def adapts(name: str) -> bool:
    """Tell whether the objective called `name` learns from unlabelled frames of a target domain."""
    return bool(getattr(OBJECTIVES[name].build, "adapts", False))


def check_spec(spec: str) -> None:
    """Raise `BadInput` if `spec` does not name known objectives with known options."""
    for term in parse_spec(spec):
        _options(term.name, term.options)


def build_objective(spec: str, setting: Setting) -> Objective:
    """Build the objective that `spec` describes, for instance "cross-entropy + 0.5*wasserstein(metric=huber)".

    Raises `BadInput` for one that would not learn from labels.
    """
    terms = parse_spec(spec)
    parts = [(term.weight, OBJECTIVES[term.name].build(_options(term.name, term.options), setting)) for term in terms]
    if not any(part.supervised for _, part in parts):
        raise BadInput(
            f"objective {spec!r} learns from unlabelled frames alone; add a term for the labelled ones: "
            f"'cross-entropy + {spec}'"
        )
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1.0 else WeightedSum(parts)


def _options(name: str, texts: dict[str, str]) -> object:
    if name not in OBJECTIVES:
        raise BadInput(f"unknown objective {name!r}; known: {', '.join(OBJECTIVES)}")
    return read_options(OBJECTIVES[name].options, texts, name)
