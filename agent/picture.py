"""One picture of a moment of driving: the camera's frame, the prediction, and a map of the route from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from roadworthy.agent.ego import Moment
from roadworthy.agent.routes import Route

MAP_SPAN_M = 60.0  # [m] that the map shows across
EGO_HALF_M = np.array([2.4, 1.0])  # [m] half length and width that the ego is drawn with
GREY, ROAD, ROUTE, DONE = (45, 45, 48), (78, 78, 82), (80, 160, 255), (125, 125, 130)
CAR, OTHER = (255, 200, 60), (235, 90, 150)


def picture(moment: Moment, route: Route, prediction: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Return `uint8 [H, n*W, 3]`: frame | painted prediction `[H, W, 3]` (if any) | map, -y up, the ego in the middle."""
    panels = [moment.frame, *([] if prediction is None else [prediction]), route_map(moment, route, moment.frame.shape[0])]
    return np.concatenate(panels, axis=1)


def route_map(
    moment: Moment,
    route: Route,
    size: int,
    others: npt.NDArray[np.float64] | None = None,
    roads: Sequence[npt.NDArray[np.float64]] = (),
) -> npt.NDArray[np.uint8]:
    """Return the map `uint8 [size, size, 3]` around the ego, -y up: the way done and to go, the ego, and other road users.

    `others` `[K, 7]` are those of `roadworthy.agent.expert.Situation`, None draws nobody; `roads` are the middles of the other
    lanes, `[M, 2]` metres each.
    """
    image = Image.new("RGB", (size, size), GREY)
    draw = ImageDraw.Draw(image)
    scale = size / MAP_SPAN_M
    width = max(1, round(scale * float(route.waypoints[0].lane_width)))
    here = np.array([moment.x, moment.y])
    for road in roads:
        if (np.abs(road - here).min(0) < MAP_SPAN_M).all():
            draw.line([tuple(row) for row in (road - here) * scale + size / 2], fill=ROAD, width=width, joint="curve")
    places = [tuple(row) for row in (route.points[:, :2] - here) * scale + size / 2]
    passed = int(np.searchsorted(route.along_m, moment.along_m))
    for points, colour in ((places[: passed + 1], DONE), (places[passed:], ROUTE)):
        if len(points) > 1:
            draw.line(points, fill=colour, width=width, joint="curve")
    for x, y, _, _, yaw, half_length, half_width in () if others is None else others:
        centre = (np.array([x, y]) - here) * scale + size / 2
        _box(draw, centre, yaw, scale * np.array([half_length, half_width]), OTHER)
    _box(draw, np.full(2, size / 2), float(np.radians(moment.yaw_deg)), scale * EGO_HALF_M, CAR)
    return np.asarray(image)


def _box(
    draw: ImageDraw.ImageDraw,
    centre: npt.NDArray[np.float64],
    yaw: float,
    half: npt.NDArray[np.float64],
    colour: tuple[int, int, int],
) -> None:
    """Draw a road user of `half` length and width in pixels, turned by `yaw` radians; a person is at least a dot."""
    forward, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    length, width = np.maximum(half, 1.5)
    corners = [centre + a * length * forward + b * width * right for a, b in ((1, -1), (1, 1), (-1, 1), (-1, -1))]
    draw.polygon([tuple(corner) for corner in corners], fill=colour)
