"""Typed dataclasses to and from plain data, as YAML gives it: every wrong key and value is named where it stands."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from roadworthy.runtime.errors import BadInput


def to_plain(value: Any) -> Any:
    """Turn dataclasses and tuples into dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: Any, data: object, where: str, renamed: Mapping[type, Mapping[str, str]]) -> Any:
    """Build a value of type `kind` (a dataclass, a tuple, or what YAML knows) from plain data.

    `where` is the path of keys for errors; `renamed` tells of the keys that a dataclass had before what to write instead.
    Raises `BadInput` for unknown, missing and renamed keys, and for values of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return from_plain(_nearest([item for item in arguments if item is not type(None)], data), data, where, renamed)
    if origin is tuple:
        if not isinstance(data, list):
            hint = "" if isinstance(data, dict) else f": write [{data}]"
            raise BadInput(f"{where}: found {data!r}, expected a list{hint}")
        return tuple(from_plain(arguments[0], item, f"{where}[{i}]", renamed) for i, item in enumerate(data))
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, data, where, renamed)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        hint = ""
        if kind is float and isinstance(data, str):
            hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
        raise BadInput(f"{where}: found {data!r}, expected {kind.__name__}{hint}")
    return data


def _nearest(kinds: Sequence[Any], data: object) -> Any:
    """Choose the kind whose keys `data` uses most, the first of several."""
    keys = set(data) if isinstance(data, dict) else set()
    return max(kinds, key=lambda kind: len(keys & set(getattr(kind, "__dataclass_fields__", ()))))


def _build_dataclass(kind: Any, data: object, where: str, renamed: Mapping[type, Mapping[str, str]]) -> Any:
    if not isinstance(data, dict):
        raise BadInput(f"{where}: found {data!r}, expected a mapping of keys to values")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key in data:
        if key in renamed.get(kind, {}):
            raise BadInput(f"{where}: the key {key!r} is now {renamed[kind][key]}")
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            suggestion = f"; did you mean {close[0]!r}?" if close else "."
            raise BadInput(f"{where}: unknown key {key!r}{suggestion} Known: {', '.join(known)}")
    missing = [
        name
        for name, item in known.items()
        if name not in data and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadInput(f"{where}: {', '.join(missing)} is missing")
    return kind(**{key: from_plain(hints[key], value, f"{where}: {key}", renamed) for key, value in data.items()})
