"""Painting label ids over a frame, for people to look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import Taxonomy


def overlay(
    frame: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], taxonomy: Taxonomy, alpha: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Blend the class colours over `frame` `uint8 [H, W, 3]` with opacity `alpha`; ignored pixels show the frame.

    `labels` are train ids `uint8 [H, W]`. Raises `BadInput` when the two do not fit each other.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or labels.shape != frame.shape[:2]:
        raise BadInput(f"frame {list(frame.shape)} and labels {list(labels.shape)} do not fit; expected [H, W, 3] and [H, W]")
    if not 0 <= alpha <= 1:
        raise BadInput(f"alpha is {alpha}, expected 0 (frame only) to 1 (colours only)")
    weight = round(alpha * 256)  # in whole 256ths: no float image is made
    colours = taxonomy.colourise(labels)  # [H, W] -> [H, W, 3]
    blended = (frame.astype(np.uint16) * (256 - weight) + colours.astype(np.uint16) * weight + 128) >> 8
    known = (labels < len(taxonomy))[..., None]  # [H, W] -> [H, W, 1]
    return np.where(known, blended, frame).astype(np.uint8)
