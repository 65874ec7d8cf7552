"""A drive as a video: camera | prediction | map from above, with speed, command, reward and infractions written below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from roadworthy.agent.ego import Assignment, Moment
from roadworthy.agent.infractions import Infraction
from roadworthy.agent.lanegraph import LaneGraph, RoadOption
from roadworthy.agent.picture import route_map
from roadworthy.agent.session import FIXED_DELTA_S
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import load
from roadworthy.runtime.video import VideoWriter

if TYPE_CHECKING:
    from roadworthy.agent.env import RouteEnv

Frame = npt.NDArray[np.uint8]

PANEL_PX = 256  # height of the three pictures
TEXT_PX = 20  # size of the letters
LINES = 4  # of text below the pictures
MARGIN_PX = 8
FLASH_S = 1.0  # [s] that the frame of the picture is red after an infraction
HOLD_S = 1.5  # [s] that the last picture stays
ROAD_STEP_M = 3.0  # [m] between the points of a drawn lane
LAST = 3  # infractions that are listed, the latest first
BACK, INK, FAINT, ALARM, PRAISE = (24, 24, 27), (240, 240, 240), (165, 165, 170), (255, 90, 80), (110, 220, 130)


class Painter:
    """Paints what a model predicts, on one thread."""

    def __init__(self, model: Path) -> None:
        """Load `model`; raises `BadInput` when it gives no labels."""
        self._segmenter = load(model, device="cpu", threads=1)
        if "labels" not in self._segmenter.outputs:
            raise BadInput(f"{model}: gives no labels to film; name a model that was exported with them")
        self._taxonomy = self._segmenter.metadata.lookup_taxonomy()

    def __call__(self, moment: Moment) -> Frame:
        """Return the labels of the moment's frame, painted `uint8 [H, W, 3]`."""
        labels = self._segmenter(moment.frame[None]).labels  # [1, H, W]
        assert labels is not None, "its outputs hold labels"
        return self._taxonomy.colourise(labels[0])


class Film:
    """Writes one drive to a video file, ten pictures a second: it plays as fast as it was driven."""

    def __init__(
        self, path: Path, title: str, assignment: Assignment, paint: Callable[[Moment], Frame | None] | None = None
    ) -> None:
        """Begin a film of `assignment`; `paint` gives the prediction where the environment's own model has no labels."""
        self._writer = VideoWriter(path, fps=1 / FIXED_DELTA_S)
        self._title = f"{title}   {assignment.weather}, {assignment.vehicles} cars, {assignment.walkers} walkers"
        self._route = assignment.route
        self._paint = paint
        self._steps, self._sum = 0, 0.0
        self._last: Frame | None = None
        self._roads: list[npt.NDArray[np.float64]] | None = None

    def see(self, env: RouteEnv, info: dict[str, Any], reward: float) -> None:
        """Film the moment after a step, with what `env.step` returned."""
        self._steps += 1
        self._sum += reward
        moment, ego = env.moment, env.ego
        prediction = env.observer.paint(moment)
        if prediction is None and self._paint is not None:
            prediction = self._paint(moment)
        others = np.zeros((0, 7)) if ego is None else ego.situation(moment).others
        if self._roads is None:
            self._roads = _roads(env.lanes)
        seen = route_map(moment, self._route, PANEL_PX, others, self._roads)
        panels = [_scaled(moment.frame, Image.Resampling.BICUBIC)]
        panels += [] if prediction is None else [_scaled(prediction, Image.Resampling.NEAREST)]
        pictures = np.concatenate([*panels, seen], axis=1)  # [PANEL_PX, W, 3]
        self._last = _written_below(pictures, self._lines(moment, info, reward, env.infractions.events), self._flash(env))
        self._writer.write(self._last)

    def close(self, *, keep: bool = True) -> None:
        """Hold the last picture for a moment and finish the file; without `keep`, remove it."""
        if keep and self._last is not None:
            for _ in range(round(HOLD_S / FIXED_DELTA_S)):
                self._writer.write(self._last)
        self._writer.close(keep=keep)

    def _flash(self, env: RouteEnv) -> bool:
        events = env.infractions.events
        return bool(events) and (self._steps - events[-1].step) * FIXED_DELTA_S < FLASH_S

    def _lines(
        self, moment: Moment, info: dict[str, Any], reward: float, events: Sequence[Infraction]
    ) -> list[list[tuple[str, tuple[int, int, int]]]]:
        """Return the lines of text, each a list of words with their colours."""
        terms = [(name, info[f"reward/{name}"]) for name in ("progress", "off_line", "off_road", "crash")]
        drive = [
            (f"{self._steps * FIXED_DELTA_S:5.1f} s", INK),
            (f"{3.6 * moment.speed_mps:4.1f} km/h", INK),
            (RoadOption(moment.command).name, INK),
            (f"{info['along_m']:.0f} of {self._route.length_m:.0f} m", INK),
        ]
        if info["rescues"]:
            drive.append((f"put back: {info['rescues']}", ALARM))
        if "ended" in info:
            drive.append((f"ended: {info['ended']}", PRAISE if info["ended"] == "goal" else ALARM))
        paid = [(f"{name} {value:.2f}", ALARM if name != "progress" and value > 0 else FAINT) for name, value in terms]
        paid += [(f"reward {reward:+.2f}", INK), (f"sum {self._sum:.1f}", INK)]
        hits = [
            (f"{event.time_s:.1f} s {event.kind} {event.other}".rstrip(), ALARM) for event in list(events)[: -LAST - 1 : -1]
        ]
        return [[(self._title, FAINT)], drive, paid, [(f"infractions: {len(events)}", INK), *hits]]


def _roads(lanes: LaneGraph) -> list[npt.NDArray[np.float64]]:
    """Return the middle of each lane, `[M, 2]` metres."""
    lines = ([entry, *entry.next_until_lane_end(ROAD_STEP_M)] for entry in lanes.entries.values())
    return [np.array([(at.transform.location.x, at.transform.location.y) for at in line]) for line in lines if len(line) > 1]


def _scaled(picture: Frame, how: Image.Resampling) -> Frame:
    """Scale a picture `[H, W, 3]` to `PANEL_PX` rows."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((round(width * PANEL_PX / height), PANEL_PX), how))


def _written_below(pictures: Frame, lines: Sequence[Sequence[tuple[str, tuple[int, int, int]]]], flash: bool) -> Frame:
    """Return the pictures `[H, W, 3]` with lines of coloured words below, and a red frame around them if `flash`."""
    height, width = pictures.shape[:2]
    pitch = TEXT_PX + MARGIN_PX // 2
    sheet = Image.new("RGB", (width, height + LINES * pitch + 2 * MARGIN_PX), BACK)
    sheet.paste(Image.fromarray(pictures), (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT_PX)
    for row, words in enumerate(lines):
        x = float(MARGIN_PX)
        for text, colour in words:
            draw.text((x, height + MARGIN_PX + row * pitch), text, fill=colour, font=font)
            x += draw.textlength(text, font=font) + 2 * TEXT_PX
    if flash:
        draw.rectangle((0, 0, width - 1, height - 1), outline=ALARM, width=5)
    return np.asarray(sheet)
