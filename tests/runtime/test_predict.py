"""Image files in, overlays and ids out; nothing of the user's is lost."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadworthy.runtime import Segmenter, load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb
from roadworthy.runtime.overlay import overlay
from roadworthy.runtime.predict import predict_files
from roadworthy.runtime.taxonomy import CAMVID


@pytest.fixture
def segmenter(make_model: Callable[..., Path]) -> Segmenter:
    return load(make_model(), threads=1)


def _halves(path: Path, height: int, width: int) -> np.ndarray:
    """Write an image whose left half is red (class 0) and whose right half is blue (class 2)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    Image.fromarray(pixels).save(path)
    return pixels


def test_overlay_blends_and_leaves_ignored_pixels() -> None:
    frame = np.full((1, 2, 3), 100, np.uint8)
    painted = overlay(frame, np.array([[3, 255]], np.uint8), CAMVID, alpha=0.5)
    assert painted[0, 0].tolist() == [114, 82, 114]  # halfway to (128, 64, 128)
    assert painted[0, 1].tolist() == [100, 100, 100]
    assert np.array_equal(overlay(frame, np.array([[3, 3]], np.uint8), CAMVID, alpha=0), frame)
    assert overlay(frame, np.array([[3, 3]], np.uint8), CAMVID, alpha=1)[0, 0].tolist() == [128, 64, 128]


def test_overlay_of_another_size_is_refused() -> None:
    with pytest.raises(BadInput, match="do not fit"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), CAMVID)


def test_images_of_any_size(segmenter: Segmenter, tmp_path: Path) -> None:
    frame = _halves(tmp_path / "a.png", 24, 64)  # three and four times the model's 8x16
    (result,) = predict_files(segmenter, [tmp_path / "a.png"], tmp_path / "out", raw_ids=True, alpha=1.0)
    assert result.ids is not None
    labels = read_ids(result.ids)
    assert labels.shape == (24, 64)
    assert np.array_equal(labels, np.where(frame[..., 0] > 0, 0, 2))
    assert np.array_equal(read_rgb(result.overlay), CAMVID.colourise(labels))
    assert result.shares == {"sky": 0.5, "pole": 0.5}
    assert result.mean_confidence == pytest.approx(200 / 255, abs=0.02)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ids.png", "a.overlay.png"]


def test_a_folder_stands_for_its_images(segmenter: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        _halves(folder / name, 8, 16)
    (folder / "notes.txt").write_text("no image")
    results = list(predict_files(segmenter, [folder], tmp_path / "out"))
    assert [result.source.name for result in results] == ["a.jpg", "b.png"]
    assert results[0].ids is None


def test_unreadable_files_are_named_after_the_others_are_done(segmenter: Segmenter, tmp_path: Path) -> None:
    _halves(tmp_path / "good.png", 8, 16)
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    results = predict_files(segmenter, [tmp_path / "bad.png", tmp_path / "good.png"], tmp_path / "out")
    assert next(results).source.name == "good.png"
    with pytest.raises(BadInput, match=r"1 of 2 images(.|\n)*bad\.png"):
        next(results)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.overlay.png"]


def test_nothing_is_written_when_inputs_collide(segmenter: Segmenter, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        _halves(tmp_path / folder / "a.png", 8, 16)
    with pytest.raises(BadInput, match=r"would both become a\.overlay\.png"):
        predict_files(segmenter, [tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_replaced(segmenter: Segmenter, tmp_path: Path) -> None:
    _halves(tmp_path / "a.png", 8, 16)
    _halves(tmp_path / "a.overlay.png", 8, 16)
    before = (tmp_path / "a.overlay.png").read_bytes()
    with pytest.raises(BadInput, match="would be replaced"):
        predict_files(segmenter, [tmp_path / "a.png", tmp_path / "a.overlay.png"], tmp_path)
    assert (tmp_path / "a.overlay.png").read_bytes() == before


@pytest.mark.parametrize(("name", "message"), [("gone.png", "no such image"), ("empty", "no images in this folder")])
def test_missing_inputs(segmenter: Segmenter, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=message):
        predict_files(segmenter, [tmp_path / name], tmp_path / "out")


def test_no_files_and_an_output_that_is_a_file(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no image files"):
        predict_files(segmenter, [], tmp_path / "out")
    _halves(tmp_path / "a.png", 8, 16)
    with pytest.raises(BadInput, match="expected a folder"):
        predict_files(segmenter, [tmp_path / "a.png"], tmp_path / "a.png")


def test_a_model_without_labels(make_model: Callable[..., Path], tmp_path: Path) -> None:
    _halves(tmp_path / "a.png", 8, 16)
    with pytest.raises(BadInput, match="expected labels"):
        predict_files(load(make_model(outputs=("latent",))), [tmp_path / "a.png"], tmp_path / "out")
