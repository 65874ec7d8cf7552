"""The Wasserstein loss against soft targets: entropy-regularised transport, solved for all pixels at once.

With a target that is not one-hot the transport plan has to be found (arXiv 2008.04751, section III-A, "conservative"
labels). Sinkhorn's iterations find the plan of min_P ⟨P, cost⟩ − ε·H(P). The pixels share one kernel exp(−cost / ε), so one
iteration is two [N, N] x [N, pixels] products. The loss is the transport cost ⟨P, cost⟩ of that plan. Its gradient is not
taken through the iterations: it is the dual potential of the prediction, which is the derivative of the regularised cost
(Frogner et al., arXiv 1506.05439, proposition 4.1; POT calls it the envelope gradient). So the gradient is not the
derivative of the value, and a training rests where the prediction is the target blurred by the kernel: the smaller ε,
the sharper.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK_PIXELS = 32_768  # per step on a CPU; with smaller chunks the threads of a busy machine wait for each other more often
CHUNK_PIXELS_GPU = 1 << 19  # a GPU wants large launches; this bounds the memory
# Below this share of the largest cost the kernel leaves float32's range, and a fixed number of iterations is far from done:
# the solver goes to the log domain there and iterates to a tolerance.
LOG_DOMAIN_BELOW = 0.05
LOG_CHUNK_PIXELS = 1024  # there a chunk also holds N·N values per pixel
LOG_CHUNK_PIXELS_GPU = 1 << 16
LOG_TOLERANCE = 1e-4  # mass, largest error of any class's target marginal when the log domain stops (float64: 1e-8)
LOG_CHECK_EVERY = 10  # iterations between two looks at that error
LOG_MAX_ITERATIONS = 20_000  # reaching it is a warning


def sinkhorn_wasserstein(
    logits: Tensor, target_probs: Tensor, cost: Tensor, epsilon: float = 0.1, iterations: int = 50
) -> Tensor:
    """Return the regularised transport's cost from softmax(logits) to `target_probs`, averaged over labelled pixels.

    `logits` and `target_probs [B, N, H, W]`; a pixel's target sums to 1, or is all zero where there is no label: such a pixel
    adds exactly nothing. `cost [N, N]` is truth first, with a largest entry of about 1, and `epsilon` is on its scale. No
    gradient flows to the target or the cost. Half-precision logits are computed in float32. `iterations` are run as they
    are while epsilon is at least 0.05·max(cost); below, the log domain takes over and iterates until every pixel's marginals
    fit to `LOG_TOLERANCE` (warning if that takes more than `LOG_MAX_ITERATIONS`).

    Raises ValueError for shapes that do not fit and for an epsilon or iterations that are not above 0.
    """
    classes = logits.shape[1]
    if cost.shape != (classes, classes):
        raise ValueError(f"cost has shape {tuple(cost.shape)}, expected ({classes}, {classes}) to match logits")
    if target_probs.shape != logits.shape:
        raise ValueError(f"target_probs has shape {tuple(target_probs.shape)}, expected {tuple(logits.shape)} as logits")
    if not epsilon > 0 or iterations < 1:
        raise ValueError(f"epsilon is {epsilon} and iterations {iterations}, expected a number above 0 and at least 1")
    loss: Tensor = _SinkhornFunction.apply(logits, target_probs, cost, epsilon, iterations)  # type: ignore[no-untyped-call]
    return loss


class _SinkhornFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, target_probs: Tensor, cost: Tensor, epsilon: float, iterations: int
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        with torch.autocast(logits.device.type, enabled=False):  # a product in half precision would lose the small masses
            found = _value_and_gradient(logits, target_probs, cost, epsilon, iterations, wanted)
        value: Tensor = found[0]
        gradient: Tensor | None = found[1]
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        return gradient * outer, None, None, None, None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # unrolled into a graph the loops would compile for minutes
def _value_and_gradient(
    logits: Tensor, target_probs: Tensor, cost: Tensor, epsilon: float, iterations: int, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the loss (scalar) and, if wanted, its gradient by the logits `[B, N, H, W]`."""
    batch, classes, height, width = logits.shape
    dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
    table = cost.to(dtype=dtype, device=logits.device)  # [N, N], truth first
    log_domain = epsilon < LOG_DOMAIN_BELOW * float(table.max())
    if log_domain:
        chunk = LOG_CHUNK_PIXELS_GPU if logits.is_cuda else LOG_CHUNK_PIXELS
    else:
        chunk = CHUNK_PIXELS_GPU if logits.is_cuda else CHUNK_PIXELS
    planes = logits.reshape(batch, classes, height * width)  # [B, N, H * W]
    targets = target_probs.reshape(batch, classes, height * width)
    gradient = torch.empty_like(planes, memory_format=torch.contiguous_format) if with_gradient else None
    total = torch.zeros((), dtype=dtype, device=logits.device)
    labelled = torch.zeros((), dtype=torch.int64, device=logits.device)
    for image in range(batch):
        for start in range(0, height * width, chunk):
            part = slice(start, start + chunk)
            log_prediction = torch.log_softmax(planes[image, :, part], 0, dtype=dtype)  # [N, P]
            target = targets[image, :, part].to(dtype)  # [N, P]
            mass = target.sum(0)  # [P]
            valid = mass > 0  # [P]
            target = torch.where(valid, target / mass, 1.0 / classes)  # without a label: anything that can be solved
            if log_domain:
                losses, potential = _solve_log_domain(log_prediction, target, table, epsilon)
            else:
                losses, potential = _solve(log_prediction, target, table, epsilon, iterations)  # [P], [N, P]
            total += (losses * valid).sum()
            labelled += valid.sum()
            if gradient is not None:
                prediction = log_prediction.exp_()
                # Through the softmax, which also takes out the constant that a potential is known up to.
                centred = potential.sub_((prediction * potential).sum(0))  # [N, P]
                gradient[image, :, part] = centred.mul_(prediction).mul_(valid)
    count = labelled.clamp(min=1)
    return total / count, None if gradient is None else (gradient / count.to(gradient.dtype)).view_as(logits)


