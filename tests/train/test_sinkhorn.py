"""The Sinkhorn loss: value and gradient against POT, pixel by pixel, and what bounds its memory, precision and chunks."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from roadworthy.train import sinkhorn
from roadworthy.train.losses import one_hot, sinkhorn_wasserstein, wasserstein

CLASSES = 5


def example(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, soft targets with unlabelled pixels and with classes that have no mass, and a cost matrix; float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, 3, 4, dtype=torch.float64, generator=generator)
    targets = torch.softmax(3 * torch.randn(2, CLASSES, 3, 4, dtype=torch.float64, generator=generator), 1)
    targets[1, 2, 0] = 0
    targets /= targets.sum(1, keepdim=True)
    targets[0, :, 0, :2] = 0  # no label
    cost = torch.rand(CLASSES, CLASSES, dtype=torch.float64, generator=generator).fill_diagonal_(0.0)
    return logits, targets, cost / cost.max()


def by_pot(logits: Tensor, targets: Tensor, cost: Tensor, epsilon: float, **options: float) -> tuple[float, Tensor]:
    """The mean transport cost, and the gradient that POT's dual potentials give through the softmax."""
    probs, price = torch.softmax(logits, 1), np.ascontiguousarray(cost.numpy().T)
    labelled = [place for place in np.ndindex(2, 3, 4) if targets[place[0], :, place[1], place[2]].sum() > 0]
    costs, gradient = [], torch.zeros_like(logits)
    for b, i, j in labelled:
        s, t = probs[b, :, i, j], np.maximum(targets[b, :, i, j].numpy(), 1e-300)
        plan, log = ot.bregman.sinkhorn_log(s.numpy(), t, price, epsilon, log=True, **options)
        costs.append((plan * price).sum())
        potential = torch.from_numpy(epsilon * log["log_u"])
        gradient[b, :, i, j] = s * (potential - (s * potential).sum()) / len(labelled)
    return float(np.mean(costs)), gradient


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.05, 0.03, 0.01])
def test_value_is_pots_transport_cost_and_gradient_its_dual_potential(epsilon: float) -> None:
    logits, targets, cost = example()
    expected, expected_gradient = by_pot(logits, targets, cost, epsilon, numItermax=200_000, stopThr=1e-11)
    for memory in (torch.contiguous_format, torch.channels_last):
        x = logits.clone(memory_format=memory).requires_grad_()
        loss = sinkhorn_wasserstein(x, targets, cost, epsilon, 3000)
        (3 * loss).backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(expected, rel=1e-7)
        assert x.grad is not None
        torch.testing.assert_close(x.grad, 3 * expected_gradient, rtol=0, atol=1e-8)


@pytest.mark.parametrize("iterations", [1, 7, 50])
def test_so_many_iterations_are_pots_so_many_iterations(iterations: int) -> None:
    logits, targets, cost = example(1)
    # POT's sinkhorn_log also updates the target's potential first and the prediction's last.
    with pytest.warns(UserWarning, match="did not converge"):
        expected, gradient = by_pot(logits, targets, cost, 0.1, numItermax=iterations, stopThr=0.0)
    x = logits.requires_grad_()
    loss = sinkhorn_wasserstein(x, targets, cost, 0.1, iterations)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(x.grad, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("epsilon", [0.1, 0.04])
def test_gradient_is_the_derivative_of_the_regularised_cost(epsilon: float) -> None:
    logits, targets, cost = example(2)

    def regularised(x: Tensor, b: int, i: int, j: int) -> float:  # <P, cost> - epsilon H(P) of one pixel
        s, t = torch.softmax(x[b, :, i, j], 0).numpy(), np.maximum(targets[b, :, i, j].numpy(), 1e-300)
        plan = ot.bregman.sinkhorn_log(s, t, cost.numpy().T.copy(), epsilon, numItermax=50_000, stopThr=1e-13)
        return float((plan * cost.numpy().T).sum() + epsilon * (plan * np.log(plan + 1e-300)).sum())

    labelled = int((targets.sum(1) > 0).sum())
    x = logits.clone().requires_grad_()
    sinkhorn_wasserstein(x, targets, cost, epsilon, 3000).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    for b, n, i, j in [(0, 1, 2, 3), (1, 4, 0, 0), (1, 0, 1, 2)]:
        nudge = torch.zeros_like(logits)
        nudge[b, n, i, j] = 1e-4
        higher, lower = (regularised(logits + sign * nudge, b, i, j) for sign in (1, -1))
        slope = (higher - lower) / 2e-4 / labelled
        assert x.grad[b, n, i, j].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_against_a_one_hot_target_every_epsilon_gives_the_closed_form() -> None:
    logits, _, cost = example()
    target = torch.randint(0, CLASSES, (2, 3, 4), generator=torch.Generator().manual_seed(3))
    target[0, 0] = 255
    for epsilon in (1.0, 0.1, 0.02):
        soft = one_hot(target, CLASSES).double()
        torch.testing.assert_close(
            sinkhorn_wasserstein(logits, soft, cost, epsilon), wasserstein(logits, target, cost), rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("epsilon", [0.1, 0.04])
def test_chunks_precision_and_autocast_do_not_change_the_loss(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets, cost = example()
    whole = sinkhorn_wasserstein(logits, targets, cost, epsilon)
    single = logits.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sinkhorn_wasserstein(single, targets.float(), cost, epsilon)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(whole.item(), rel=1e-4)
    half = logits.bfloat16().requires_grad_()
    loss = sinkhorn_wasserstein(half, targets, cost, epsilon)
    loss.backward()  # type: ignore[no-untyped-call]
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(whole.item(), rel=2e-2)
    monkeypatch.setattr(sinkhorn, "CHUNK_PIXELS", 5)
    monkeypatch.setattr(sinkhorn, "LOG_CHUNK_PIXELS", 5)
    torch.testing.assert_close(sinkhorn_wasserstein(logits, targets, cost, epsilon), whole, rtol=1e-6, atol=0)


def test_extreme_logits_give_a_finite_loss_and_gradient() -> None:
    logits, targets, cost = example()
    for epsilon in (0.1, 0.01):
        x = (200 * logits).float().requires_grad_()
        loss = sinkhorn_wasserstein(x, targets.float(), cost, epsilon)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss)
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def test_a_solver_that_does_not_arrive_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinkhorn, "LOG_MAX_ITERATIONS", 10)
    with pytest.warns(RuntimeWarning, match="left .* pixels with a marginal error above"):
        sinkhorn_wasserstein(*example(), epsilon=0.001)


def test_what_does_not_fit_is_refused() -> None:
    logits, targets, cost = example()
    with pytest.raises(ValueError, match="cost has shape"):
        sinkhorn_wasserstein(logits, targets, cost[:-1])
    with pytest.raises(ValueError, match="target_probs has shape"):
        sinkhorn_wasserstein(logits, targets[:, 1:], cost)
    for wrong in ({"epsilon": 0.0}, {"epsilon": float("nan")}, {"iterations": 0}):
        with pytest.raises(ValueError, match="expected a number above 0"):
            sinkhorn_wasserstein(logits, targets, cost, **wrong)  # type: ignore[arg-type]
