"""2x2 max pooling that remembers where each maximum was, and the unpooling that puts values back there.

Two forms of the same function. The *native* form uses torch's index kernels. The *position* form is built from
reshape, max and where only, so that ONNX Runtime, OpenVINO and TensorRT all run it; the exporter takes it by itself.
They are bit-identical, ties included (the first maximum of a window in row-major order wins in both).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW = 4  # elements of a 2x2 window


def max_pool(features: Tensor) -> tuple[Tensor, Tensor]:
    """Halve `[B, C, H, W]` (H and W even): the maxima `[B, C, H/2, W/2]` and where they were, for `max_unpool`."""
    if torch.compiler.is_exporting():
        return max_pool_position(features)
    return F.max_pool2d(features, 2, stride=2, return_indices=True)


def max_unpool(values: Tensor, where: Tensor) -> Tensor:
    """Put `values [B, C, h, w]` back to where `max_pool` found the maxima: `[B, C, 2h, 2w]`, zero elsewhere."""
    if torch.compiler.is_exporting():
        return max_unpool_position(values, where)
    return F.max_unpool2d(values, where, [2, 2], stride=[2, 2])


def max_pool_position(features: Tensor) -> tuple[Tensor, Tensor]:
    """`max_pool` in position form: the maxima and the position 0-3 of each inside its window, both `[B, C, H/2, W/2]`."""
    batch, channels, height, width = features.shape
    windows = features.reshape(batch, channels, height // 2, 2, width // 2, 2)
    windows = windows.permute(0, 1, 2, 4, 3, 5).reshape(batch, channels, height // 2, width // 2, _WINDOW)
    return windows.amax(-1), windows.argmax(-1)  # [B, C, H/2, W/2, 4] -> [B, C, H/2, W/2]


def max_unpool_position(values: Tensor, position: Tensor) -> Tensor:
    """`max_unpool` in position form, for the positions that `max_pool_position` gives."""
    batch, channels, height, width = values.shape
    slots = torch.arange(_WINDOW, device=values.device)
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    windows = torch.where(position.unsqueeze(-1) == slots, values.unsqueeze(-1), zero)  # [B, C, h, w, 4]
    windows = windows.reshape(batch, channels, height, width, 2, 2).permute(0, 1, 2, 4, 3, 5)  # [B, C, h, 2, w, 2]
    return windows.reshape(batch, channels, 2 * height, 2 * width)