def _solve(log_prediction: Tensor, target: Tensor, cost: Tensor, epsilon: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Return transport costs `[P]` and prediction potentials `[N, P]` after so many iterations of scaling the kernel."""
    kernel = torch.exp(-cost / epsilon)  # [N, N], truth first
    transposed = kernel.T.contiguous()
    prediction = log_prediction.exp()  # [N, P]
    by_prediction, by_truth, blurred = torch.ones_like(target), torch.empty_like(target), torch.empty_like(target)  # [N, P]
    for _ in range(iterations):
        torch.mm(kernel, by_prediction, out=blurred)
        torch.div(target, blurred, out=by_truth)
        torch.mm(transposed, by_truth, out=blurred)
        torch.div(prediction, blurred, out=by_prediction)  # last, so that the plan has the prediction's marginal exactly
    losses = torch.mm((kernel * cost).T, by_truth).mul_(by_prediction).sum(0)  # [P], Σ plan·cost
    return losses, blurred.log_().neg_().add_(log_prediction).mul_(epsilon)  # ε log(prediction / blurred), exact at zero


def _solve_log_domain(log_prediction: Tensor, target: Tensor, cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return transport costs `[P]` and prediction potentials `[N, P]`, iterated until the marginals fit."""
    tolerance = LOG_TOLERANCE if cost.dtype == torch.float32 else LOG_TOLERANCE**2
    priced = cost.unsqueeze(2)  # [N, N, 1], truth first
    log_target = target.log()  # [N, P], -inf for a class without mass

    def truth_potential(potential: Tensor, columns: Tensor | slice, temperature: float) -> Tensor:
        return temperature * (log_target[:, columns] - torch.logsumexp((potential - priced) / temperature, 1))  # [N, P]

    def prediction_potential(potential: Tensor, columns: Tensor | slice, temperature: float) -> Tensor:
        pulled = torch.logsumexp((potential.unsqueeze(1) - priced) / temperature, 0)  # [N, N, P] -> [N, P]
        return temperature * (log_prediction[:, columns] - pulled)

    of_prediction = torch.zeros_like(target)  # [N, P]
    of_truth = torch.zeros_like(target)
    # From a large ε down to the one asked for, each starting from the potentials before: many times fewer iterations.
    temperature = float(cost.max())
    while temperature > epsilon:
        for _ in range(LOG_CHECK_EVERY):
            of_truth = truth_potential(of_prediction, slice(None), temperature)
            of_prediction = prediction_potential(of_truth, slice(None), temperature)
        temperature /= 2
    left = torch.arange(target.shape[1], device=target.device)  # the pixels that are not done
    for _ in range(0, LOG_MAX_ITERATIONS, LOG_CHECK_EVERY):
        f, g = of_truth[:, left], of_prediction[:, left]
        for _ in range(LOG_CHECK_EVERY):
            f = truth_potential(g, left, epsilon)
            g = prediction_potential(f, left, epsilon)
        of_truth[:, left], of_prediction[:, left] = f, g
        error = (_plan(f, g, priced, epsilon).sum(1) - target[:, left]).abs().amax(0)  # [P]
        left = left[error > tolerance]
        if not left.numel():
            break
    else:
        warnings.warn(
            f"Sinkhorn with epsilon={epsilon:g} left {left.numel()} pixels with a marginal error above {tolerance:g} after "
            f"{LOG_MAX_ITERATIONS} iterations; a larger epsilon converges faster",
            RuntimeWarning,
            stacklevel=2,
        )
    losses = (_plan(of_truth, of_prediction, priced, epsilon) * priced).sum((0, 1))  # [P]
    return losses, of_prediction


def _plan(of_truth: Tensor, of_prediction: Tensor, priced: Tensor, epsilon: float) -> Tensor:
    """Return the transport plans `[N, N, P]`, truth first, that potentials `[N, P]` of truth and prediction stand for."""
    return torch.exp((of_truth.unsqueeze(1) + of_prediction.unsqueeze(0) - priced) / epsilon)
