"""2x2 max pooling that remembers where each maximum was, and the unpooling that puts values back there.

Two forms of the same function. The *native* form uses torch's index kernels. The *position* form is built from
pooling, doubling and comparing only, so that ONNX Runtime, OpenVINO and TensorRT all run it; the exporter takes it by itself.
They are bit-identical, ties included (the first maximum of a window in row-major order wins in both).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """`max_pool` in position form: the maxima `[B, C, H/2, W/2]` and a mask of where they were, `bool [B, C, H, W]`.

    Every window has exactly one True: among equal maxima the one of highest rank, which is the first. Comparing with the
    doubled maxima alone would mark all of them. Pooling and nearest doubling are kernels that every backend has fast: in
    ONNX Runtime this takes a fifth of the time of ArgMax over the windows and Where (16x180x240, two cores).
    """
    height, width = features.shape[2:]
    rank = torch.tensor([[4.0, 3.0], [2.0, 1.0]], dtype=features.dtype, device=features.device)
    ranks = rank.repeat(height // 2, width // 2)  # [2, 2] -> [H, W]
    maxima = F.max_pool2d(features, 2, stride=2)  # [B, C, H, W] -> [B, C, H/2, W/2]
    candidates = (features == _double(maxima)).to(features.dtype) * ranks  # [B, C, H, W], zero where it is no maximum
    return maxima, candidates == _double(F.max_pool2d(candidates, 2, stride=2))


def max_unpool_position(values: Tensor, where: Tensor) -> Tensor:
    """`max_unpool` in position form, for the mask that `max_pool_position` gives."""
    return _double(values) * where.to(values.dtype)


def _double(maps: Tensor) -> Tensor:
    """Repeat every cell of `[B, C, h, w]` twice along both sides: `[B, C, 2h, 2w]`."""
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")
