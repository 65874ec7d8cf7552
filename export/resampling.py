"""Enlarging maps with numpy, as the ONNX operator Resize defines it: what adopted graphs are checked against."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def upsample_bilinear(maps: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Enlarge `[B, C, h, w]` to `[B, C, height, width]` bilinearly, cell centres at half pixels (`half_pixel`)."""
    for axis, size in ((2, height), (3, width)):
        have = maps.shape[axis]
        if have == size:
            continue
        places = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)  # [size], in cells
        low = np.floor(places).astype(np.int64)
        high = np.minimum(low + 1, have - 1)
        weight = (places - low).astype(np.float32).reshape((-1, 1) if axis == 2 else (-1,))
        maps = np.take(maps, low, axis) * (1 - weight) + np.take(maps, high, axis) * weight
    return maps


def upsample_nearest(ids: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Enlarge `[B, h, w]` to `[B, height, width]`, each pixel taking the cell it lies in (`asymmetric`, `floor`)."""
    rows = np.arange(height) * ids.shape[1] // height
    columns = np.arange(width) * ids.shape[2] // width
    return ids[:, rows][:, :, columns]
