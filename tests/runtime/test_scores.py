"""Confusion and IoU against torchmetrics, and against counts made by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.functional.classification import multiclass_jaccard_index

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import Confusion, confusion, iou, mean_iou

TRUTH = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
GUESS = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)


def test_rows_are_truth_and_ignored_pixels_do_not_count() -> None:
    assert confusion(GUESS, TRUTH, 4).tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_iou_by_hand() -> None:
    per_class = iou(confusion(GUESS, TRUTH, 4))
    assert per_class[:3].tolist() == [1 / 3, 2 / 3, 0.0]
    assert np.isnan(per_class[3])  # in neither truth nor prediction
    assert mean_iou(confusion(GUESS, TRUTH, 4)) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def test_nothing_to_score_is_nan() -> None:
    assert np.isnan(mean_iou(confusion(TRUTH, np.full_like(TRUTH, 255), 3)))


@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_agrees_with_torchmetrics(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, (2, 9, 7)).astype(np.uint8)
    label[random.random(label.shape) < 0.2] = 255
    pred = random.integers(0, classes, label.shape).astype(np.uint8)
    reference = MulticlassConfusionMatrix(classes, ignore_index=255)
    counted = reference(torch.from_numpy(pred.astype(np.int64)), torch.from_numpy(label.astype(np.int64)))
    assert np.array_equal(confusion(pred, label, classes), counted.numpy())


def test_iou_agrees_with_torchmetrics() -> None:
    random = np.random.default_rng(0)
    label, pred = random.integers(0, 5, (2, 40, 40)), random.integers(0, 5, (2, 40, 40))
    reference = multiclass_jaccard_index(torch.from_numpy(pred), torch.from_numpy(label), 5, average="none")
    assert iou(confusion(pred, label, 5)) == pytest.approx(reference.numpy(), abs=1e-6)


def test_streaming_equals_all_at_once() -> None:
    random = np.random.default_rng(1)
    label, pred = random.integers(0, 6, (8, 10, 10)), random.integers(0, 6, (8, 10, 10))
    streaming = Confusion(6)
    for one_pred, one_label in zip(pred, label, strict=True):
        streaming.update(one_pred, one_label)
    assert np.array_equal(streaming.matrix, confusion(pred, label, 6))
    assert streaming.mean_iou() == mean_iou(streaming.matrix)


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (GUESS[:1], TRUTH, "shape"),
        (GUESS, np.full_like(TRUTH, 9), "label has id 9"),
        (np.full_like(GUESS, 7), TRUTH, "prediction has id 7"),
        (GUESS.astype(np.int64) - 2, TRUTH, "prediction has id -2"),
    ],
)
def test_wrong_input_is_named(pred: np.ndarray, label: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        confusion(pred, label, 4)
