"""Reading from an ONNX file, without any ONNX package, what must be known before a backend opens it: metadata and file names.

Every backend needs the metadata and only some hand it out, and a broken file deserves one clear error instead of one per
backend. A model may keep its weights in other files (external data) and names them itself: a name that leads out of the
model's folder would let a stranger's model read any file of the vehicle. Field numbers are those of `onnx.proto3`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from roadworthy.runtime.errors import BadInput

_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2
# Where tensors are: message -> field number -> message in that field. Everything else is stepped over.
_TENSORS_IN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},  # initialization, algorithm
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},  # values, indices
    "tensor": {13: "external data"},
}
_MAX_DEPTH = 64  # of nested messages; graphs inside loops inside graphs go a few levels deep
_MAX_ENTRY_BYTES = 1 << 20  # a metadata entry larger than this is not one of ours
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types


class _NotProtobufError(Exception):
    """The bytes cannot be a protobuf message."""


def read_props(path: Path) -> dict[str, str]:
    """Return the `metadata_props` of the ONNX file at `path`. Raises `BadInput` when it is missing, cut off or not ONNX."""
    if path.is_dir():
        raise BadInput(f"{path}: is a folder, expected a model file; 'roadworthy export {path}' makes one of a run folder")
    if not path.is_file():
        raise BadInput(f"{path}: no such model file; 'roadworthy export RUN --output {path.name}' writes one")
    props: dict[str, str] = {}
    has_graph = False
    try:
        with path.open("rb") as file:
            for number, payload in _fields(file, path.stat().st_size, wanted=_METADATA):
                has_graph |= number == _GRAPH
                if number == _METADATA and payload is not None:
                    key, value = _entry(payload)
                    props[key] = value
    except (_NotProtobufError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not an ONNX file, or cut off ({error}); export or copy it again") from error
    if not has_graph:
        raise BadInput(f"{path}: not an ONNX file (it holds no graph); export or copy it again")
    return props


def check_external_data(path: Path) -> None:
    """Raise `BadInput` when the ONNX file at `path` names a data file that is missing or lies outside its folder."""
    folder = path.parent.resolve()
    try:
        with path.open("rb") as file:
            locations = set(_locations(file, path.stat().st_size, "model", 0))
    except (_NotProtobufError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not an ONNX file, or cut off ({error}); export or copy it again") from error
    for location in sorted(locations):
        target = (folder / location).resolve()  # follows links: a link out of the folder leads out of the folder
        if Path(location).is_absolute() or not target.is_relative_to(folder):
            raise BadInput(
                f"{path}: keeps weights in {location!r}, which is outside its own folder; refused, because such a model could "
                "read any file. Put the data beside the model and name it without a path"
            )
        if not target.is_file():
            raise BadInput(f"{path}: its data file {location!r} is missing; copy it beside the model")


def _locations(file: BinaryIO, end: int, message: str, depth: int) -> Iterator[str]:
    """Yield the external data locations in the message that reaches from here to offset `end`."""
    if depth > _MAX_DEPTH:
        raise _NotProtobufError(f"messages nested more than {_MAX_DEPTH} deep")
    inside = _TENSORS_IN[message]
    while file.tell() < end:
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        kind = inside.get(number) if wire == _BYTES else None
        if wire == _VARINT:
            _varint(file)
        elif wire in (_FIXED64, _FIXED32):
            _skip(file, 8 if wire == _FIXED64 else 4, end)
        elif wire != _BYTES:
            raise _NotProtobufError(f"wire type {wire}")
        else:
            length = _varint(file)
            if file.tell() + length > end:
                raise _NotProtobufError(f"a field ends {file.tell() + length - end} bytes behind its message")
            if kind == "external data":
                if length > _MAX_ENTRY_BYTES:
                    raise _NotProtobufError(f"a file name of {length} bytes")
                key, value = _entry(file.read(length))
                if key == "location":
                    yield value
            elif kind is None:
                file.seek(length, 1)
            else:
                yield from _locations(file, file.tell() + length, kind, depth + 1)


def _entry(payload: bytes) -> tuple[str, str]:
    """Decode one StringStringEntryProto."""
    parts = {_KEY: b"", _VALUE: b""}
    for number, value in _fields(io.BytesIO(payload), len(payload), wanted=None):
        if number in parts and value is not None:
            parts[number] = value
    return parts[_KEY].decode(), parts[_VALUE].decode()


def _fields(file: BinaryIO, size: int, wanted: int | None) -> Iterator[tuple[int, bytes | None]]:
    """Walk the top-level fields: (number, payload of length-delimited fields that are `wanted` or, with None, of all)."""
    while file.tell() < size:
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        payload: bytes | None = None
        if number == 0:
            raise _NotProtobufError("field number 0")
        if wire == _VARINT:
            _varint(file)
        elif wire in (_FIXED64, _FIXED32):
            _skip(file, 8 if wire == _FIXED64 else 4, size)
        elif wire == _BYTES:
            length = _varint(file)
            if wanted in (None, number):
                if length > min(_MAX_ENTRY_BYTES, size - file.tell()):
                    raise _NotProtobufError(f"a metadata entry of {length} bytes")
                payload = file.read(length)
            else:
                _skip(file, length, size)
        else:
            raise _NotProtobufError(f"wire type {wire}")
        yield number, payload


def _skip(file: BinaryIO, length: int, size: int) -> None:
    """Step over `length` bytes, which must be there."""
    if file.tell() + length > size:
        raise _NotProtobufError(f"a field ends {file.tell() + length - size} bytes behind the end of the file")
    file.seek(length, 1)


def _varint(file: BinaryIO) -> int:
    """Read a base-128 number of at most ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise _NotProtobufError("it ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _NotProtobufError("a number of more than ten bytes")
