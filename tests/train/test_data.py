"""Data sets: what is read, how it is varied, and that everything bad is named at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, TOWN
from roadworthy.train.data import list_dataset, open_dataset
from roadworthy.train.data.augment import NO_AUGMENTATION, Augmentation, augment, resize
from roadworthy.train.data.batches import Batches
from roadworthy.train.data.dataset import Sample
from roadworthy.train.data.frames import Frames, read_checked

SIZE = (32, 64)


def test_camvid_gives_train_ids_with_void_ignored(tiny_camvid: Path) -> None:
    dataset = open_dataset(f"camvid:{tiny_camvid}", "val")
    sample = dataset[0]
    assert (len(dataset), dataset.taxonomy) == (4, CAMVID)
    assert (sample.image.shape, sample.image.dtype) == ((32, 64, 3), np.uint8)
    assert set(np.unique(sample.labels)) == {0, 3, 8, 255}
    assert (sample.labels[:2] == 255).all()


def test_the_real_camvid_reads(real_camvid: Path) -> None:
    assert len(open_dataset(f"camvid:{real_camvid}", "train")) == 367
    val = open_dataset(f"camvid:{real_camvid}", "val")
    assert len(val) == 101
    sample = val[0]
    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.labels)) <= {*range(11), 255}


def write_recording(root: Path, episodes: int, frames_each: int) -> Path:
    for folder in ("rgb", "semantic"):
        (root / folder).mkdir(parents=True)
    lines = []
    for episode in range(episodes):
        for frame in range(frames_each):
            name = f"{episode:02d}_{frame:03d}"
            tags = np.full((8, 16), 1, np.uint8)  # Roads
            tags[0] = 24  # RoadLines
            tags[1] = 3  # Buildings
            tags[2] = 0  # None
            Image.fromarray(tags).save(root / "semantic" / f"{name}.png")
            Image.fromarray(np.full((8, 16, 3), episode, np.uint8)).save(root / "rgb" / f"{name}.png")
            lines.append(json.dumps({"name": name, "episode": episode, "speed_mps": 3.0}))
    (root / "meta.jsonl").write_text("\n".join(lines) + "\n")
    return root


def test_a_recording_folds_carla_tags(tmp_path: Path) -> None:
    dataset = open_dataset(f"recording:{write_recording(tmp_path / 'r', 1, 2)}")
    assert dataset.taxonomy == TOWN
    labels = dataset[0].labels
    names = [None if i == 255 else TOWN.classes[i] for i in labels[:4, 0]]
    assert names == ["road line", "building", None, "road"]


def test_a_recording_is_split_by_whole_episodes(tmp_path: Path) -> None:
    spec = f"recording:{write_recording(tmp_path / 'r', 10, 3)}"
    train, val = open_dataset(spec, "train"), open_dataset(spec, "val")
    episodes = [{pair.name[:2] for pair in part.pairs} for part in (train, val)]
    assert (len(train), len(val), len(open_dataset(spec))) == (24, 6, 30)
    assert not episodes[0] & episodes[1]


def test_a_recording_of_one_episode_gives_its_last_fifth_for_validation(tmp_path: Path) -> None:
    spec = f"recording:{write_recording(tmp_path / 'r', 1, 10)}"
    assert [pair.name for pair in open_dataset(spec, "val").pairs] == ["00_008", "00_009"]
    assert len(open_dataset(spec, "train")) == 8


@pytest.mark.parametrize("line", ["{", '{"episode": 1}', '{"name": "../up", "episode": 1}', "[1]", '{"name": 3}'])
def test_a_damaged_meta_line_is_named(tmp_path: Path, line: str) -> None:
    root = write_recording(tmp_path / "r", 1, 2)
    with (root / "meta.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match=r"meta\.jsonl, line 3"):
        open_dataset(f"recording:{root}")


def test_a_line_that_an_interrupted_recorder_left_unfinished_does_not_count(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "r", 1, 2)
    with (root / "meta.jsonl").open("a") as file:
        file.write('{"name": "00_0')
    assert len(open_dataset(f"recording:{root}")) == 2


def test_frames_that_a_recording_lost_are_named_at_once(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "r", 1, 4)
    (root / "semantic" / "00_001.png").unlink()
    (root / "rgb" / "00_003.png").unlink()
    with pytest.raises(BadInput, match=r"2 of 4 samples.*\n.*00_001.*no label.*\n.*00_003: no image"):
        open_dataset(f"recording:{root}")


@pytest.mark.parametrize("spec", ["camvid", "camvid:", "kitti:/data", "/data"])
def test_a_spec_that_does_not_read_is_refused(spec: str) -> None:
    with pytest.raises(BadInput, match="KIND:PATH"):
        open_dataset(spec)


def test_missing_folders_are_refused(tmp_path: Path, own_camvid: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        open_dataset(f"camvid:{tmp_path / 'none'}")
    with pytest.raises(BadInput, match="test"):
        open_dataset(f"camvid:{own_camvid}", "test")
    with pytest.raises(BadInput, match="no split 'dev'"):
        open_dataset(f"camvid:{own_camvid}", "dev")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "empty" / "trainannot").mkdir()
    with pytest.raises(BadInput, match="no images"):
        open_dataset(f"camvid:{tmp_path / 'empty'}")


def test_images_without_labels_and_labels_without_images_are_named_at_once(own_camvid: Path) -> None:
    (own_camvid / "trainannot" / "0001.png").unlink()
    (own_camvid / "train" / "0002.png").unlink()
    with pytest.raises(BadInput, match=r"2 of 4 samples") as caught:
        open_dataset(f"camvid:{own_camvid}")
    assert "0001.png: no label" in str(caught.value)
    assert "0002.png: no image" in str(caught.value)


def test_every_unusable_file_is_named_before_training(own_camvid: Path) -> None:
    image, label = own_camvid / "train" / "0000.png", own_camvid / "trainannot" / "0001.png"
    image.write_bytes(image.read_bytes()[:200])  # truncated
    ids = np.array(Image.open(label))
    ids[5, 5] = 77
    Image.fromarray(ids).save(label)
    Image.fromarray(ids[:-1]).save(own_camvid / "trainannot" / "0002.png")
    with pytest.raises(BadInput, match="3 of 4 samples") as caught:
        Frames(open_dataset(f"camvid:{own_camvid}"), SIZE)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 3
    assert "0000.png: not a readable image" in lines[0]
    assert "0001.png: id 77 is not in taxonomy 'camvid'" in lines[1]
    assert "0002.png" in lines[2]


def test_every_problem_is_spelled_out_however_many_there_are(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "r", 1, 15)
    for path in (root / "semantic").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match="15 of 15") as caught:
        open_dataset(f"recording:{root}")
    assert sum("no label" in line for line in str(caught.value).splitlines()) == 15


def test_the_bad_files_of_two_data_sets_are_named_at_once_or_skipped(own_camvid: Path) -> None:
    image, label = own_camvid / "train" / "0000.png", own_camvid / "valannot" / "0001.png"
    image.write_bytes(image.read_bytes()[:200])
    label.unlink()
    parts = [list_dataset(f"camvid:{own_camvid}", split) for split in ("train", "val")]
    with pytest.raises(BadInput, match="2 of 6 samples") as caught:
        read_checked(parts, SIZE)
    assert "0000.png: not a readable image" in str(caught.value)
    assert "val/0001.png: no label" in str(caught.value)
    train, val = read_checked(parts, SIZE, skip_bad=True)
    assert (len(train), len(val), len(train.problems), len(val.problems)) == (3, 1, 1, 1)
    np.testing.assert_array_equal(train[0].image, parts[0][1].image)
    streamed = Frames(parts[0], SIZE, memory_limit_bytes=0, tolerate=True)
    assert [sample.name for sample in (streamed[0], streamed[2])] == ["0001", "0003"]


def test_skipping_leaves_something_to_learn_from(own_camvid: Path) -> None:
    for path in (own_camvid / "trainannot").iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(BadInput, match="none of its 4 samples can be used"):
        read_checked([open_dataset(f"camvid:{own_camvid}")], SIZE, skip_bad=True)


def test_frames_count_the_pixels_of_each_class(tiny_camvid: Path) -> None:
    dataset = open_dataset(f"camvid:{tiny_camvid}")
    frames = Frames(dataset, SIZE)
    expected = np.zeros(11, np.int64)
    for index in range(len(dataset)):
        for train_id, count in zip(*np.unique(dataset[index].labels, return_counts=True), strict=True):
            if train_id != 255:
                expected[train_id] += count
    np.testing.assert_array_equal(frames.class_pixels, expected)


def test_frames_from_memory_and_from_disk_are_the_same(tiny_camvid: Path) -> None:
    dataset = open_dataset(f"camvid:{tiny_camvid}")
    kept, streamed = Frames(dataset, (16, 24)), Frames(dataset, (16, 24), memory_limit_bytes=0)
    for index in range(len(dataset)):
        for a, b in zip(kept[index], streamed[index], strict=True):
            np.testing.assert_array_equal(a, b)


def labelled_ramp() -> Sample:
    """A sample whose image says where each pixel came from, and whose labels follow the image."""
    y, x = np.mgrid[0:48, 0:80].astype(np.uint8)
    image = np.stack([y * 4, x * 3, np.zeros_like(x)], 2)
    return Sample(image, (x // 10).astype(np.uint8), "ramp")


def test_no_augmentation_changes_nothing() -> None:
    sample = labelled_ramp()
    same = augment(sample, NO_AUGMENTATION, np.random.default_rng(0))
    np.testing.assert_array_equal(same.image, sample.image)
    np.testing.assert_array_equal(same.labels, sample.labels)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_labels_move_with_their_image(seed: int, scale: float) -> None:
    options = Augmentation(flip=0.5, scale_min=scale, scale_max=scale, jitter=0.0)
    varied = augment(labelled_ramp(), options, np.random.default_rng(seed))
    assert varied.image.shape == (48, 80, 3)
    assert varied.image.dtype == varied.labels.dtype == np.uint8
    inside = varied.labels != 255
    assert inside.all() == (scale >= 1.0)
    column = varied.image[..., 1] / 3  # where the pixel came from
    away_from_edges = inside & (np.abs(column % 10 - 5) < 3.5)
    away_from_edges[:2], away_from_edges[-2:], away_from_edges[:, :2], away_from_edges[:, -2:] = False, False, False, False
    np.testing.assert_array_equal(varied.labels[away_from_edges], (column // 10)[away_from_edges])


def test_jitter_changes_the_image_but_not_the_labels() -> None:
    options = Augmentation(flip=0.0, scale_min=1.0, scale_max=1.0, jitter=0.3)
    sample = labelled_ramp()
    varied = augment(sample, options, np.random.default_rng(1))
    np.testing.assert_array_equal(varied.labels, sample.labels)
    change = np.abs(varied.image.astype(int) - sample.image).mean()
    assert 1 < change < 60


def test_resize_keeps_ids_pure() -> None:
    small = resize(labelled_ramp(), 24, 40)
    assert small.image.shape == (24, 40, 3)
    assert set(np.unique(small.labels)) == set(range(8))


def test_batches_depend_on_seed_and_number_alone(tiny_camvid: Path) -> None:
    frames = Frames(open_dataset(f"camvid:{tiny_camvid}"), SIZE)

    def batches(seed: int) -> Batches:
        return Batches(frames, 3, seed, Augmentation())

    unbroken = list(batches(7).run(0, 6))
    resumed = list(batches(7).run(4, 6))
    for a, b in zip(unbroken[4:], resumed, strict=True):
        assert (a.frames == b.frames).all()
        assert (a.labels == b.labels).all()
    assert (batches(8)[0].frames != unbroken[0].frames).any()
    assert (unbroken[0].frames.shape, unbroken[0].labels.shape) == ((3, *SIZE, 3), (3, *SIZE))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_processes_change_nothing(tiny_camvid: Path, workers: int) -> None:
    frames = Frames(open_dataset(f"camvid:{tiny_camvid}"), SIZE)
    whole = list(Batches(frames, 4, 7, Augmentation()).run(0, 5))
    shares = [list(Batches(frames, 4, 7, Augmentation(), rank=r, world=2, workers=workers).run(0, 5)) for r in range(2)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number].frames for share in shares]), batch.frames)
        assert torch.equal(torch.cat([share[number].labels for share in shares]), batch.labels)


def test_a_crop_is_a_part_of_its_frame() -> None:
    sample = labelled_ramp()
    seen = set()
    for seed in range(20):
        cut = augment(sample, NO_AUGMENTATION, np.random.default_rng(seed), (16, 32))
        assert cut.image.shape == (16, 32, 3)
        top, left = int(cut.image[0, 0, 0]) // 4, int(cut.image[0, 0, 1]) // 3
        np.testing.assert_array_equal(cut.image, sample.image[top : top + 16, left : left + 32])
        np.testing.assert_array_equal(cut.labels, sample.labels[top : top + 16, left : left + 32])
        seen.add((top, left))
    assert len(seen) > 10


def test_a_crop_larger_than_its_frame_is_filled_with_ignored_pixels() -> None:
    sample = labelled_ramp()
    cut = augment(sample, NO_AUGMENTATION, np.random.default_rng(0), (64, 80))
    inside = cut.labels != 255
    assert inside.sum() == sample.labels.size
    np.testing.assert_array_equal(cut.image[inside], sample.image.reshape(-1, 3))
    assert not cut.image[~inside].any()


def test_zoom_and_crop_together_keep_labels_on_their_pixels() -> None:
    options = Augmentation(flip=0.0, scale_min=2.0, scale_max=2.0, jitter=0.0)
    cut = augment(labelled_ramp(), options, np.random.default_rng(3), (32, 64))
    column = cut.image[..., 1] / 3
    sure = np.abs(column % 10 - 5) < 3.5
    np.testing.assert_array_equal(cut.labels[sure], (column // 10)[sure])
    assert np.ptp(column) == pytest.approx(32, abs=1)  # 64 pixels show 32 of the frame


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"scale_min": 0.0}, {"scale_min": 2.0, "scale_max": 1.0}, {"jitter": -0.1}])
def test_an_augmentation_that_will_not_do_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="expected"):
        Augmentation(**wrong)


def test_every_sample_comes_once_per_epoch(tiny_camvid: Path) -> None:
    frames = Frames(open_dataset(f"camvid:{tiny_camvid}"), SIZE)
    order = Batches(frames, 4, 0, NO_AUGMENTATION)
    images = [image.tobytes() for number in range(2) for image in order[number].frames.numpy()]
    assert len(set(images)) == len(frames) == 8
