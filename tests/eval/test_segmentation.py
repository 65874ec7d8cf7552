"""Structure metrics against scikit-image and brute force, IoU against torchmetrics, and cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.spatial.distance import cdist
from skimage.metrics import hausdorff_distance
from torchmetrics.classification import MulticlassJaccardIndex

from roadworthy.eval import segmentation
from roadworthy.eval.calibration import BINS
from roadworthy.eval.contours import trace
from roadworthy.eval.image_scores import ImageScores, class_intervals
from roadworthy.eval.resampling import cluster_bootstrap
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import iou

CLASSES = 4
LABEL_MAPS = st_numpy.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 11)), elements=st.sampled_from([0, 1, 2, 3, 255])
)


def blobs(seed: int, height: int = 48, width: int = 80, void: float = 0.1) -> npt.NDArray[np.uint8]:
    """Draw a label map of coarse blocks with some void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, CLASSES, (height // 8, width // 8)).astype(np.uint8)
    coarse[rng.random(coarse.shape) < void] = 255
    return np.kron(coarse, np.ones((8, 8), np.uint8))


def contour_points(labels: npt.NDArray[np.uint8], of: int) -> npt.NDArray[np.bool_]:
    """Find contour pixels the slow way: pixels of the class with a 4-neighbour of another class that is not void."""
    found = np.zeros(labels.shape, bool)
    for y, x in np.argwhere(labels == of):
        for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inside = 0 <= y + dy < labels.shape[0] and 0 <= x + dx < labels.shape[1]
            if inside and labels[y + dy, x + dx] not in (of, 255):
                found[y, x] = True
    return found


def test_iou_agrees_with_torchmetrics() -> None:
    pred, label = blobs(0, void=0), blobs(1)
    expected = MulticlassJaccardIndex(num_classes=CLASSES, ignore_index=255, average="none")(
        torch.from_numpy(pred.astype(np.int64)), torch.from_numpy(label.astype(np.int64))
    )
    matrix = segmentation.confusion(pred, label, CLASSES)
    np.testing.assert_allclose(segmentation.iou(matrix), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_averages_the_directed_terms_of_scikit_image(seed: int) -> None:
    pred, label = blobs(seed), blobs(seed + 100)
    masked = np.where(label == 255, 255, pred).astype(np.uint8)
    got = segmentation.modified_hausdorff(np.where(pred == 255, 0, pred), label, CLASSES)
    masked[(masked == 255) & (label != 255)] = 0
    for c in range(CLASSES):
        a, b = contour_points(masked, c), contour_points(label, c)
        if not (a.any() and b.any()):
            assert math.isnan(got[c])
            continue
        distances = cdist(np.argwhere(a), np.argwhere(b))
        directed = distances.min(axis=1).mean(), distances.min(axis=0).mean()
        assert got[c] == pytest.approx(np.mean(directed))
        assert hausdorff_distance(a, b, method="modified") == pytest.approx(max(directed))  # theirs is the maximum


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bf_and_contours_agree_with_brute_force(data: st.DataObject) -> None:
    label = data.draw(LABEL_MAPS)
    pred = data.draw(st_numpy.arrays(np.uint8, label.shape, elements=st.integers(0, CLASSES - 1)))
    tolerance = 0.15
    got = segmentation.contour_scores(pred, label, CLASSES, tolerance)
    masked = np.where(label == 255, 255, pred).astype(np.uint8)
    for c in range(CLASSES):
        a, b = contour_points(masked, c), contour_points(label, c)
        assert (
            np.diff(trace(label, CLASSES).starts)[c * label.shape[1] : (c + 1) * label.shape[1]].tolist() == b.sum(0).tolist()
        )
        in_pred, in_label = (masked == c).any(), (label == c).any()
        if not in_pred and not in_label:
            expected = math.nan
        elif a.any() and b.any():
            near = cdist(np.argwhere(a), np.argwhere(b)) <= tolerance * math.hypot(*label.shape) + 1e-9
            precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
            expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        else:
            expected = 1.0 if in_pred and in_label and not a.any() and not b.any() else 0.0
        assert got.bf[c] == pytest.approx(expected, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(LABEL_MAPS)
def test_identical_maps_are_perfect(label: npt.NDArray[np.uint8]) -> None:
    scores = segmentation.contour_scores(np.where(label == 255, 0, label), label, CLASSES)
    assert np.nan_to_num(scores.bf, nan=1.0).min() == 1.0
    assert np.nan_to_num(scores.hausdorff_px, nan=0.0).max() == 0.0


def test_a_known_shift() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[:, 50:] = 1
    pred = np.zeros((100, 100), np.uint8)
    pred[:, 53:] = 1  # the contour of both classes moves by three pixels
    np.testing.assert_allclose(segmentation.modified_hausdorff(pred, label, 2), [3, 3])
    np.testing.assert_allclose(segmentation.bf_score(pred, label, 2), [0, 0])  # 0.75 % of 141 px is 1.06 px
    np.testing.assert_allclose(segmentation.bf_score(pred, label, 2, tolerance=3 / math.hypot(100, 100)), [1, 1])


def test_a_class_in_only_one_map_scores_zero_and_has_no_distance() -> None:
    label = np.zeros((20, 20), np.uint8)
    pred = label.copy()
    pred[5:9, 5:9] = 2
    scores = segmentation.contour_scores(pred, label, 3)
    assert scores.bf[2] == 0
    assert math.isnan(scores.bf[1])
    assert math.isnan(scores.hausdorff_px[2])
    assert scores.bf[0] == 0  # class 0 has a contour in the prediction only


def test_void_makes_no_contour() -> None:
    label = np.zeros((20, 20), np.uint8)
    label[:, 10:] = 255
    pred = np.zeros((20, 20), np.uint8)
    pred[:, 10:] = 1  # a wrong class, but only where the truth is void
    scores = segmentation.contour_scores(pred, label, 2)
    assert scores.bf[0] == 1
    assert math.isnan(scores.bf[1])


def test_wrong_shapes_and_ids_are_refused() -> None:
    label = np.zeros((4, 5), np.uint8)
    with pytest.raises(BadInput, match=r"shape \(5, 4\)"):
        segmentation.bf_score(label.T, label, 2)
    with pytest.raises(BadInput, match=r"expected 0\.\.1"):
        segmentation.bf_score(label + 7, label, 2)


def test_expected_severity_by_hand() -> None:
    confusion = np.array([[6, 2], [1, 1]])  # truth in the rows
    cost = np.array([[0.0, 0.1], [1.0, 0.0]])  # missing class 1 is ten times worse
    assert segmentation.expected_severity(confusion, cost) == pytest.approx((2 * 0.1 + 1 * 1.0) / 10)
    assert segmentation.expected_severity(confusion.T, cost) == pytest.approx((1 * 0.1 + 2 * 1.0) / 10)
    assert segmentation.expected_severity(np.zeros((2, 2), np.int64), cost) == 0
    with pytest.raises(BadInput, match="ground matrix"):
        segmentation.expected_severity(np.zeros((3, 3), np.int64), cost)


def test_mean_max_probability() -> None:
    probs = np.array([[[0.6, 0.2]], [[0.4, 0.8]]])  # [N=2, H=1, W=2]
    assert segmentation.mean_max_probability(probs) == pytest.approx(0.7)
    assert segmentation.mean_max_probability(np.stack([probs, probs])) == pytest.approx(0.7)
    with pytest.raises(BadInput):
        segmentation.mean_max_probability(probs[0])


def test_class_intervals_hold_the_figures_and_say_nothing_of_absent_classes() -> None:
    rng = np.random.default_rng(3)
    confusions = rng.integers(5, 60, (12, 3, 3)) + 200 * np.eye(3, dtype=np.int64)
    confusions[:, 2, :] = confusions[:, :, 2] = 0  # class 2 occurs nowhere
    bf = np.column_stack([rng.uniform(0.4, 0.6, 12), rng.uniform(0.1, 0.2, 12), np.full(12, np.nan)])
    names = tuple(f"{i}" for i in range(12))
    scores = ImageScores(names, names, confusions, bf, bf, np.full(12, 0.9), np.full(12, 0.82), np.zeros((12, BINS, 3)))
    found = class_intervals(scores.class_statistics(), cluster_bootstrap(names))
    figures = {"iou": iou(confusions.sum(axis=0)), "bf": np.nanmean(bf[:, :2], axis=0)}
    for key, values in figures.items():
        assert found[key][2] is None
        for low_high, value in zip(found[key][:2], values[:2], strict=True):
            assert low_high is not None
            assert low_high[0] < value < low_high[1]
