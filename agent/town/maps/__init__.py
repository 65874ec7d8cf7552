"""The shipped towns as OpenDRIVE files: Grid01 and Grid02 to train in, Crooked01 and Ring01 held out.

`scripts/make_maps.py` writes them.
"""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


class UnknownMap(LookupError):
    """No shipped map has that name."""


def names() -> tuple[str, ...]:
    """The shipped towns, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.xodr")))


def load(name: str) -> str:
    """The OpenDRIVE text of a shipped town. Raises `UnknownMap` (with the names that there are)."""
    if name not in names():
        raise UnknownMap(f"no map {name!r}; shipped maps: {', '.join(names())}")
    return (_FOLDER / f"{name}.xodr").read_text()
