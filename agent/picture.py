"""One picture of a moment of driving: the camera's frame, the prediction, and a map of the route from above."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from roadworthy.agent.ego import Moment
from roadworthy.agent.routes import Route

MAP_SPAN_M = 60.0  # [m] that the map shows across
GREY, ROUTE, DONE, CAR = (45, 45, 48), (80, 160, 255), (110, 110, 115), (255, 200, 60)


def picture(moment: Moment, route: Route, prediction: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """Return `uint8 [H, n*W, 3]`: frame | painted prediction `[H, W, 3]` (if any) | map, -y up, the ego in the middle."""
    panels = [moment.frame, *([] if prediction is None else [prediction]), _map(moment, route, moment.frame.shape[0])]
    return np.concatenate(panels, axis=1)


def _map(moment: Moment, route: Route, size: int) -> npt.NDArray[np.uint8]:
    image = Image.new("RGB", (size, size), GREY)
    draw = ImageDraw.Draw(image)
    scale = size / MAP_SPAN_M
    width = max(1, round(scale * float(route.waypoints[0].lane_width)))
    places = [tuple(row) for row in (route.points[:, :2] - (moment.x, moment.y)) * scale + size / 2]
    passed = int(np.searchsorted(route.along_m, moment.along_m))
    for points, colour in ((places[: passed + 1], DONE), (places[passed:], ROUTE)):
        if len(points) > 1:
            draw.line(points, fill=colour, width=width)
    yaw = np.radians(moment.yaw_deg)
    forward, right = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    corners = [size / 2 + scale * (a * 2.4 * forward + b * right) for a, b in ((1, -1), (1, 1), (-1, 1), (-1, -1))]
    draw.polygon([tuple(corner) for corner in corners], fill=CAR)
    return np.asarray(image)
