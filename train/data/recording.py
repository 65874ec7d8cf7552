"""A recording of our own (`roadworthy record`): `rgb/NAME.png|jpg`, `semantic/NAME.png` (raw CARLA tags), `meta.jsonl`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.train.data.dataset import Dataset, Pair
from roadworthy.train.data.folders import IMAGE_SUFFIXES, existing_folder

SPLITS = ("train", "val")
VAL_FRACTION = 0.2  # of the episodes; neighbouring frames look alike, so a split never cuts through an episode


def open_recording(root: Path, split: str | None) -> Dataset:
    """Open a recording, whole or one split of it: every fifth episode (at least one) is "val", the rest "train".

    A recording of one episode gives its last fifth of frames as "val". Raises `BadInput` naming what is missing.
    """
    if split is not None and split not in SPLITS:
        raise BadInput(f"a recording has no split {split!r}; known: {', '.join(SPLITS)}")
    existing_folder(root, "a recording with rgb, semantic and meta.jsonl in it, as `roadworthy record` makes it")
    frames = _read_meta(root / "meta.jsonl")
    images, labels = existing_folder(root / "rgb", "the frames"), existing_folder(root / "semantic", "the raw CARLA tags")
    image_of = {path.stem: path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    pairs, problems = [], []
    for name, episode in frames:
        label = labels / f"{name}.png"
        if name not in image_of:
            problems.append(f"{images / name}: no image, expected {name} with {' or '.join(IMAGE_SUFFIXES)}")
        elif not label.is_file():
            problems.append(f"{image_of[name]}: no label, expected {label}")
        else:
            pairs.append(Pair(name, image_of[name], label, episode))
    validation = _validation_names(frames)
    if split is not None:
        pairs = [pair for pair in pairs if (pair.name in validation) == (split == "val")]
    if not pairs and not problems:
        raise BadInput(f"{root}: its {len(frames)} frames leave none for the split {split!r}; record more")
    return Dataset(str(root), TOWN, pairs, problems=tuple(problems))


def _read_meta(path: Path) -> list[tuple[str, str]]:
    """Return (name, episode) of every frame, in the order of recording."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; a recording lists its frames there, one JSON object per line")
    frames: list[tuple[str, str]] = []
    text = path.read_text(encoding="utf-8")
    # Every line ends with a newline; what stands behind the last one is a line that an interrupted recorder left unfinished.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name = entry["name"]
            frames.append((name, str(entry.get("episode", 0))))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f'{path}, line {number}: expected a JSON object with "name" and "episode"') from error
        if not isinstance(name, str) or Path(name).name != name:
            raise BadInput(f"{path}, line {number}: name {name!r} is not a plain file stem")
    if not frames:
        raise BadInput(f"{path}: lists no frames; was the recording interrupted before its first one?")
    return frames


def _validation_names(frames: list[tuple[str, str]]) -> frozenset[str]:
    episodes = list(dict.fromkeys(episode for _, episode in frames))
    if len(episodes) > 1:
        count = max(1, round(VAL_FRACTION * len(episodes)))
        held_out = {episodes[(i + 1) * len(episodes) // count - 1] for i in range(count)}  # spread over the recording
        return frozenset(name for name, episode in frames if episode in held_out)
    count = math.ceil(VAL_FRACTION * len(frames))
    return frozenset(name for name, _ in frames[len(frames) - count :])
