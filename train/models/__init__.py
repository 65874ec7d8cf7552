"""Segmenters, by name. A new one is one file and one line of `MODELS`."""

from __future__ import annotations

from collections.abc import Mapping

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.enet import ENet
from roadworthy.train.models.prediction import Prediction, Segmenter

__all__ = ["MODELS", "Prediction", "Segmenter", "build_model"]

MODELS: Mapping[str, type[Segmenter]] = {"enet": ENet}


def build_model(name: str, classes: int) -> Segmenter:
    """Build the segmenter called `name` for `classes` classes, randomly initialised from torch's current seed."""
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name](classes)
