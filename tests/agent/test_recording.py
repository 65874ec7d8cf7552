"""A recording's folder is valid after any interruption, and never mixes two recordings."""

import json
from pathlib import Path

import numpy as np
import pytest

from roadworthy.agent.recording import Recording
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb

ASKED = {"towns": ("Grid01",), "seed": 1}


def add(recording: Recording, episode: int, frames: int = 2, suffix: str = "png") -> None:
    lines = []
    for k in range(frames):
        rgb = np.full((8, 16, 3), 40 * k, np.uint8)
        tags = np.full((8, 16), 24 + k, np.uint8)
        name = f"{episode:04d}_{k:05d}"
        lines.append({"name": name, "episode": episode, **recording.save_images(name, rgb, tags, suffix)})
    recording.add_episode(lines)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_what_was_saved_reads_back(tmp_path: Path, suffix: str) -> None:
    recording = Recording.open(tmp_path / "new", ASKED)
    add(recording, 0, suffix=suffix)
    line = json.loads((tmp_path / "new" / "meta.jsonl").read_text().splitlines()[1])
    assert line["rgb"] == f"rgb/0000_00001.{suffix}"
    np.testing.assert_allclose(read_rgb(tmp_path / "new" / line["rgb"]), 40, atol=1)
    tags = read_ids(tmp_path / "new" / line["semantic"])
    assert (tags.shape, tags.dtype, set(tags.ravel())) == ((8, 16), np.uint8, {25})


def test_an_interrupted_recording_goes_on_whole(tmp_path: Path) -> None:
    recording = Recording.open(tmp_path, ASKED)
    add(recording, 0)
    recording.save_images("0001_00000", np.zeros((8, 16, 3), np.uint8), np.zeros((8, 16), np.uint8))  # no line yet
    (tmp_path / "rgb" / ".0001_00001.png.99.part.png").write_bytes(b"\x89PNG half")
    with (tmp_path / "meta.jsonl").open("a") as file:
        file.write('{"name": "0001_000')  # torn
    again = Recording.open(tmp_path, ASKED)
    assert again.frames_by_episode() == {0: 2}
    assert sorted(p.name for p in (tmp_path / "rgb").iterdir()) == ["0000_00000.png", "0000_00001.png"]
    add(again, 1)
    assert Recording.open(tmp_path, ASKED).frames_by_episode() == {0: 2, 1: 2}
    assert len((tmp_path / "meta.jsonl").read_text().splitlines()) == 4


def test_another_recording_and_foreign_folders_are_refused_untouched(tmp_path: Path) -> None:
    Recording.open(tmp_path / "one", ASKED)
    with pytest.raises(BadInput, match="different: seed"):
        Recording.open(tmp_path / "one", {**ASKED, "seed": 2})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(BadInput, match="not a recording"):
        Recording.open(tmp_path / "photos", ASKED)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(BadInput, match="not a recording"):
        Recording.open(tmp_path / "photos" / "cat.jpg", ASKED)
    (tmp_path / "one" / "recording.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        Recording.open(tmp_path / "one", ASKED)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        Recording.open(tmp_path / "file" / "recording", ASKED)
