"""Every functional loss against an independent implementation, by numerical gradient, and with ignored pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from kornia.losses import focal_loss
from torch import Tensor

from roadworthy.train.losses import (
    betting_map,
    cross_entropy,
    embedding_distance,
    entropy,
    focal,
    gambling,
    importance_aware,
    one_hot,
    self_information,
    sinkhorn_wasserstein,
    soft_cross_entropy,
    step_wasserstein,
    wasserstein,
)

CLASSES = 5


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, CLASSES, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


@pytest.fixture
def target() -> Tensor:
    labels = torch.randint(0, CLASSES, (2, 6, 7), generator=torch.Generator().manual_seed(2))
    labels[0, 0, :3] = 255
    labels[1, 2] = 255
    return labels


@pytest.fixture
def cost() -> Tensor:
    matrix = torch.rand(CLASSES, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return matrix.fill_diagonal_(0.0)


WEIGHTS = torch.tensor([1.0, 4.0, 2.0, 3.0, 0.5], dtype=torch.float64)


@torch.compiler.disable
def uneven_bets(target: Tensor) -> Tensor:
    scores = torch.randn(target.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return betting_map(scores)


@torch.compiler.disable
def soft(target: Tensor) -> Tensor:
    """Conservative labels: most of the mass on the target, the rest spread unevenly; no mass where there is no label."""
    spread = torch.rand(
        target.shape[0], CLASSES, *target.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    )
    labelled = one_hot(target, CLASSES).double()
    return (0.7 * labelled + 0.3 * spread / spread.sum(1, keepdim=True)) * labelled.sum(1, keepdim=True)


def functional_losses(cost: Tensor) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "cross_entropy": cross_entropy,
        "weighted cross_entropy": lambda x, t: cross_entropy(x, t, WEIGHTS),
        "focal": focal,
        "importance_aware": lambda x, t: importance_aware(x, t, WEIGHTS),
        "wasserstein": lambda x, t: wasserstein(x, t, cost),
        "gambling": lambda x, t: gambling(x, t, uneven_bets(t)),
        "step_wasserstein": lambda x, t: step_wasserstein(x, soft(t)),
        "soft_cross_entropy": lambda x, t: soft_cross_entropy(x, soft(t)),
        "sinkhorn_wasserstein": lambda x, t: sinkhorn_wasserstein(x, soft(t), cost),
    }


NAMES = tuple(functional_losses(torch.zeros(1)))
EXACT = tuple(name for name in NAMES if name != "sinkhorn_wasserstein")  # its gradient is the dual potential, see test_sinkhorn


def test_cross_entropy_is_torchs(logits: Tensor, target: Tensor) -> None:
    for memory in (torch.contiguous_format, torch.channels_last):
        shaped = logits.contiguous(memory_format=memory)
        torch.testing.assert_close(cross_entropy(shaped, target), F.cross_entropy(logits, target, ignore_index=255))
        torch.testing.assert_close(
            cross_entropy(shaped, target, WEIGHTS), F.cross_entropy(logits, target, WEIGHTS, ignore_index=255)
        )


def test_focal_is_kornias(logits: Tensor, target: Tensor) -> None:
    for gamma in (0.0, 0.5, 2.0, 3.0):
        summed = focal_loss(logits, target, alpha=None, gamma=gamma, reduction="sum", ignore_index=255)
        torch.testing.assert_close(focal(logits, target, gamma), summed / (target != 255).sum())


def test_importance_aware_is_the_importance_times_cross_entropy_with_mean_importance_one(
    logits: Tensor, target: Tensor
) -> None:
    log_probability = torch.log_softmax(logits, 1).numpy()
    total, importance = 0.0, []
    for b, i, j in np.argwhere(target.numpy() != 255):
        truth = int(target[b, i, j])
        importance.append(float(WEIGHTS[truth]))
        total -= importance[-1] * log_probability[b, truth, i, j]
    expected = total / np.mean(importance) / len(importance)
    assert importance_aware(logits, target, WEIGHTS).item() == pytest.approx(expected, rel=1e-12)


def test_wasserstein_is_the_earth_movers_distance_to_a_one_hot_target(logits: Tensor, target: Tensor, cost: Tensor) -> None:
    probability = torch.softmax(logits, 1).numpy()
    distances = []
    for b, i, j in np.argwhere(target.numpy() != 255):
        truth = np.zeros(CLASSES)
        truth[int(target[b, i, j])] = 1.0
        # POT moves mass from the first histogram to the second: rows of its cost are predictions, so ours is transposed.
        distances.append(ot.emd2(probability[b, :, i, j], truth, np.ascontiguousarray(cost.numpy().T)))
    assert wasserstein(logits, target, cost).item() == pytest.approx(np.mean(distances), rel=1e-9)


def test_wasserstein_indexes_the_truth_first(logits: Tensor) -> None:
    cost = torch.zeros(CLASSES, CLASSES)
    cost[3, 1] = 1.0  # only predicting 1 where the truth is 3 costs something
    target = torch.full((2, 6, 7), 3)
    torch.testing.assert_close(wasserstein(logits, target, cost), torch.softmax(logits, 1)[:, 1].mean())
    assert wasserstein(logits, torch.full((2, 6, 7), 1), cost) == 0


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_wasserstein_gradient_is_autograds(memory: torch.memory_format, target: Tensor, cost: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, CLASSES, 6, 7, generator=generator).contiguous(memory_format=memory).requires_grad_()
    plain = x.detach().clone().requires_grad_()
    valid = target != 255
    priced = cost.float()[target.where(valid, 0)].permute(0, 3, 1, 2) * valid.unsqueeze(1)
    expected = (torch.softmax(plain, 1) * priced).sum() / valid.sum()
    (expected * 3).backward()
    (wasserstein(x, target, cost) * 3).backward()
    assert x.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(x.grad, plain.grad)


def test_wasserstein_gives_the_same_gradient_again_when_the_graph_is_kept(target: Tensor, cost: Tensor) -> None:
    x = torch.randn(2, CLASSES, 6, 7, requires_grad=True)
    loss = wasserstein(x, target, cost)
    (first,) = torch.autograd.grad(loss * 2, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss * 1, x)
    torch.testing.assert_close(first, 2 * second)


def test_wasserstein_spans_several_chunks(
    monkeypatch: pytest.MonkeyPatch, logits: Tensor, target: Tensor, cost: Tensor
) -> None:
    whole = wasserstein(logits, target, cost)
    monkeypatch.setattr("roadworthy.train.wasserstein.CHUNK_PIXELS", 10)
    for memory in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(wasserstein(logits.contiguous(memory_format=memory), target, cost), whole)


def test_wasserstein_takes_half_precision_logits(target: Tensor, cost: Tensor) -> None:
    x = torch.randn(2, CLASSES, 6, 7)
    half = x.bfloat16().requires_grad_()
    loss = wasserstein(half, target, cost)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, wasserstein(x, target, cost), atol=1e-2, rtol=1e-2)


def test_wasserstein_refuses_shapes_that_do_not_fit(logits: Tensor, target: Tensor, cost: Tensor) -> None:
    with pytest.raises(ValueError, match="cost has shape"):
        wasserstein(logits, target, cost[:-1])
    with pytest.raises(ValueError, match="target has shape"):
        wasserstein(logits, target[:, 1:], cost)


def test_importance_is_a_special_case_of_wasserstein(logits: Tensor, target: Tensor) -> None:
    # arXiv 2008.04751, section III: with cost[t, p] = w_t off the diagonal the loss is w_t (1 - p_t).
    cost = WEIGHTS[:, None].repeat(1, CLASSES).fill_diagonal_(0.0)
    valid = target != 255
    truth = target.where(valid, 0)
    p_true = torch.softmax(logits, 1).gather(1, truth.unsqueeze(1)).squeeze(1)
    expected = (WEIGHTS[truth] * (1 - p_true))[valid].mean()
    torch.testing.assert_close(wasserstein(logits, target, cost), expected)


@pytest.mark.parametrize("beta", [0.02, 0.5])
def test_bets_are_the_smoothed_sigmoids_and_sum_to_one(beta: float) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (3, 5, 4))
    bets = betting_map(torch.from_numpy(scores), beta).numpy()
    stakes = 1 / (1 + np.exp(-scores)) + beta
    expected = stakes / stakes.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(bets, expected, rtol=1e-12)
    np.testing.assert_allclose(bets.sum((1, 2)), 1.0, rtol=1e-12)


def test_gambling_is_the_bet_on_cross_entropy(logits: Tensor, target: Tensor) -> None:
    bets = uneven_bets(target)
    log_probability = torch.log_softmax(logits, 1).numpy()
    staked = sum(
        -float(bets[b, i, j]) * log_probability[b, int(target[b, i, j]), i, j] for b, i, j in np.argwhere(target.numpy() != 255)
    )
    assert gambling(logits, target, bets).item() == pytest.approx(staked / 2, rel=1e-12)
    assert gambling(logits, target, bets, literal=True).item() == pytest.approx(staked / 2 / 42, rel=1e-12)


def test_uniform_bets_give_cross_entropy(logits: Tensor) -> None:
    target = torch.randint(0, CLASSES, (2, 6, 7))
    bets = betting_map(torch.zeros(2, 6, 7, dtype=torch.float64))
    torch.testing.assert_close(gambling(logits, target, bets), F.cross_entropy(logits, target))


def test_both_gradient_flows_of_gambling_exist_and_add_up(logits: Tensor, target: Tensor) -> None:
    mixing = torch.randn(CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def gambler(x: Tensor) -> Tensor:  # a small stand-in whose bets depend on the prediction
        return betting_map(torch.einsum("bnhw,n->bhw", torch.softmax(x, 1), mixing))

    def gradient(cross_entropy_of: Callable[[Tensor], Tensor], bets_of: Callable[[Tensor], Tensor]) -> Tensor:
        x = logits.clone().requires_grad_()
        gambling(cross_entropy_of(x), target, bets_of(x)).backward()
        assert x.grad is not None
        return x.grad

    flow_a = gradient(lambda x: x, lambda x: gambler(x.detach()))
    flow_b = gradient(lambda x: x.detach(), gambler)
    both = gradient(lambda x: x, gambler)
    assert flow_a.abs().max() > 1e-4
    assert flow_b.abs().max() > 1e-4
    torch.testing.assert_close(both, flow_a + flow_b)


def test_step_wasserstein_is_the_earth_movers_distance_with_a_step_metric(logits: Tensor, target: Tensor) -> None:
    step, probs = 1 - np.eye(CLASSES), torch.softmax(logits, 1).numpy()
    truth = soft(target).numpy()
    places = np.argwhere(target.numpy() != 255)
    distances = [ot.emd2(probs[b, :, i, j].copy(), truth[b, :, i, j].copy(), step) for b, i, j in places]
    assert step_wasserstein(logits, soft(target)).item() == pytest.approx(np.mean(distances), rel=1e-9)
    one = wasserstein(logits, target, torch.from_numpy(step))
    torch.testing.assert_close(step_wasserstein(logits, one_hot(target, CLASSES).double()), one)


def test_soft_cross_entropy_is_torchs(logits: Tensor, target: Tensor) -> None:
    probs, valid = soft(target), target != 255
    expected = F.cross_entropy(logits, probs, reduction="none")[valid].mean()
    torch.testing.assert_close(soft_cross_entropy(logits, probs), expected)
    torch.testing.assert_close(soft_cross_entropy(logits, one_hot(target, CLASSES).double()), cross_entropy(logits, target))


def test_entropy_is_scipys_and_runs_from_zero_to_one(logits: Tensor) -> None:
    from scipy.stats import entropy as shannon

    probs = torch.softmax(logits, 1)
    np.testing.assert_allclose(entropy(probs).numpy(), shannon(probs.numpy(), axis=1, base=CLASSES), rtol=1e-12)
    torch.testing.assert_close(self_information(probs).sum(1), entropy(probs))
    assert (entropy(one_hot(torch.full((1, 2, 2), 3), CLASSES)) == 0).all()
    torch.testing.assert_close(entropy(torch.full((1, CLASSES, 2, 2), 1 / CLASSES)), torch.ones(1, 2, 2))


def test_entropy_has_a_finite_gradient_where_a_probability_is_zero() -> None:
    logits = torch.tensor([0.0, -200.0, 1.0]).view(1, 3, 1, 1).requires_grad_()
    entropy(torch.softmax(logits, 1)).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.autograd.gradcheck(lambda x: entropy(torch.softmax(x, 1)), torch.randn(1, 4, 2, 2).double().requires_grad_())


def test_embedding_distance_is_the_norm_of_each_patch() -> None:
    first, second = (np.random.default_rng(seed).normal(size=(2, 6, 3, 4)) for seed in (0, 1))
    norms = [np.sqrt(sum((first[b, e, i, j] - second[b, e, i, j]) ** 2 for e in range(6))) for b, i, j in np.ndindex(2, 3, 4)]
    a, b = torch.from_numpy(first).requires_grad_(), torch.from_numpy(second)
    assert embedding_distance(a, b).item() == pytest.approx(np.mean(norms), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: embedding_distance(x, b), a)
    (at_zero,) = torch.autograd.grad(embedding_distance(a, a.detach()), a)
    assert (at_zero == 0).all()


@pytest.mark.parametrize("name", EXACT)
def test_gradient_is_the_derivative_of_the_value(name: str, logits: Tensor, target: Tensor, cost: Tensor) -> None:
    loss = functional_losses(cost)[name]
    part, labels = logits[:, :, :3, :4].clone().requires_grad_(), target[:, :3, :4]
    assert (labels == 255).any()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), part)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_ignored_pixels_contribute_nothing(
    name: str, memory: torch.memory_format, logits: Tensor, target: Tensor, cost: Tensor
) -> None:
    loss = functional_losses(cost)[name]
    ignored = target == 255
    other = torch.where(ignored.unsqueeze(1), logits + 50 * torch.randn_like(logits), logits)
    first = logits.contiguous(memory_format=memory).requires_grad_()
    second = other.contiguous(memory_format=memory).requires_grad_()
    values = [loss(x, target) for x in (first, second)]
    assert values[0].item() == values[1].item()
    for x, value in zip((first, second), values, strict=True):
        value.backward()
        assert x.grad is not None
        assert (x.grad.permute(0, 2, 3, 1)[ignored] == 0).all()
    assert torch.equal(first.grad, second.grad)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_labels_gives_zero(name: str, logits: Tensor, cost: Tensor) -> None:
    x = logits.requires_grad_()
    loss = functional_losses(cost)[name](x, torch.full((2, 6, 7), 255))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert (x.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_losses_can_be_compiled(name: str, logits: Tensor, target: Tensor, cost: Tensor) -> None:
    loss = functional_losses(cost)[name]
    torch.compiler.reset()
    # Tracing and the traced derivative; what a back end makes of the graph is torch's own business. Sinkhorn's loop stays
    # eager, and so do this file's made-up targets and bets.
    whole = name in ("cross_entropy", "weighted cross_entropy", "focal", "importance_aware", "wasserstein")
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=whole)
    eager, traced = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected, found = loss(eager, target), compiled(traced, target)
    torch.testing.assert_close(found, expected)
    (2 * expected).backward()
    (2 * found).backward()
    torch.testing.assert_close(traced.grad, eager.grad)


@pytest.mark.parametrize("name", NAMES)
def test_losses_take_what_autocast_gives(name: str, logits: Tensor, target: Tensor, cost: Tensor) -> None:
    loss = functional_losses(cost.float() if "wasserstein" in name else cost)[name]
    half = logits.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, target)
    value.backward()
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()
    assert value.item() == pytest.approx(loss(logits, target).item(), rel=0.03)
