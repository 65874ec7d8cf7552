"""Anybody's data: `images/NAME.png|jpg`, `labels/NAME.png` and `classes.yaml`, which says what the labels mean.

    name: harbour             # of the taxonomy; the folder's name by default
    labels: ids               # ids (one channel, default) or colours (RGB)
    ignore: [0, 255]          # raw ids (or [r, g, b] colours) that are not learnt and not scored
    classes:                  # in the order of their train ids, 0 to at most 253
      - {name: road, colour: [128, 64, 128], ids: [7, 8], group: 3}   # ids: raw ids; its place by default
      - {name: crane, colour: [250, 170, 30]}                          # group: importance 4 (most) to 1, 1 by default

`train.txt`, `val.txt` and `test.txt` beside it, one name a line, are the splits; without them "val" is the last tenth of
the frames and "train" the rest. When the names are those of a taxonomy that comes with Roadworthy, that one is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE, TAXONOMIES, Taxonomy
from roadworthy.train.data.dataset import Dataset, ReadLabels
from roadworthy.train.data.folders import check_split, choose_split, existing_folder, pair_folders
from roadworthy.train.data.label_images import Colour, by_colour, by_id

CLASSES_FILE = "classes.yaml"
SPLITS = ("train", "val", "test")
VAL_FRACTION = 0.1  # without lists
MAX_CLASSES = 254  # train ids 0-253, and 255 is ignored
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Classes:
    """What a `classes.yaml` says: the taxonomy, and how the label images say it."""

    taxonomy: Taxonomy
    read_labels: ReadLabels


def open_folder(root: Path, split: str | None) -> Dataset:
    """Open a folder of images and labels, whole or one split of it. Raises `BadInput` naming what does not read."""
    check_split("folder", split, SPLITS)
    existing_folder(root, f"a folder with images, labels and {CLASSES_FILE} in it")
    classes = load_classes(root / CLASSES_FILE)
    images, labels = existing_folder(root / "images", "the images"), existing_folder(root / "labels", "their label images")
    pairs, problems = pair_folders(images, labels)
    chosen, missing = choose_split(root, pairs, split, VAL_FRACTION)
    return Dataset(str(root), classes.taxonomy, chosen, classes.read_labels, (*problems, *missing))


def load_classes(path: Path) -> Classes:
    """Read a `classes.yaml`. Raises `BadInput` naming the class and the field that will not do."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected the classes of the labels (names, colours and raw ids)")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadInput(f"{path}: larger than {MAX_FILE_BYTES} bytes, expected a list of class names, colours and ids")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadInput(f"{path}: not a YAML file ({error})") from error
    try:
        return parse_classes(values, path.resolve().parent.name)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def parse_classes(values: object, default_name: str) -> Classes:
    """Make sense of what a `classes.yaml` holds. Raises `BadInput` naming the class and the field that will not do."""
    top = _mapping(values, "the file", {"name", "labels", "ignore", "classes"})
    entries = top.get("classes")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CLASSES:
        raise BadInput(f"expected `classes`, a list of 1 to {MAX_CLASSES} classes with a name each")
    kind = top.get("labels", "ids")
    if kind not in ("ids", "colours"):
        raise BadInput(f"labels is {kind!r}, expected ids or colours")
    name = _text(top.get("name", default_name), "name")
    names, colours, groups, id_of = [], [], dict[int, list[str]](), dict[int, int]()
    for index, entry in enumerate(entries):
        where = f"class {index}"
        fields = _mapping(entry, where, {"name", "colour", "ids", "group"})
        names.append(_text(fields.get("name"), f"{where}: name"))
        colours.append(_colour(fields.get("colour"), f"{where} ({names[-1]}): colour"))
        group = _integer(fields.get("group", 1), f"{where} ({names[-1]}): group", 1, 4)
        groups.setdefault(group, []).append(names[-1])
        for raw in _list(fields.get("ids", [index]), f"{where} ({names[-1]}): ids"):
            _assign(id_of, _integer(raw, f"{where} ({names[-1]}): ids", 0, 255), index, names)
    _distinct("name", names)
    _distinct("colour", colours)
    ignored = _list(top.get("ignore", []), "ignore")
    if kind == "colours":
        colour_of: dict[Colour, int] = {colour: index for index, colour in enumerate(colours)}
        for raw in ignored:
            colour = _colour(raw, "ignore")
            if colour in colour_of:
                raise BadInput(f"the colour {colour} is both ignored and that of {names[colour_of[colour]]!r}")
            colour_of[colour] = IGNORE
        return Classes(_taxonomy(name, names, colours, groups), by_colour(name, colour_of))
    for raw in ignored:
        _assign(id_of, _integer(raw, "ignore", 0, 255), IGNORE, names)
    id_of.setdefault(IGNORE, IGNORE)
    return Classes(_taxonomy(name, names, colours, groups), by_id(name, id_of))


def _taxonomy(name: str, names: list[str], colours: list[Colour], groups: Mapping[int, list[str]]) -> Taxonomy:
    known = [taxonomy for taxonomy in TAXONOMIES.values() if taxonomy.classes == tuple(names)]
    if known:
        return known[0]
    if name in TAXONOMIES:
        raise BadInput(f"name {name!r} is that of a taxonomy with other classes ({', '.join(TAXONOMIES[name].classes)})")
    folding = {index: index for index in range(len(names))} | {IGNORE: IGNORE}
    ordered = {group: tuple(groups[group]) for group in sorted(groups, reverse=True)}
    return Taxonomy(name, tuple(names), tuple(colours), ordered, folding)


def _distinct(what: str, values: Sequence[object]) -> None:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise BadInput(f"the {what} {twice[0]!r} is given to two classes")


def _assign(id_of: dict[int, int], raw: int, train_id: int, names: list[str]) -> None:
    if id_of.setdefault(raw, train_id) != train_id:
        before = "ignored" if id_of[raw] == IGNORE else f"that of {names[id_of[raw]]!r}"
        now = "ignored" if train_id == IGNORE else f"that of {names[train_id]!r}"
        raise BadInput(f"the raw id {raw} is both {before} and {now}")


def _mapping(value: object, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where} is {_brief(value)}, expected fields: {', '.join(sorted(known))}")
    unknown = [_brief(key) for key in value if key not in known]
    if unknown:
        raise BadInput(f"{where}: unknown field {unknown[0]}; known: {', '.join(sorted(known))}")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput(f"{where} is {_brief(value)}, expected a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise BadInput(f"{where} is {_brief(value)}, expected a name")
    return value


def _integer(value: object, where: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadInput(f"{where} is {_brief(value)}, expected a whole number from {low} to {high}")
    return value


def _colour(value: object, where: str) -> Colour:
    if not isinstance(value, list) or len(value) != 3:
        raise BadInput(f"{where} is {_brief(value)}, expected [red, green, blue]")
    red, green, blue = (_integer(part, where, 0, 255) for part in value)
    return red, green, blue


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
