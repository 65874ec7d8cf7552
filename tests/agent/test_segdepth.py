"""The independent driver's environment: its maps are the simulator's or the segmenter's, thinned; all else is Drive-v0's."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roadworthy.agent.camera import depth_of
from roadworthy.agent.env import DriveSegDepthEnv
from roadworthy.agent.segdepth import (
    VOID,
    open_labels,
    segdepth_space,
    thinned,
    thinned_depth,
    thinned_shape,
    town_ids,
    true_labels,
)
from roadworthy.agent.supervisor import supervise
from roadworthy.agent.town.protocol import encode_depth
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, CITYSCAPES, TOWN

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    sys.path.insert(0, HERE)  # spawned processes import by name
    try:
        tiny = importlib.import_module("tiny_model")
        return {
            "latent": tiny.write_tiny_model(folder / "latent.onnx"),
            "labels": tiny.write_tiny_labels(folder / "labels.onnx"),
        }
    finally:
        sys.path.remove(HERE)


@pytest.fixture(scope="module")
def found(models: dict[str, Path]) -> dict[str, Any]:
    sys.path.insert(0, HERE)
    try:
        result: dict[str, Any] = supervise(importlib.import_module("drive_tasks").check_segdepth, models["labels"], attempts=1)
    finally:
        sys.path.remove(HERE)
    return result


def test_both_checkers_find_nothing_but_the_shape_of_maps(found: dict[str, Any]) -> None:
    assert [w for w in found["warnings"] if "unconventional shape" not in w] == []


def test_the_same_seed_is_the_same_drive(found: dict[str, Any]) -> None:
    assert found["same_drive"]


def test_true_labels_and_depth_are_those_of_the_frame(found: dict[str, Any]) -> None:
    observation, tags, depth_m = found["observation"], found["tags"], found["depth_m"]
    assert observation["segmentation"].shape == observation["depth"].shape == (64, 128)
    assert segdepth_space(128, 256).contains(observation)
    np.testing.assert_array_equal(observation["segmentation"], true_labels(tags)[::2, ::2])
    np.testing.assert_allclose(observation["depth"], np.minimum(depth_m[::2, ::2], 100.0), rtol=1e-3)
    labels = observation["segmentation"]
    assert {TOWN.index("road"), TOWN.index("sky"), TOWN.index("road line")} <= set(np.unique(labels))
    # The sky is far away; the road before the wheels (1.5 m below a camera that sees 26.6 degrees down) is 3 m away.
    assert (observation["depth"][labels == TOWN.index("sky")] == 100.0).all()
    assert 2.0 < observation["depth"][-1, 64] < 4.5


def test_a_segmenter_takes_the_place_of_the_truth(found: dict[str, Any]) -> None:
    expected = (found["frame"].astype(np.float32).mean(2) / 13.0).astype(np.uint8)[::2, ::2]
    np.testing.assert_array_equal(found["predicted"]["segmentation"], expected)
    np.testing.assert_array_equal(found["predicted"]["depth"], found["observation"]["depth"])  # the same drive
    np.testing.assert_array_equal(found["predicted"]["measurements"], found["observation"]["measurements"])


def test_the_picture_shows_frame_labels_and_map(found: dict[str, Any]) -> None:
    picture = found["picture"]
    assert picture.shape == (128, 256 + 256 + 128, 3)
    labels = true_labels(found["tags"])
    labels[labels == VOID] = 255
    np.testing.assert_array_equal(picture[:, 256:512], TOWN.colourise(labels))


def test_labels_of_other_taxonomies_are_found_by_name() -> None:
    assert town_ids(TOWN.classes, "model")[: len(TOWN)].tolist() == list(range(len(TOWN)))
    assert town_ids(CITYSCAPES.classes, "model")[: len(CITYSCAPES)].tolist() == list(range(len(CITYSCAPES)))
    camvid = town_ids(CAMVID.classes, "model")
    assert TOWN.classes[camvid[CAMVID.index("bicyclist")]] == "rider"
    assert TOWN.classes[camvid[CAMVID.index("pavement")]] == "sidewalk"
    assert camvid[255] == VOID
    with pytest.raises(BadInput, match=r"blob\.onnx: classes unicorn are none of the town"):
        town_ids(("road", "unicorn"), "blob.onnx")


def test_tags_without_a_class_are_void() -> None:
    assert true_labels(np.array([[1, 24, 20, 0]], np.uint8)).tolist() == [[0, 19, VOID, VOID]]


def test_a_model_without_labels_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="no labels"):
        open_labels(models["latent"])
    with pytest.raises(BadInput, match=r"DriveSegDepth-v0.*colour"):
        DriveSegDepthEnv(models["labels"], colour=1)


@pytest.mark.parametrize(
    ("size", "left"), [((128, 256), (64, 128)), ((64, 128), (64, 128)), ((360, 480), (60, 120)), ((100, 300), (50, 100))]
)
def test_maps_keep_every_nth_pixel(size: tuple[int, int], left: tuple[int, int]) -> None:
    labels = np.arange(size[0] * size[1], dtype=np.uint32).astype(np.uint8).reshape(size)
    assert thinned(labels).shape == thinned_shape(*size) == left
    assert thinned(np.stack([labels, labels])).shape == (2, *left)
    assert thinned(labels)[1, 1] == labels[-(-size[0] // left[0]), -(-size[1] // left[1])]
    assert thinned_depth(np.full(size, 250.0, np.float32)).max() == 100.0


class Picture:
    height, width = 2, 3

    def __init__(self, depth_m: np.ndarray) -> None:
        self.raw_data = encode_depth(depth_m).tobytes()


def test_depth_is_decoded_as_carla_encodes_it() -> None:
    depth_m = np.array([[0.0, 0.1, 1.0], [33.3, 999.0, 2000.0]], np.float32)
    np.testing.assert_allclose(depth_of(Picture(depth_m)), np.minimum(depth_m, 1000.0), atol=1e-4)
