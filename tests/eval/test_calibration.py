"""Calibration error against torchmetrics, closed cases, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from roadworthy.eval.calibration import BINS, expected_calibration_error, reliability, reliability_curve
from roadworthy.runtime.errors import BadInput


def test_equals_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(6, 0.4), size=4000)
    target = np.array([rng.choice(6, p=0.7 * p + 0.3 / 6) for p in probs])
    ours = expected_calibration_error(reliability(probs.max(axis=1), probs.argmax(axis=1) == target))
    theirs = multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(target), num_classes=6, n_bins=BINS, norm="l1"
    )
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert 0.05 < float(ours) < 0.4  # the case is neither trivial nor saturated


def test_calibrated_and_always_wrong() -> None:
    sure = np.ones(10, np.float32)
    assert float(expected_calibration_error(reliability(sure, np.ones(10, bool)))) == 0.0
    assert float(expected_calibration_error(reliability(sure, np.zeros(10, bool)))) == 1.0
    assert np.isnan(expected_calibration_error(np.zeros((BINS, 3))))


def test_counts_of_images_add_up() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.uniform(size=(2, 8, 9)), rng.uniform(size=(2, 8, 9)) < 0.5
    parts = np.stack([reliability(c, r) for c, r in zip(confidence, right, strict=True)])
    whole = reliability(confidence, right)
    np.testing.assert_allclose(parts.sum(axis=0), whole)
    assert whole[:, 0].sum() == confidence.size
    assert expected_calibration_error(parts).shape == (2,)


def test_borders_belong_to_the_lower_bin() -> None:
    counts = reliability(np.array([0.0, 1 / BINS, 1.0]), np.array([False, True, True]))
    assert counts[0].tolist() == [2, 1 / BINS, 1]
    assert counts[-1].tolist() == [1, 1, 1]
    assert reliability_curve(counts) == [
        (pytest.approx(1 / BINS / 2), 0.5, pytest.approx(2 / 3)),
        (1.0, 1.0, pytest.approx(1 / 3)),
    ]


def test_what_is_refused() -> None:
    with pytest.raises(BadInput, match=r"shape \(3,\), right has \(2,\)"):
        reliability(np.ones(3), np.ones(2, bool))
    with pytest.raises(BadInput, match="expected probabilities between 0 and 1"):
        reliability(np.array([0.5, 7.0]), np.ones(2, bool))
    with pytest.raises(BadInput, match="nan"):
        reliability(np.array([0.5, np.nan]), np.ones(2, bool))
