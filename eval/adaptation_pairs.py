"""Which fixed cameras experiment (a) adapts between."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

from roadworthy.agent.views import ViewsPlan, view_names
from roadworthy.runtime.errors import BadInput

POINTS_OF_VIEW, SCENES = "points of view", "scenes"  # kinds of pairs


class ViewPair(NamedTuple):
    """Two recordings of experiment (a): the labels of the one are known, the other is adapted to."""

    kind: str  # POINTS_OF_VIEW or SCENES
    source: str
    target: str
    scenes: tuple[int, int]  # the place of each one's scene in the plan, from 0


def view_pairs(plan: ViewsPlan) -> list[ViewPair]:
    """Return every pair: two views of one scene, and of two scenes those views that are named as the plan's first.

    As published: A1-B1, B1-A1 and so on for points of view, A1-A2, A1-A3 and so on for scenes.
    """
    views = [(place, view) for place, scene in enumerate(plan.scenes) for view in scene.views]  # in the order of view_names
    named = list(zip(view_names(plan), views, strict=True))
    _, first = views[0]
    pairs = []
    for (source, (place, view)), (target, (other_place, other_view)) in permutations(named, 2):
        if place == other_place:
            pairs.append(ViewPair(POINTS_OF_VIEW, source, target, (place, other_place)))
        elif view == other_view == first:
            pairs.append(ViewPair(SCENES, source, target, (place, other_place)))
    return pairs


def check_views(plan: ViewsPlan, source: str) -> None:
    """Raise `BadInput` naming `source` for views that share a recording, or that leave no pair."""
    names = view_names(plan)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(
            f"{source}: scenes: two views would be recorded as {', '.join(twice)} (a view's name, then its scene's number); "
            "name them without digits"
        )
    if not view_pairs(plan):
        raise BadInput(
            f"{source}: scenes: the views {', '.join(names)} leave no pair to adapt between; expected a scene with two views, "
            "or two scenes with a view of one name"
        )
