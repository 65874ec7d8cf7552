"""Taxonomies: consistent tables, folding of raw ids, clear errors for foreign ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, IGNORE, TAXONOMIES, TOWN, Taxonomy, get_taxonomy


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES)
def test_tables_agree(taxonomy: Taxonomy) -> None:
    assert len(taxonomy.palette) == len(taxonomy.classes) == len(taxonomy)
    assert len(set(taxonomy.palette)) == len(taxonomy)
    grouped = [name for members in taxonomy.groups.values() for name in members]
    assert sorted(grouped) == sorted(taxonomy.classes)
    assert set(taxonomy.folding.values()) <= {*range(len(taxonomy)), IGNORE}
    assert set(range(len(taxonomy))) <= set(taxonomy.folding.values())  # no class without a raw id


@pytest.mark.parametrize(
    ("tag", "name"), [(1, "road"), (12, "person"), (14, "car"), (19, "bicycle"), (24, "road line"), (28, "fence")]
)
def test_carla_tags_fold_to_cityscapes_classes(tag: int, name: str) -> None:
    assert TOWN.fold(np.array([[tag]], np.uint8))[0, 0] == TOWN.index(name)


def test_camvid_void_is_ignored() -> None:
    assert CAMVID.fold(np.array([[11]], np.uint8))[0, 0] == IGNORE


@given(arrays(np.uint8, (3, 4), elements=st.integers(0, 255)))
def test_folding_gives_train_ids_or_names_every_unknown_id(raw: np.ndarray) -> None:
    unknown = {int(value) for value in raw.flat} - set(CAMVID.folding)
    if unknown:
        with pytest.raises(BadInput, match="not in taxonomy 'camvid'") as caught:
            CAMVID.fold(raw, "0001.png")
        assert "0001.png" in str(caught.value)
        assert str(min(unknown)) in str(caught.value)
    else:
        assert np.isin(CAMVID.fold(raw), [*range(11), IGNORE]).all()


def test_colours_of_labels_and_void() -> None:
    painted = CAMVID.colourise(np.array([[0, 8, IGNORE]], np.uint8))
    assert painted.tolist() == [[list(CAMVID.palette[0]), list(CAMVID.palette[8]), [0, 0, 0]]]


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(BadInput, match="cityscapes, camvid, town"):
        get_taxonomy("kitti")
    with pytest.raises(BadInput, match="pavement"):
        CAMVID.index("sidewalk")
