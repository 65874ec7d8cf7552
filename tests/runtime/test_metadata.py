"""What a model file says about itself survives the trip through strings, and every broken fact is named."""

import json

import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import REQUIRED, ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID, TOWN, Taxonomy


def test_round_trip() -> None:
    metadata = ModelMetadata.of(
        TOWN, ignore_id=255, height=128, width=256, objective="wasserstein", revision="abc", source="run 1"
    )
    props = metadata.to_props()
    assert all(isinstance(value, str) for value in props.values())
    assert ModelMetadata.from_props(props, "m.onnx") == metadata
    assert metadata.lookup_taxonomy() is TOWN


def test_foreign_keys_are_left_alone(metadata: ModelMetadata) -> None:
    assert ModelMetadata.from_props(metadata.to_props() | {"author": "me"}, "m.onnx") == metadata


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(metadata: ModelMetadata, key: str) -> None:
    props = metadata.to_props()
    del props[key]
    with pytest.raises(BadInput, match=rf"m\.onnx.*'{key}'.*roadworthy export"):
        ModelMetadata.from_props(props, "m.onnx")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("taxonomy", "moon", "unknown taxonomy 'moon'"),
        ("class_names", json.dumps(CAMVID.classes[::-1]), "'class_names'.*differ from taxonomy 'camvid'"),
        ("class_names", "sky, road", "'class_names' is not JSON"),
        ("palette", "[[1, 2]]", "'palette'"),
        ("palette", json.dumps([[0, 0, 256]] * 11), "'palette'"),
        ("height", "-4", "'height' is -4"),
        ("width", '"wide"', "'width' is 'wide'"),
        ("ignore_id", "true", "'ignore_id' is True"),
    ],
)
def test_a_broken_value_is_named(metadata: ModelMetadata, key: str, value: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ModelMetadata.from_props(metadata.to_props() | {key: value}, "m.onnx")


def test_a_users_own_taxonomy_travels_in_the_file() -> None:
    own = Taxonomy("yard", ("gravel", "child"), ((1, 2, 3), (4, 5, 6)), {2: ("child",), 1: ("gravel",)}, {7: 0, 9: 1})
    props = ModelMetadata.of(own, ignore_id=255, height=32, width=64).to_props()
    found = ModelMetadata.from_props(props, "m.onnx").lookup_taxonomy()
    assert (found.name, found.classes, found.palette, found.groups) == (own.name, own.classes, own.palette, own.groups)
    for groups in ('{"1": ["gravel"]}', '{"x": ["gravel", "child"]}', "[]", '{"1": ["gravel", "child", "child"]}'):
        with pytest.raises(BadInput, match=r"m\.onnx: metadata 'groups'"):
            ModelMetadata.from_props(props | {"groups": groups}, "m.onnx")
    with pytest.raises(BadInput, match="expected a list of names"):
        ModelMetadata.from_props(props | {"class_names": "[1, 2]"}, "m.onnx")
