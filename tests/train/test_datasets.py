"""The published data sets, each written small in its true layout, and `classes.yaml`."""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, CITYSCAPES
from roadworthy.train.data import list_dataset, open_dataset
from roadworthy.train.data.camvid import COLOURS
from roadworthy.train.data.dataset import Pair, hold_out
from roadworthy.train.data.frames import Frames
from roadworthy.train.data.label_images import by_id, read_first_channel
from roadworthy.train.data.labelled_folder import load_classes, parse_classes

HEIGHT, WIDTH = 6, 40


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_frame(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    write_png(path, np.zeros((height, width, 3), np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_deep_png(path: Path, values: np.ndarray) -> None:
    """Write `uint16 [H, W, 3]` or `[H, W, 4]` by the PNG specification, which Pillow cannot, a different filter in each row."""
    height, width, channels = values.shape
    rows, above = [], bytes(width * channels * 2)
    for index, row in enumerate(values.astype(">u2")):
        data = row.tobytes()
        if index % 2:  # filter 2: difference to the row above
            rows.append(b"\x02" + bytes((a - b) % 256 for a, b in zip(data, above, strict=True)))
        else:
            rows.append(b"\x00" + data)
        above = data
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def ids_image(ids: list[int]) -> np.ndarray:
    """One column per id, the rest the last one."""
    row = np.array((ids + [ids[-1]] * WIDTH)[:WIDTH], np.uint8)
    return np.tile(row, (HEIGHT, 1))


def named(labels: np.ndarray, count: int) -> list[str | None]:
    return [None if value == 255 else CITYSCAPES.classes[value] for value in labels[0, :count]]


# --- Cityscapes


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    for split, city, number in (("train", "aachen", 0), ("train", "bochum", 1), ("val", "frankfurt", 2)):
        stem = f"{city}_{number:06d}_000019"
        write_frame(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        write_png(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", ids_image([7, 8, 26, 33, 0, 4, 29]))
        write_png(root / "gtFine" / split / city / f"{stem}_gtFine_color.png", np.zeros((HEIGHT, WIDTH, 4), np.uint8))
        write_png(root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png", np.full((HEIGHT, WIDTH), 26001, np.uint16))
    return root


def test_cityscapes_label_ids_become_train_ids(cityscapes: Path) -> None:
    train, val = (open_dataset(f"cityscapes:{cityscapes}", split) for split in ("train", "val"))
    assert (len(train), len(val), train.taxonomy) == (2, 1, CITYSCAPES)
    assert [pair.group for pair in train.pairs] == ["aachen", "bochum"]
    assert named(train[0].labels, 7) == ["road", "sidewalk", "car", "bicycle", None, None, None]


def test_cityscapes_train_ids_are_read_as_they_are(cityscapes: Path) -> None:
    folder = cityscapes / "gtFine" / "val" / "frankfurt"
    write_png(folder / "frankfurt_000002_000019_gtFine_labelTrainIds.png", ids_image([0, 18, 255, 13]))
    sample = open_dataset(f"cityscapes:{cityscapes}", "val")[0]
    assert named(sample.labels, 4) == ["road", "bicycle", None, "car"]


def test_cityscapes_files_that_are_missing_are_named_at_once(cityscapes: Path) -> None:
    next((cityscapes / "gtFine" / "train" / "aachen").glob("*labelIds.png")).unlink()
    next((cityscapes / "leftImg8bit" / "train" / "bochum").iterdir()).unlink()
    with pytest.raises(BadInput, match="2 of 2 samples") as caught:
        open_dataset(f"cityscapes:{cityscapes}", "train")
    assert "aachen_000000_000019_leftImg8bit.png: no label" in str(caught.value)
    assert "bochum_000001_000019_gtFine_labelIds.png: no image" in str(caught.value)
    assert len(list_dataset(f"cityscapes:{cityscapes}", "train").problems) == 2


def test_cityscapes_without_its_folders_or_images_is_refused(cityscapes: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    with pytest.raises(BadInput, match="leftImg8bit/train: no such folder"):
        open_dataset(f"cityscapes:{tmp_path / 'wrong'}")
    for kind in ("leftImg8bit", "gtFine"):
        (cityscapes / kind / "test").mkdir()
    with pytest.raises(BadInput, match="no images there"):
        open_dataset(f"cityscapes:{cityscapes}", "test")


# --- GTA5


@pytest.fixture
def gta5(tmp_path: Path) -> Path:
    root = tmp_path / "gta5"
    for number in range(1, 21):
        write_frame(root / "images" / f"{number:05d}.png")
        palette = Image.fromarray(ids_image([7, 24, 23, 34, 1]))
        palette.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        (root / "labels").mkdir(exist_ok=True)
        palette.save(root / "labels" / f"{number:05d}.png")
    return root


def test_gta5_palette_indices_are_cityscapes_label_ids(gta5: Path) -> None:
    assert Image.open(gta5 / "labels" / "00001.png").mode == "P"
    whole, train, val = (open_dataset(f"gta5:{gta5}", split) for split in (None, "train", "val"))
    assert (len(whole), len(train), len(val)) == (20, 19, 1)
    assert named(whole[0].labels, 5) == ["road", "person", "sky", None, None]


def test_gta5_lists_decide_the_splits(gta5: Path) -> None:
    (gta5 / "train.txt").write_text("00003\n00001\n\n")
    assert [pair.name for pair in open_dataset(f"gta5:{gta5}", "train").pairs] == ["00003", "00001"]
    with pytest.raises(BadInput, match=r"val\.txt: no such file"):
        open_dataset(f"gta5:{gta5}", "val")
    (gta5 / "val.txt").write_text("00099\n00004\n")
    with pytest.raises(BadInput, match="no sample is called '00099'"):
        open_dataset(f"gta5:{gta5}", "val")


def test_gta5_labels_of_another_size_are_named(gta5: Path) -> None:
    write_png(gta5 / "labels" / "00007.png", np.zeros((HEIGHT + 2, WIDTH), np.uint8))
    with pytest.raises(BadInput, match=r"00007\.png: 40x8 pixels, but its image 00007\.png has 40x6"):
        Frames(open_dataset(f"gta5:{gta5}"), (HEIGHT, WIDTH))


# --- SYNTHIA


def test_synthia_reads_the_class_from_16_bits(tmp_path: Path) -> None:
    root = tmp_path / "RAND_CITYSCAPES"
    classes = [3, 4, 10, 17, 8, 19, 21, 16, 18, 22, 0]
    for number in range(2):
        write_frame(root / "RGB" / f"{number:07d}.png")
        deep = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
        deep[..., 0] = ids_image(classes)
        deep[..., 1] = 40_000 + number  # instances
        write_deep_png(root / "GT" / "LABELS" / f"{number:07d}.png", deep)
    dataset = open_dataset(f"synthia:{root}")
    expected = ["road", "sidewalk", "person", "rider", "car", "bus", "wall", None, None, None, None]
    assert named(dataset[0].labels, len(classes)) == expected
    assert len(open_dataset(f"synthia:{root}", "val")) == 1


@pytest.mark.parametrize("channels", [3, 4])
def test_all_16_bits_are_read(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (5, 9, channels), np.uint16)
    write_deep_png(tmp_path / "deep.png", values)
    np.testing.assert_array_equal(read_first_channel(tmp_path / "deep.png"), values[..., 0])


def test_16_bit_grey_and_8_bit_labels_are_read_too(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 1 << 16, (5, 9), np.uint16)
    write_png(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(read_first_channel(tmp_path / "grey.png"), grey)
    shallow = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    write_png(tmp_path / "shallow.png", shallow)
    np.testing.assert_array_equal(read_first_channel(tmp_path / "shallow.png"), shallow[..., 0])


def test_an_id_that_the_data_set_has_not_is_named(tmp_path: Path) -> None:
    deep = np.zeros((2, 2, 3), np.uint16)
    deep[1, 1, 0] = 3 << 8  # 3 in the upper byte: labels written in the wrong byte order
    write_deep_png(tmp_path / "deep.png", deep)
    with pytest.raises(BadInput, match="id 768 is not among the label ids of SYNTHIA"):
        by_id("SYNTHIA", {0: 255, 3: 0}, deep=True)(tmp_path / "deep.png")


@pytest.mark.parametrize("side", [10_000, 60_000])  # below and above what Pillow itself refuses
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    bomb = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    with pytest.raises(BadInput, match=f"{side}x{side} pixels, expected at most|could be decompression bomb"):
        read_first_channel(bomb)
    root = tmp_path / "data"
    write_frame(root / "images" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "a.png").write_bytes(bomb.read_bytes())
    (root / "classes.yaml").write_text(yaml.safe_dump({"classes": [{"name": "road", "colour": [0, 0, 0]}]}))
    with pytest.raises(BadInput, match=f"{side}x{side} pixels|decompression bomb"):
        Frames(open_dataset(f"folder:{root}"), (HEIGHT, WIDTH))


# --- CamVid as it was published


@pytest.fixture
def original_camvid(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    colours = [*(colour for colours in COLOURS.values() for colour in colours), (0, 0, 0)]
    row = np.array((colours + [(0, 0, 0)] * WIDTH)[:WIDTH], np.uint8)
    for sequence, count in (("0001TP", 10), ("0016E5", 10), ("Seq05VD", 3)):
        for number in range(count):
            write_frame(root / "701_StillsRaw_full" / f"{sequence}_{number:06d}.png")
            write_png(root / "LabeledApproved_full" / f"{sequence}_{number:06d}_L.png", np.tile(row, (HEIGHT, 1, 1)))
    return root


def test_the_32_colours_of_camvid_fold_to_11_classes(original_camvid: Path) -> None:
    dataset = open_dataset(f"camvid:{original_camvid}")
    assert dataset.taxonomy == CAMVID
    labels = dataset[0].labels
    colours = [colour for colours in COLOURS.values() for colour in colours]
    assert len(set(colours)) == 31  # and void
    counts = [int((labels[0] == train_id).sum()) for train_id in range(11)]
    assert counts == [len(COLOURS[name]) for name in CAMVID.classes]
    assert (labels[0, 31:] == 255).all()
    # Where a class keeps the colour of the label that it is named for, the folding must agree with the shipped palette.
    for name, colour in zip(CAMVID.classes, CAMVID.palette, strict=True):
        assert colour in COLOURS[name] or name == "pavement"  # the SegNet authors painted the pavement anew


def test_camvid_is_split_by_its_sequences(original_camvid: Path) -> None:
    train, val, test = (open_dataset(f"camvid:{original_camvid}", split).pairs for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (16, 4, 3)
    assert {pair.group for pair in test} == {"Seq05VD"}
    assert [pair.name for pair in val if pair.group == "0001TP"] == ["0001TP_000008", "0001TP_000009"]
    for split, names in (("train", ["0001TP_000001"]), ("val", ["Seq05VD_000000"]), ("test", ["0016E5_000003"])):
        (original_camvid / f"{split}.txt").write_text("\n".join(names))
        assert [pair.name for pair in open_dataset(f"camvid:{original_camvid}", split).pairs] == names


def test_a_colour_that_is_no_label_is_named(original_camvid: Path) -> None:
    path = original_camvid / "LabeledApproved_full" / "0001TP_000000_L.png"
    image = np.array(Image.open(path))
    image[2, 5] = (1, 2, 3)
    write_png(path, image)
    with pytest.raises(BadInput, match=r"_L\.png: colour \(1, 2, 3\) at x=5, y=2 is not among the 32 label colours"):
        open_dataset(f"camvid:{original_camvid}")[0]


# --- a folder of one's own

HARBOUR = {
    "name": "harbour",
    "ignore": [0],
    "classes": [
        {"name": "road", "colour": [128, 64, 128], "ids": [7, 8], "group": 3},
        {"name": "crane", "colour": [250, 170, 30], "ids": [200]},
        {"name": "docker", "colour": [220, 20, 60], "ids": [3], "group": 4},
    ],
}


def write_folder(root: Path, classes: object, labels: np.ndarray, count: int = 10) -> Path:
    for number in range(count):
        write_frame(root / "images" / f"{number:02d}.jpg")
        write_png(root / "labels" / f"{number:02d}.png", labels)
    (root / "classes.yaml").write_text(yaml.safe_dump(classes))
    return root


def test_a_folder_says_what_its_ids_mean(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", HARBOUR, ids_image([7, 8, 200, 3, 0, 255]))
    dataset = open_dataset(f"folder:{root}")
    assert (dataset.taxonomy.name, dataset.taxonomy.classes) == ("harbour", ("road", "crane", "docker"))
    assert dataset.taxonomy.groups == {4: ("docker",), 3: ("road",), 1: ("crane",)}
    assert dataset[0].labels[0, :6].tolist() == [0, 0, 1, 2, 255, 255]
    assert [len(open_dataset(f"folder:{root}", split)) for split in ("train", "val")] == [9, 1]
    write_png(root / "labels" / "04.png", ids_image([9]))
    with pytest.raises(BadInput, match=r"04\.png: id 9 is not among the label ids of harbour"):
        Frames(dataset, (HEIGHT, WIDTH))


def test_a_folder_may_have_colour_labels(tmp_path: Path) -> None:
    classes = {**HARBOUR, "labels": "colours", "ignore": [[0, 0, 0]]}
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, 0], image[:, 1] = (250, 170, 30), (220, 20, 60)
    root = write_folder(tmp_path / "mine", classes, image)
    assert open_dataset(f"folder:{root}")[0].labels[0, :3].tolist() == [1, 2, 255]


def test_a_folder_with_the_names_of_a_known_taxonomy_has_that_taxonomy() -> None:
    entries = [
        {"name": name, "colour": list(colour)} for name, colour in zip(CITYSCAPES.classes, CITYSCAPES.palette, strict=True)
    ]
    assert parse_classes({"classes": entries}, "mine").taxonomy is CITYSCAPES
    with pytest.raises(BadInput, match="taxonomy with other classes"):
        parse_classes({"classes": entries[:3], "name": "cityscapes"}, "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "a list of 1 to 254 classes"),
        ({"classes": [{"colour": [0, 0, 0]}]}, "class 0: name is None"),
        ({"classes": [{"name": "a", "colour": [0, 0]}]}, r"class 0 \(a\): colour is \[0, 0\]"),
        ({"classes": [{"name": "a", "colour": [0, 0, 256]}]}, "a whole number from 0 to 255"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0], "id": 3}]}, "unknown field 'id'"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0], "ids": [True]}]}, "is True"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0]}, {"name": "a", "colour": [1, 0, 0]}]}, "name 'a' is given to two"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0]}, {"name": "b", "colour": [0, 0, 0]}]}, "is given to two classes"),
        ({"ignore": [7]}, "raw id 7 is both that of 'road' and ignored"),
        ({"ignore": 0}, "ignore is 0, expected a list"),
        ({"labels": "rgb"}, "expected ids or colours"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_a_classes_file_that_will_not_do_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump({**HARBOUR, **change}))
    with pytest.raises(BadInput, match=message) as caught:
        load_classes(path)
    assert "classes.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["[", "classes: !!python/object/apply:os.system ['true']", "- 1", "", "a: " + "[" * 3000])
def test_a_classes_file_that_is_not_one_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"classes\.yaml"):
        load_classes(tmp_path / "classes.yaml")


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=4) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": yaml_values,
            "labels": st.sampled_from(["ids", "colours"]) | yaml_values,
            "ignore": st.lists(yaml_values, max_size=3) | yaml_values,
            "classes": st.lists(
                st.fixed_dictionaries(
                    {"name": st.text(max_size=3), "colour": st.lists(st.integers(-1, 256), min_size=3, max_size=3)},
                    optional={"ids": st.lists(yaml_values, max_size=3), "group": yaml_values},
                )
                | yaml_values,
                max_size=4,
            )
            | yaml_values,
        },
    )
    | yaml_values
)
def test_whatever_a_classes_file_holds_it_is_understood_or_refused(values: object) -> None:
    try:
        taxonomy = parse_classes(values, "mine").taxonomy
    except BadInput:
        return
    assert len(taxonomy.palette) == len(taxonomy) == len(set(taxonomy.classes))
    assert sorted(name for names in taxonomy.groups.values() for name in names) == sorted(taxonomy.classes)


