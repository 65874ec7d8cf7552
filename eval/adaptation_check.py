"""Finds what is wrong with an adaptation study before its hours of recording and training begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from roadworthy.agent.town import maps
from roadworthy.eval.adaptation_plan import AdaptationStudy, Training, drives_plan, views_plan
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import get_taxonomy
from roadworthy.train.data import open_dataset
from roadworthy.train.ground import open_ground
from roadworthy.train.models import build_model
from roadworthy.train.objectives import Batch, Setting, build_objective


def check_before_recording(study: AdaptationStudy, trainings: Sequence[Training]) -> None:
    """Raise `BadInput` for towns and data sets that are not there, and for trainings whose first losses cannot be had."""
    towns = []
    if study.scenes is not None:
        views = views_plan(study.scenes)
        views.check(f"{study.name}: scenes")
        towns.append(views.town)
    if study.real is not None:
        drives_plan(study, study.real).check()
        towns += study.real.towns
        for split in ("train", "val"):
            open_dataset(f"camvid:{study.real.camvid}", split)
    for town in towns if study.carla is None else ():
        if town not in maps.names() and not Path(town).is_file():
            known = ", ".join(maps.names())
            raise BadInput(f"{study.name}: no town {town!r}; the embedded server has {known}, and takes .xodr files")
    tried = set()
    for training in trainings:
        config = training.config
        kind = (config.objective, config.classes, config.target is not None)
        if kind not in tried:
            tried.add(kind)
            _try(training)


def _try(training: Training) -> None:
    """Build what a training learns with and evaluate its losses once, on grey frames. Raises `BadInput` where that fails."""
    config = training.config
    assert config.classes is not None  # a study names them
    taxonomy = get_taxonomy(config.classes)
    classes, (height, width) = len(taxonomy), config.size
    pixels = np.ones(classes, np.int64)
    setting = Setting(config.model, taxonomy, pixels, open_ground(config.ground, taxonomy), config.steps)
    with torch.random.fork_rng(), torch.no_grad():
        model = build_model(config.model, classes)
        objective = build_objective(config.objective, setting)
        if objective.adapts != (config.target is not None):
            expected = "one that does" if config.target is not None else "one that does not"
            raise BadInput(
                f"objective {config.objective!r} {'learns' if objective.adapts else 'does not learn'} from a target's frames, "
                f"expected {expected}"
            )
        if objective.wants_pseudo and training.rounds is None:
            raise BadInput(f"objective {config.objective!r} learns from pseudo-labels, which only the methods CRST-LRENT make")
        frames = torch.zeros(2, 3, height, width)  # [B, 3, H, W]
        batch = Batch(frames, torch.zeros(2, height, width, dtype=torch.int64))
        if objective.adapts:
            uniform = torch.full((2, classes, height, width), 1 / classes)  # [U, N, H, W]
            batch = batch._replace(unlabelled=frames, pseudo=uniform)
        objective.attach(model, objective.critic)
        objective.segmenter_loss(batch)
        if objective.critic is not None:
            objective.critic_loss(batch)
