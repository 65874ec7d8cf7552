"""The frames around infractions for the page: camera, prediction and truth, from a second before to half a second after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from roadworthy.agent.consequence import predicted_path
from roadworthy.agent.episodes import read_episodes
from roadworthy.agent.infractions import INFRACTION_KINDS
from roadworthy.agent.witness import Sight, sights, sights_folder
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.pictures import label_uri, photo_uri
from roadworthy.runtime.files import atomic_path, read_ids
from roadworthy.runtime.segmenter import load
from roadworthy.runtime.taxonomy import TOWN

SHOWN_OFFSETS_S = (-1.0, 0.0, 0.5)  # of the saved frames, those on the page
SHOWN_EVENTS = 8  # per segmenter and town, so that the page stays a few megabytes; collisions come first
BATCH = 8  # frames per call of the model


@dataclass(frozen=True)
class View:
    """One moment; the pictures are data URIs, "" where there is none."""

    offset: str  # "1.0 s before"
    rgb: str
    prediction: str
    truth: str


@dataclass(frozen=True)
class Sighting:
    """One infraction as the camera saw it."""

    anchor: str  # id within the page
    infraction: int  # index in its episode
    views: tuple[View, ...]


def predict_sights(episodes: Path, model: Path, progress: Callable[[str, float], None] | None = None) -> int:
    """Run `model` (with labels) on every saved frame that has no prediction yet and save its train ids beside it.

    Returns how many frames were predicted. Nothing is loaded when there is nothing to do.
    """
    waiting = [
        sight
        for episode in read_episodes(episodes)
        for sight in sights(sights_folder(episodes, episode.id))
        if not predicted_path(sight).exists()
    ]
    if not waiting:
        return 0
    segmenter = load(model, device="cpu", threads=1)
    for start in range(0, len(waiting), BATCH):
        for sight in waiting[start : start + BATCH]:
            labels = segmenter(sight.read()[0][None]).labels  # [1, H, W]
            assert labels is not None, "a model file of a study has labels"
            with atomic_path(predicted_path(sight)) as temporary:
                Image.fromarray(labels[0]).save(temporary)
        if progress is not None:
            progress("looking at infractions", min(1.0, (start + BATCH) / len(waiting)))
    return len(waiting)


def load_sightings(folder: StudyFolder, results: Mapping[str, Any]) -> dict[tuple[str, int], Sighting]:
    """Read what the page shows, by (episode id, index of the infraction)."""
    found: dict[tuple[str, int], Sighting] = {}
    shown: dict[tuple[str, str], int] = {}
    events = [(episode, index) for episode in results["episodes"] for index in range(len(episode["infractions"]))]
    events.sort(key=lambda event: INFRACTION_KINDS.index(event[0]["infractions"][event[1]]["kind"]))
    for episode, index in events:
        place = (episode["segmenter"], episode["town"])
        if shown.get(place, 0) >= SHOWN_EVENTS:
            continue
        file = folder.episodes(episode["segmenter"], episode["policy_seed"], episode["town"], episode["weathers"])
        views = [
            _view(sight, results["palette"])
            for sight in sights(sights_folder(file, episode["id"]))
            if sight.infraction == index and sight.offset_s in SHOWN_OFFSETS_S
        ]
        if views:
            shown[place] = shown.get(place, 0) + 1
            found[episode["id"], index] = Sighting(f"seen-{len(found)}", index, tuple(views))
    return found


def _view(sight: Sight, palette: Sequence[Sequence[int]]) -> View:
    frame, tags = sight.read()
    labels = predicted_path(sight)
    when = (
        "at the infraction"
        if sight.offset_s == 0
        else f"{abs(sight.offset_s):.1f} s {'before' if sight.offset_s < 0 else 'after'}"
    )
    return View(
        when,
        photo_uri(frame),
        label_uri(read_ids(labels), palette) if labels.exists() else "",
        "" if tags is None else label_uri(TOWN.fold(tags, str(sight.tags)), palette),
    )