@given(st.dictionaries(st.integers(0, 254), st.integers(0, 5), min_size=1, max_size=20))
def test_every_raw_id_reads_as_the_class_that_claims_it(claims: dict[int, int]) -> None:
    ids = [[raw for raw, owner in claims.items() if owner == index] for index in range(6)]
    classes = [{"name": f"class {index}", "colour": [index, 0, 0], "ids": ids[index]} for index in range(6)]
    read_labels = parse_classes({"classes": classes}, "mine").read_labels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "label.png"
        Image.fromarray(np.array([list(claims)], np.uint8)).save(path)
        assert read_labels(path).tolist() == [list(claims.values())]


# --- holding out


def test_whole_groups_are_held_out_where_there_are_enough() -> None:
    pairs = [Pair(f"{group}{i}", Path(), Path(), str(group)) for group in range(20) for i in range(3)]
    rest, held = hold_out(pairs, 0.1)
    assert (len(rest), len(held)) == (54, 6)
    assert not {pair.group for pair in rest} & {pair.group for pair in held}


def test_of_few_groups_the_last_frames_are_held_out() -> None:
    pairs = [Pair(f"{group}{i}", Path(), Path(), group) for group in "ab" for i in range(10)]
    rest, held = hold_out(pairs, 0.2)
    assert [pair.name for pair in held] == ["a8", "a9", "b8", "b9"]
    assert len(rest) == 16
