"""The codecs against the sizes and offsets of the wire format, and against what a client could send."""

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadworthy.agent.town import protocol
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.settings import Settings, weather_from_wire


def test_sizes_and_offsets() -> None:
    assert protocol.RECORD.itemsize == 119
    offsets = {name: protocol.RECORD.fields[name][1] for name in protocol.RECORD.names}
    assert offsets["velocity"] == 29
    assert offsets["acceleration"] == 53
    assert offsets["control"] == offsets["walk"] == offsets["sign_id"] == 65
    assert offsets["failure"] == 65 + 29
    assert offsets["light_state"] == 65 + 53
    assert len(protocol.token(7, 2001)) == 24
    assert len(protocol.message_header(protocol.Stream.RGB, 1, 0.1, [0.0] * 6)) == 48
    assert len(protocol.episode_header(1, 0.0, 0.1, 0)) == 36
    assert len(protocol.image_header(2, 2, 90.0)) == 12


def test_token_bytes() -> None:
    assert protocol.token(0x01020304, 0x0506)[:8] == bytes([4, 3, 2, 1, 6, 5, 1, 0])


def test_depth_round_trip() -> None:
    metres = np.array([[0.0, 0.5, 12.345, 999.9, 5000.0]], np.float32)
    b, g, r = (protocol.encode_depth(metres)[..., k].astype(float) for k in range(3))
    decoded = (r + 256 * g + 65536 * b) / (2**24 - 1) * 1000
    assert decoded == pytest.approx(np.minimum(metres, 1000.0), abs=1e-3)


def test_pictures_carry_the_tag_in_red() -> None:
    tags = np.array([[1, 28]], np.uint8)
    assert protocol.encode_tags(tags).tolist() == [[[0, 0, 1, 255], [0, 0, 28, 255]]]
    assert protocol.encode_instances(tags, np.array([[0x0102, 3]])).tolist() == [[[1, 2, 1, 255], [0, 3, 28, 255]]]


def test_nan_brake_means_full_brake() -> None:
    assert protocol.control_value(math.nan, 0.0, 1.0, 1.0) == 1.0
    assert protocol.control_value(7.0, 0.0, 1.0, 1.0) == 1.0
    with pytest.raises(CallRefused):
        protocol.control_value("fast", 0.0, 1.0, 0.0)


def test_settings_round_trip_and_refusal() -> None:
    settings = Settings(synchronous=True, fixed_delta_s=0.1)
    assert Settings.from_wire(settings.to_wire()) == settings
    assert Settings.from_wire(Settings().to_wire()) == Settings()
    with pytest.raises(CallRefused, match="fixed_delta_seconds"):
        Settings.from_wire(Settings(fixed_delta_s=-1.0).to_wire())
    with pytest.raises(CallRefused, match="14"):
        weather_from_wire([1.0] * 13)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)


@given(JUNK)
def test_readers_refuse_or_return_sane_values(value: object) -> None:
    packed = msgpack.unpackb(protocol.pack(value), raw=False, unicode_errors="surrogateescape", strict_map_key=False)
    for reader in (protocol.transform, protocol.vector, protocol.number, Settings.from_wire, weather_from_wire):
        try:
            result = reader(packed)
        except CallRefused:
            continue
        numbers = result if isinstance(result, tuple) else (result,) if isinstance(result, float) else ()
        assert all(math.isfinite(entry) for entry in numbers)
