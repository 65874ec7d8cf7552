"""The layouts' metrics against libraries of other people, and what they must say of hand-made sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import ot
import pytest
import scipy.linalg
import torch
from onnx import TensorProto, helper
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from roadworthy.eval.frechet import Inception, frechet_distance
from roadworthy.eval.layouts import score_pictures
from roadworthy.eval.sliced_wasserstein import (
    enlarge,
    laplacian_pyramid,
    level_sizes,
    patches,
    sliced_distance,
    sliced_wasserstein,
)
from roadworthy.eval.structural_similarity import compare_windows, mean_similarity, ms_ssim
from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.colored_shapes import COLORED_SHAPES, draw_colored_shapes

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    return COLORED_SHAPES.colourise(draw_colored_shapes(0)[::30])


def test_sliced_distance_is_pots() -> None:
    left, right = RNG.normal(size=(200, 12)).astype(np.float32), RNG.gamma(2.0, size=(200, 12)).astype(np.float32)
    directions = RNG.normal(size=(30, 12)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = ot.sliced_wasserstein_distance(left, right, projections=directions.T, p=1)
    assert sliced_distance(left, right, directions) == pytest.approx(float(expected), rel=1e-5)
    one = [ot.wasserstein_1d(left @ d, right @ d, p=1) for d in directions]
    assert sliced_distance(left, right, directions) == pytest.approx(float(np.mean(one)), rel=1e-5)


def test_the_pyramid_adds_up_to_the_picture_and_its_filters_are_the_binomial_ones() -> None:
    pictures = RNG.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    pyramid = laplacian_pyramid(pictures, 3)
    assert [level.shape for level in pyramid] == [(2, 64, 128, 3), (2, 32, 64, 3), (2, 16, 32, 3)]
    whole = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        whole = level + enlarge(whole, level.shape[1:3])
    np.testing.assert_allclose(whole, pictures, atol=1e-3)
    # The 2-D filter of the original, written out: outer([1 4 6 4 1]) / 256, mirrored at the border.
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    padded = np.pad(pictures[0, ..., 0].astype(np.float64), 2, mode="reflect")
    blurred = np.einsum("hwij,ij->hw", np.lib.stride_tricks.sliding_window_view(padded, (5, 5)), kernel)
    np.testing.assert_allclose(laplacian_pyramid(pictures, 2)[1][0, ..., 0], blurred[::2, ::2], atol=1e-3)


def test_a_flat_picture_has_no_detail() -> None:
    pyramid = laplacian_pyramid(np.full((1, 32, 32, 3), 77, np.uint8), 2)
    np.testing.assert_allclose(pyramid[0], 0, atol=1e-4)
    np.testing.assert_allclose(pyramid[1], 77, atol=1e-4)


def test_patches_are_cut_out_of_their_picture_and_normalised_by_colour() -> None:
    level = np.stack([np.full((16, 16, 3), value, np.float32) for value in (1.0, 3.0)])
    cut = patches(level, 5, np.random.default_rng(0))
    assert cut.shape == (10, 147)
    np.testing.assert_allclose(cut, np.repeat([[-1.0], [1.0]], 5, axis=0) * np.ones(147), atol=1e-6)
    mixed = patches(RNG.normal(5, 3, (4, 16, 16, 3)).astype(np.float32), 50, np.random.default_rng(0)).reshape(200, 3, 49)
    np.testing.assert_allclose(mixed.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(mixed.std((0, 2)), 1, atol=1e-5)


def test_levels_go_down_to_16_pixels() -> None:
    assert level_sizes(128, 128) == [128, 64, 32, 16]
    assert level_sizes(64, 128) == [64, 32, 16]
    assert level_sizes(96, 96) == [96, 48, 24]
    with pytest.raises(BadInput, match="at least 16"):
        level_sizes(8, 64)


def test_the_distance_grows_with_noise_at_the_level_where_the_noise_is(shapes: np.ndarray) -> None:
    real = shapes[:48]
    same = sliced_wasserstein(real, real, patches_per_picture=32)
    assert list(same) == [64, 32, 16]
    noisy = np.clip(real + RNG.normal(0, 40, real.shape), 0, 255).astype(np.uint8)
    noise = sliced_wasserstein(real, noisy, patches_per_picture=32)
    shifted = np.roll(shapes[48:96], 3, axis=1)
    other = sliced_wasserstein(real, shifted, patches_per_picture=32)
    assert noise[64] > 5 * other[64]
    assert noise[64] > 5 * same[64]
    assert noise[64] > 2 * noise[16]
    assert same == sliced_wasserstein(real, real, patches_per_picture=32)  # the seed decides
    with pytest.raises(BadInput, match="as many of the same size"):
        sliced_wasserstein(real, real[:-1])


def test_ms_ssim_is_torchmetrics() -> None:
    left = torch.from_numpy(RNG.integers(0, 256, (2, 3, 192, 208))).double()
    left = torch.nn.functional.avg_pool2d(left, 5, 1, 2)
    right = (left + torch.from_numpy(RNG.normal(0, 15, left.shape))).clamp(0, 255)
    # torchmetrics mirrors the picture at its border for the last scale; we, like the paper, take windows that fit whole.
    expected = multiscale_structural_similarity_index_measure(left, right, data_range=255.0, reduction="none")
    torch.testing.assert_close(ms_ssim(left, right), expected.double(), rtol=2e-4, atol=0)


def test_one_scale_is_skimages_ssim() -> None:
    left, right = RNG.integers(0, 256, (2, 40, 48)).astype(np.float64)
    right = 0.5 * left + 0.5 * right
    _, full = structural_similarity(
        left, right, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    luminance, structure = compare_windows(torch.from_numpy(left)[None, None], torch.from_numpy(right)[None, None])
    np.testing.assert_allclose((luminance * structure)[0, 0], full[5:-5, 5:-5], atol=1e-12)


def test_ms_ssim_of_small_pictures() -> None:
    left = torch.from_numpy(RNG.integers(0, 256, (3, 3, 64, 64))).double()
    torch.testing.assert_close(ms_ssim(left, left), torch.ones(3, dtype=torch.float64))
    assert float(ms_ssim(left, left.flip(3)).max()) < 0.5
    # The shrunk window at the last scale of 4 pixels is one place: the whole map, weighted by a Gaussian of 1.5 * 4 / 11.
    assert ms_ssim(left[:, :, :16, :16], left[:, :, :16, :16]).shape == (3,)
    with pytest.raises(BadInput, match="at least 16"):
        ms_ssim(left[:, :, :8], left[:, :, :8])


def test_a_collapsed_set_is_more_alike_than_a_varied_one(shapes: np.ndarray) -> None:
    collapsed = np.repeat(shapes[:2], 20, axis=0)
    assert mean_similarity(collapsed, pairs=64) > 0.2 + mean_similarity(shapes, pairs=64)
    with pytest.raises(BadInput, match="at least 2"):
        mean_similarity(shapes[:1])


def test_frechet_distance_is_scipys() -> None:
    left, right = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(1.0, 2.0, size=(200, 6))
    covariances = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = left.mean(0) - right.mean(0)
    expected = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(left, left) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(left, left + 3.0) == pytest.approx(6 * 9.0)  # the same shape elsewhere: the distance of the means
    few = RNG.normal(size=(4, 6))  # fewer pictures than features: the covariance is singular
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6)


def _write_network(path: Path, side: int | str = 8, kind: int = TensorProto.FLOAT) -> Path:
    """A stand-in for Inception: the mean of each colour."""
    frames = helper.make_tensor_value_info("frames", kind, ["batch", 3, side, side])
    features = helper.make_tensor_value_info("features", kind, ["batch", 3, 1, 1])
    node = helper.make_node("GlobalAveragePool", ["frames"], ["features"])
    graph = helper.make_graph([node], "mean", [frames], [features])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_features_come_from_the_users_network(tmp_path: Path) -> None:
    network = Inception(_write_network(tmp_path / "mean.onnx"))
    pictures = np.zeros((20, 16, 16, 3), np.uint8)
    pictures[..., 1], pictures[:, :, :8, 2] = 255, 255
    found = network.features(pictures)
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found, [[-1.0, 1.0, 0.0]] * 20, atol=1e-3)  # values from -1 to 1


def test_without_inceptions_weights_the_error_says_what_to_bring(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--inception FILE.onnx"):
        Inception(None)
    with pytest.raises(BadInput, match="no such file"):
        Inception(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(BadInput, match="cannot open it"):
        Inception(tmp_path / "broken.onnx")
    with pytest.raises(BadInput, match="fixed sides"):
        Inception(_write_network(tmp_path / "free.onnx", "side"))
    with pytest.raises(BadInput, match="expected one float32"):
        Inception(_write_network(tmp_path / "half.onnx", kind=TensorProto.FLOAT16))


def test_scores_of_real_layouts_beat_those_of_noise(
    shapes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadworthy.eval.layouts.mean_similarity", partial(mean_similarity, pairs=16))
    network = Inception(_write_network(tmp_path / "mean.onnx"))
    real, other = shapes[:24], shapes[24:48]
    good = score_pictures(real, other, inception=network)
    bad = score_pictures(real, RNG.integers(0, 256, real.shape).astype(np.uint8), inception=network)
    assert good.swd_mean == pytest.approx(np.mean(list(good.swd.values())))
    assert good.swd_mean < bad.swd_mean / 3
    assert good.fid is not None
    assert bad.fid is not None
    assert good.fid < bad.fid
    assert good.inception == "mean.onnx"
    assert score_pictures(real, other).fid is None
