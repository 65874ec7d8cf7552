"""Video in and out with the real ffmpeg."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids
from roadworthy.runtime.predict import predict_stream
from roadworthy.runtime.video import VideoWriter, read_camera, read_video

pytest.importorskip("imageio_ffmpeg", reason="reading and writing video needs imageio-ffmpeg")


def _write(path: Path, frames: list[np.ndarray], fps: float = 10) -> None:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture
def frames() -> list[np.ndarray]:
    """Frames of one bright colour each: red, green, blue, ..."""
    return [np.full((48, 64, 3), np.eye(3, dtype=np.uint8)[number % 3] * 220, np.uint8) for number in range(7)]


def test_what_is_written_can_be_read(tmp_path: Path, frames: list[np.ndarray]) -> None:
    _write(tmp_path / "clip.mp4", frames)
    fps, captured = read_video(tmp_path / "clip.mp4")
    read = list(captured)
    assert fps == pytest.approx(10)
    assert [frame.name for frame in read] == [f"{number:06d}" for number in range(7)]
    for written, frame in zip(frames, read, strict=True):
        assert np.abs(frame.pixels.astype(int) - written).mean() < 8  # H.264 is lossy
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_odd_sizes_are_padded_by_a_pixel(tmp_path: Path) -> None:
    _write(tmp_path / "odd.mp4", [np.full((49, 65, 3), 90, np.uint8)] * 3)
    _, captured = read_video(tmp_path / "odd.mp4")
    assert next(captured).pixels.shape == (50, 66, 3)


def test_a_video_through_a_model_into_a_video_and_ids(
    tmp_path: Path, frames: list[np.ndarray], make_model: Callable[..., Path]
) -> None:
    _write(tmp_path / "drive.mp4", frames)
    fps, captured = read_video(tmp_path / "drive.mp4")
    segmenter = load(make_model(), threads=1)
    stats = predict_stream(segmenter, captured, tmp_path / "out", video=tmp_path / "seen.mp4", fps=fps, raw_ids=True, alpha=1.0)
    assert (stats.delivered, stats.dropped) == (7, 0)
    assert [int(read_ids(path)[24, 32]) for path in sorted((tmp_path / "out").iterdir())] == [0, 1, 2, 0, 1, 2, 0]
    palette = np.asarray(segmenter.metadata.palette)
    for number, frame in enumerate(read_video(tmp_path / "seen.mp4")[1]):
        assert np.abs(frame.pixels[20:28, 28:36].astype(int) - palette[number % 3]).mean() < 12


def test_a_limit_ends_an_endless_device(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    _, captured = read_video("testsrc=size=64x48:rate=30", format="lavfi")  # ffmpeg's own generator, read like a camera
    stats = predict_stream(load(make_model(), threads=1), captured, tmp_path / "out", policy="fresh", limit=4)
    assert stats.delivered == 4
    assert len(list((tmp_path / "out").glob("*.overlay.png"))) == 4


def test_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such video file"):
        read_video(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(BadInput, match=r"text\.mp4: ffmpeg cannot read this as a video"):
        read_video(tmp_path / "text.mp4")
    with pytest.raises(BadInput, match="no such camera"):
        read_camera("97")
    with pytest.raises(BadInput, match="expected a video name"):
        VideoWriter(tmp_path / "clip.txt", 10)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        with pytest.raises(BadInput, match="does not fit"):
            writer.write(np.zeros((40, 64, 3), np.uint8))
