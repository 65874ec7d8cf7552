"""The Wasserstein loss against a one-hot target, in the closed form and faster than cross-entropy on a CPU.

With a one-hot target the whole predicted mass moves to the true class t, so the distance is L = Σ_p s_p·cost[t, p]
(arXiv 2008.04751, eq. 2), and its gradient by the logits is s_p·(cost[t, p] − L). Value and gradient are made together in
the forward pass, in chunks of pixels that stay in the cache: no [P, N] tensor lives beside the gradient itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from roadworthy.runtime.taxonomy import IGNORE

CHUNK_PIXELS = 32_768  # per step on a CPU; much smaller chunks stall on a busy machine
CHUNK_PIXELS_GPU = 1 << 22  # a GPU wants large launches; this bounds the memory


def wasserstein(logits: Tensor, target: Tensor, cost: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Return Σ_p softmax(logits)_p · cost[true, p], averaged over labelled pixels.

    `logits [B, N, H, W]`, `target [B, H, W]` int64, `cost [N, N]` truth first (see `ground.GroundMatrix`; no gradient
    flows to it). Half-precision logits are computed in float32. Raises ValueError for shapes that do not fit.
    """
    classes = logits.shape[1]
    if cost.shape != (classes, classes):
        raise ValueError(f"cost has shape {tuple(cost.shape)}, expected ({classes}, {classes}) to match logits")
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(f"target has shape {tuple(target.shape)}, expected {(logits.shape[0], *logits.shape[2:])}")
    loss: Tensor = _WassersteinFunction.apply(logits, target, cost, ignore_index)  # type: ignore[no-untyped-call]
    return loss


def _value_and_gradient(
    logits: Tensor, target: Tensor, cost: Tensor, ignore_index: int, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the loss (scalar) and, if wanted, its gradient by the logits `[B, N, H, W]`, in the logits' memory format."""
    batch, classes, height, width = logits.shape
    dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
    # A last column of zeros stands for the ignored label: its pixels cost nothing and pull nowhere.
    by_truth = torch.zeros((classes, classes + 1), dtype=dtype, device=logits.device)
    by_truth[:, :classes] = cost.to(dtype=dtype, device=logits.device).T  # by_truth[p, t] = cost[t, p]
    labels = target.reshape(batch, height * width)  # [B, H * W]
    scale = 1.0 / (target != ignore_index).sum().clamp(min=1).to(dtype)  # scalar
    rows_last = not logits.is_contiguous() and logits.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.empty_like(logits) if with_gradient else None
    chunk = CHUNK_PIXELS_GPU if logits.is_cuda else CHUNK_PIXELS
    total = torch.zeros((), dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=logits.device)
    if rows_last:  # pixel rows [B * H * W, N]: one row holds one pixel's classes
        rows = logits.permute(0, 2, 3, 1).reshape(-1, classes)
        gradient_rows = None if gradient is None else gradient.permute(0, 2, 3, 1).view(-1, classes)
        table, labels = by_truth.T.contiguous(), labels.view(-1)
        for start in range(0, rows.shape[0], chunk):
            part = slice(start, start + chunk)
            probability = torch.softmax(rows[part], 1, dtype=dtype)  # [P, N]
            truth = torch.where(labels[part] == ignore_index, classes, labels[part])  # [P]
            priced = table.index_select(0, truth)  # [P, N], the cost of each prediction there
            loss = (probability * priced).sum(1, keepdim=True)  # [P, 1]
            total += loss.sum()
            if gradient_rows is not None:
                gradient_rows[part] = priced.sub_(loss).mul_(probability).mul_(scale)
    else:  # channel planes [N, H * W] of one image at a time
        planes = logits.reshape(batch, classes, height * width)
        gradient_planes = None if gradient is None else gradient.view(batch, classes, height * width)
        for image in range(batch):
            for start in range(0, height * width, chunk):
                part = slice(start, start + chunk)
                probability = torch.softmax(planes[image, :, part], 0, dtype=dtype)  # [N, P]
                truth = torch.where(labels[image, part] == ignore_index, classes, labels[image, part])  # [P]
                priced = by_truth.index_select(1, truth)  # [N, P]
                loss = (probability * priced).sum(0)  # [P]
                total += loss.sum()
                if gradient_planes is not None:
                    gradient_planes[image, :, part] = priced.sub_(loss).mul_(probability).mul_(scale)
    return (total * scale).to(dtype), gradient


class _WassersteinFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, target: Tensor, cost: Tensor, ignore_index: int) -> Tensor:
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        value, gradient = _value_and_gradient(logits, target, cost, ignore_index, wanted)
        ctx.save_for_backward(logits, target, cost)
        ctx.ignore_index = ignore_index  # type: ignore[attr-defined]
        ctx.gradient = gradient  # type: ignore[attr-defined]
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, outer: Tensor) -> tuple[Tensor, None, None, None]:
        # The first call hands its buffer over (scaled in place, no second copy); with retain_graph later calls recompute it.
        gradient, ctx.gradient = ctx.gradient, None  # type: ignore[attr-defined]
        if gradient is None:
            logits, target, cost = ctx.saved_tensors  # type: ignore[attr-defined]
            _, gradient = _value_and_gradient(logits, target, cost, ctx.ignore_index, True)  # type: ignore[attr-defined]
        return gradient.mul_(outer), None, None, None
