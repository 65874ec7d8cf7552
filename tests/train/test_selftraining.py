"""Pseudo-labels against their own optimisation problems, and thresholds on scores made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from roadworthy.train.losses import cross_entropy, one_hot
from roadworthy.train.selftraining import (
    class_thresholds,
    divergence_regularised_cross_entropy,
    entropy_regularised_labels,
    hard_labels,
    portion,
)

THRESHOLDS = torch.tensor([0.9, 0.3, 0.5, 0.6], dtype=torch.float64)


def probabilities() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(2 * torch.randn(1, 4, 3, 4, dtype=torch.float64, generator=generator), 1)


def test_portions_grow_to_a_half() -> None:
    assert [round(portion(index), 2) for index in (0, 1, 2, 6, 7, 50)] == [0.2, 0.25, 0.3, 0.5, 0.5, 0.5]


def test_thresholds_let_the_same_portion_of_every_class_pass() -> None:
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.99])
    predicted = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 3])
    assert class_thresholds(confidence, predicted, 4, 0.5).tolist() == pytest.approx([0.8, 0.4, 1.0, 0.99])
    assert class_thresholds(confidence, predicted, 4, 1.0).tolist() == pytest.approx([0.6, 0.3, 1.0, 0.99])
    assert class_thresholds(confidence, predicted, 4, 0.2)[0] == pytest.approx(0.9)  # at least one pixel
    with pytest.raises(ValueError, match="portion is 0"):
        class_thresholds(confidence, predicted, 4, 0)


def test_hard_labels_weigh_a_class_by_its_threshold() -> None:
    probs = torch.tensor([[0.5, 0.35, 0.1, 0.05], [0.85, 0.05, 0.05, 0.05], [0.95, 0.05, 0.0, 0.0]], dtype=torch.float64)
    labels = hard_labels(probs.T.view(1, 4, 1, 3), THRESHOLDS)
    assert labels.flatten().tolist() == [1, 255, 0]


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_entropy_regularised_labels_solve_their_problem(alpha: float) -> None:
    probs = probabilities()
    labels = entropy_regularised_labels(probs, THRESHOLDS, alpha)
    chosen = 0
    for i, j in np.ndindex(3, 4):
        gain = np.log(probs[0, :, i, j].numpy() / THRESHOLDS.numpy())

        def cost(y: np.ndarray, gain: np.ndarray = gain) -> float:
            return float(-(y * gain).sum() + alpha * (y * np.log(np.maximum(y, 1e-300))).sum())

        bounds, simplex = [(1e-12, 1)] * 4, {"type": "eq", "fun": lambda y: y.sum() - 1}
        found = minimize(cost, np.full(4, 0.25), bounds=bounds, constraints=simplex, options={"ftol": 1e-14, "maxiter": 500})
        if found.fun < -1e-9:  # better than no label
            chosen += 1
            np.testing.assert_allclose(labels[0, :, i, j].numpy(), found.x, atol=1e-4)
        else:
            assert (labels[0, :, i, j] == 0).all()
    assert chosen > 0
    if alpha == 0.25:
        assert chosen < 12


def test_little_entropy_weight_gives_hard_labels() -> None:
    probs = probabilities()
    soft, hard = entropy_regularised_labels(probs, THRESHOLDS, 1e-3), hard_labels(probs, THRESHOLDS)
    torch.testing.assert_close(soft, one_hot(hard, 4).double(), atol=1e-6, rtol=0)
    assert (hard == 255).any()


def test_certain_pixels_without_mass_elsewhere_stay_finite() -> None:
    certain = one_hot(torch.zeros(1, 2, 2, dtype=torch.int64), 4)
    torch.testing.assert_close(entropy_regularised_labels(certain, torch.full((4,), 0.5)), certain)


def test_divergence_regularised_loss_is_cross_entropy_and_the_divergence_from_uniform() -> None:
    logits = probabilities().log() * 3
    target = torch.randint(0, 4, (1, 3, 4), generator=torch.Generator().manual_seed(1))
    target[0, 0] = 255
    log_p = torch.log_softmax(logits, 1)
    divergence = (0.25 * (np.log(0.25) - log_p)).sum(1)[target != 255].mean()
    expected = cross_entropy(logits, target) + 0.1 * (divergence - np.log(0.25))
    found = divergence_regularised_cross_entropy(logits, one_hot(target, 4).double(), 0.1)
    torch.testing.assert_close(found, expected)
    part = logits[:, :, :2, :2].clone().requires_grad_()
    soft = one_hot(target[:, :2, :2], 4).double()
    assert torch.autograd.gradcheck(lambda x: divergence_regularised_cross_entropy(x, soft), part)
