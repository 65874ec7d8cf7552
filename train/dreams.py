"""Dreams: layouts from noise, painted as frames, which makes labelled pairs that nobody recorded.

After "Adversarial pixel-level generation of semantic images", section 6.1; the translator sees label maps, not their
colours, as that section recommends.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.train.data.dream import write_classes
from roadworthy.train.duel import Progress, seeded
from roadworthy.train.interruption import deferred_interrupts
from roadworthy.train.label_files import save_labels, save_picture
from roadworthy.train.layout_space import grid
from roadworthy.train.layouts import load_layouts
from roadworthy.train.translation import load_translator, paint

FACTS_FILE = "dream.json"
SHEET_PAIRS = 16  # pairs on the sheet that shows some


@dataclass(frozen=True)
class Dream:
    """What a folder of dreamt pairs was made of."""

    layouts: str  # run folder of the generator of layouts
    translator: str  # run folder of the translator
    count: int
    seed: int = 0


def write_dreams(dream: Dream, output: Path, *, progress: Progress | None = None) -> Path:
    """Write `images/`, `labels/` (train ids, 255 = void), `classes.yaml` and a sheet `pairs.png` into `output`.

    A folder that was begun with the same `dream` is gone on with. Raises `BadInput` when layouts and translator know different
    classes, or the folder holds something else.
    """
    if dream.count < 1:
        raise BadInput(f"count is {dream.count}, expected at least 1 frame to dream")
    layouts, painter = load_layouts(Path(dream.layouts)), load_translator(Path(dream.translator))
    if layouts.space.taxonomy.classes != painter.space.taxonomy.classes:
        raise BadInput(
            f"layouts have the classes of {layouts.space.taxonomy.name!r}, the translator those of "
            f"{painter.space.taxonomy.name!r}; train both on the same data"
        )
    _claim(dream, output)
    try:
        write_classes(output, painter.space.taxonomy)
        with deferred_interrupts() as request:
            for index in range(dream.count):
                name = f"{index:06d}.png"
                if not ((output / "images" / name).is_file() and (output / "labels" / name).is_file()):
                    maps = layouts.sample(1, dream.seed, first=index)
                    labels = _sized(layouts.space.labels(maps)[0], painter.size)
                    frame = paint(painter.translator, painter.space, labels, seeded(dream.seed, 3, index).initial_seed())
                    save_labels(output / "labels" / name, labels, painter.space.taxonomy)
                    save_picture(output / "images" / name, frame)
                if progress is not None:
                    progress(f"painting {index + 1} of {dream.count}", (index + 1) / dream.count)
                if request.made:
                    raise KeyboardInterrupt
    except OSError as error:
        raise RoadworthyError(f"{output}: cannot be written ({error}); free some space, then run it again") from error
    shown = [f"{index:06d}.png" for index in range(min(SHEET_PAIRS, dream.count))]
    pictures = [np.asarray(Image.open(output / kind / name).convert("RGB")) for name in shown for kind in ("labels", "images")]
    save_picture(output / "pairs.png", grid(np.stack(pictures), columns=4))
    return output


def _claim(dream: Dream, output: Path) -> None:
    """Make the folder this dream's own."""
    path = output / FACTS_FILE
    facts = asdict(dream)
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BadInput(f"{path}: expected the facts of a dream ({error}); choose another --output") from error
        if before != facts:
            raise BadInput(f"{output}: holds another dream ({before}, not {facts}); choose another --output")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: is not an empty folder; choose another --output")
    try:
        write_text(path, json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        raise BadInput(f"{output}: cannot be written to ({error.strerror}); choose another --output") from error


def _sized(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Bring labels to `size` = (height, width), each pixel the class of the nearest one."""
    return np.asarray(Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST))
