"""Pseudo-labels on disk: what a network made of a target domain's frames, as pictures that a person can look at.

A folder holds `pseudo.json` (see `PseudoFacts`; written last: a folder without it is unfinished) and one PNG per frame in

- `soft`: the soft labels, N planes of H rows below each other, 255 = probability 1; all zero where there is no label;
- `labels`: the likeliest class of each label in its colour (a palette image of train ids, 255 = no label);
- `confidence`: the largest probability, labelled or not, 255 = certain; `entropy`: 255 = all classes alike.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, read_ids, write_text
from roadworthy.runtime.taxonomy import IGNORE, Taxonomy
from roadworthy.train.data.dataset import Sample
from roadworthy.train.data.frames import Frames

FACTS_FILE = "pseudo.json"
KIND = "pseudo"  # of a target, as pseudo:FOLDER

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PseudoFacts:
    """How a folder of pseudo-labels came about."""

    target: str  # KIND:PATH of the frames
    run: str  # whose network labelled them
    kind: str  # cbst, lrent or mrkld
    portion: float  # of the pixels predicted as each class
    size: tuple[int, int]  # (height, width) [pixels]
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]  # per class: the probability that this portion reaches
    labelled: float  # share of all pixels that got a label
    alpha: float | None = None  # weight of the label entropy, of lrent


def pseudo_folder(target: str) -> Path | None:
    """Return the folder of a target pseudo:FOLDER, None for any other target."""
    kind, _, path = target.partition(":")
    return Path(path).expanduser() if kind == KIND and path else None


def write_pseudo_labels(
    folder: Path, name: str, soft: Picture, confidence: Picture, entropy: Picture, taxonomy: Taxonomy
) -> None:
    """Write one frame's pictures: `soft uint8 [N, H, W]`, `confidence` and `entropy uint8 [H, W]`."""
    labels = np.where(soft.any(0), soft.argmax(0), IGNORE).astype(np.uint8)  # [N, H, W] -> [H, W]
    coloured = Image.fromarray(labels, mode="P")
    palette = np.zeros((256, 3), np.uint8)  # all of it: with a short one PNG would keep fewer bits of the ids
    palette[: len(taxonomy)] = taxonomy.palette
    coloured.putpalette(palette.tobytes())
    pictures = {
        "soft": Image.fromarray(soft.reshape(-1, soft.shape[2])),  # [N, H, W] -> [N * H, W]
        "labels": coloured,
        "confidence": Image.fromarray(confidence),
        "entropy": Image.fromarray(entropy),
    }
    for part, picture in pictures.items():
        with atomic_path(folder / part / f"{name}.png") as path:
            picture.save(path, compress_level=1)


def save_facts(folder: Path, facts: PseudoFacts) -> None:
    """Write what says that a folder of pseudo-labels is whole."""
    write_text(folder / FACTS_FILE, json.dumps(asdict(facts), indent=2) + "\n")


def load_facts(folder: Path) -> PseudoFacts:
    """Read a folder's facts. Raises `BadInput` if it is not a whole folder of pseudo-labels."""
    path = folder / FACTS_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(values[name]) for name in ("size", "classes", "thresholds")}
        return PseudoFacts(**{**values, **lists})
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: expected the facts of a finished folder of pseudo-labels ({error!r})") from error


class PseudoFrames:
    """The frames of a target domain with the soft labels of a folder: samples whose labels are `uint8 [N, H, W]`."""

    def __init__(self, folder: Path, facts: PseudoFacts, frames: Frames) -> None:
        """Check the folder against the `frames` that are trained on. Raises `BadInput` where they do not belong together."""
        taxonomy = frames.dataset.taxonomy
        if facts.classes != taxonomy.classes or facts.size != frames.size:
            raise BadInput(
                f"{folder}: pseudo-labels of {facts.size[1]}x{facts.size[0]} pixels in the classes {', '.join(facts.classes)}; "
                f"expected {frames.size[1]}x{frames.size[0]} and {', '.join(taxonomy.classes)}: label the target again"
            )
        self.folder, self.frames, self._classes = folder, frames, len(taxonomy)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Read frame `index` with its soft labels `uint8 [N, H, W]`. Raises `BadInput` for a missing or damaged file."""
        sample = self.frames[index]
        path = self.folder / "soft" / f"{sample.name}.png"
        planes = read_ids(path)  # [N * H, W]
        height, width = self.frames.size
        if planes.shape != (self._classes * height, width):
            raise BadInput(f"{path}: {planes.shape[1]}x{planes.shape[0]} pixels, expected {width}x{self._classes * height}")
        return Sample(sample.image, planes.reshape(self._classes, height, width), sample.name)
