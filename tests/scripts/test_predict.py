"""`roadworthy predict` as a user types it: images, a video, the confidence range, and sources that will not do."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from roadworthy.runtime.video import VideoWriter, read_video
from roadworthy.scripts.cli import main

from .colour_model import HEIGHT, WIDTH, write_colour_model


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_colour_model(tmp_path / "model.onnx")


def predict(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def write_images(folder: Path, brightness: list[int]) -> Path:
    folder.mkdir()
    for number, value in enumerate(brightness):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[..., 1] = value
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def test_a_calibrated_model_flags_what_it_does_not_know(model: Path, tmp_path: Path) -> None:
    known = write_images(tmp_path / "known", list(range(180, 220)))
    calibrated = predict(model, known, "--calibrate-confidence")
    assert calibrated.exit_code == 0, calibrated.output
    assert (tmp_path / "model.onnx.confidence.json").is_file()
    shown = predict(model, write_images(tmp_path / "new", [200, 60]), "-o", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    flagged = [line for line in shown.output.splitlines() if line.startswith("unusual:")]
    assert len(flagged) == 1
    assert "001.png" in flagged[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.overlay.png", "001.overlay.png"]


def test_too_few_frames_to_calibrate(model: Path, tmp_path: Path) -> None:
    result = predict(model, write_images(tmp_path / "few", [200, 201]), "--calibrate-confidence")
    assert result.exit_code == 2
    assert not (tmp_path / "model.onnx.confidence.json").exists()


def test_a_video_becomes_a_video(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    with VideoWriter(tmp_path / "in.mp4", 10) as writer:
        for _ in range(5):
            writer.write(np.full((HEIGHT, WIDTH, 3), (200, 0, 0), np.uint8))
    result = predict(model, tmp_path / "in.mp4", "--video", tmp_path / "out.mp4", "--deadline-ms", "100000")
    assert result.exit_code == 0, result.output
    assert "5 of 5 frames, 0 dropped" in " ".join(result.output.split())
    assert "0 frames were older" in result.output
    assert len(list(read_video(tmp_path / "out.mp4")[1])) == 5


def test_images_become_a_video(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    result = predict(model, write_images(tmp_path / "images", [200, 100, 50]), "--video", tmp_path / "out.mp4", "--frames", "2")
    assert result.exit_code == 0, result.output
    assert len(list(read_video(tmp_path / "out.mp4")[1])) == 2


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["gone.mp4"], "no such video file"),
        (["gone/"], "no such image file"),
        (["a.mp4", "b.png"], "give it alone"),
        (["camera:97"], "no such camera"),
    ],
)
def test_sources_that_will_not_do(model: Path, sources: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = predict(model, *sources)
    assert result.exit_code == 2
    assert message in " ".join((result.output + capfd.readouterr().err).split())
