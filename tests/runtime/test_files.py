"""Reading images and writing files: corrupt input is named, a failed write leaves nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadworthy.runtime import files
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, check_output, read_ids, read_rgb, write_text


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_rgb_round_trip(picture: Path) -> None:
    assert np.array_equal(read_rgb(picture), np.asarray(Image.open(picture)))


def test_truncated_png_is_named(picture: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"frame\.png: not a readable image"):
        read_rgb(picture)


def test_text_with_an_image_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "readme.png"
    path.write_text("not an image")
    with pytest.raises(BadInput, match=r"readme\.png: not a readable image"):
        read_rgb(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such image file"):
        read_rgb(tmp_path / "absent.png")


def test_too_many_pixels_are_refused_before_decoding(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadInput, match="60x40 pixels, expected at most 100"):
        read_rgb(picture)


def test_ids_keep_their_values_and_refuse_colour(picture: Path, tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(ids).save(tmp_path / "label.png")
    assert np.array_equal(read_ids(tmp_path / "label.png"), ids)
    palette_image = Image.fromarray(ids).convert("P")
    palette_image.putdata(ids.ravel().tolist())
    palette_image.save(tmp_path / "palette.png")
    assert np.array_equal(read_ids(tmp_path / "palette.png"), ids)
    with pytest.raises(BadInput, match="expected one channel of class ids"):
        read_ids(picture)


def test_sixteen_bit_ids_above_255_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(BadInput, match="300 is above 255"):
        read_ids(tmp_path / "deep.png")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "results" / "metrics.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError, match="power"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["metrics.json"]


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(BadInput, match="file is a file, expected a folder; choose another place"):
        check_output(tmp_path / "file" / "deep" / "x.json")
    with pytest.raises(BadInput, match="file is a file, expected a folder"):
        write_text(tmp_path / "file" / "x.json", "")
    with pytest.raises(BadInput, match="is a folder, expected a file to write"):
        check_output(tmp_path)
    with pytest.raises(BadInput, match="is a file, expected a folder; choose another name"):
        check_output(tmp_path / "file", folder=True)
    check_output(tmp_path / "file")
    check_output(tmp_path / "new" / "x.json")
    check_output(tmp_path, folder=True)
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(Path("/proc/nothing/x.json"), "")
