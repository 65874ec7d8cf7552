"""Lines over steps, as an SVG file of its own for a page of docs: how a learner's return went up, or did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from roadworthy.eval.charts import Point, nice_ticks, place_on, svg, text, x_axis

WIDTH, HEIGHT = 640.0, 320.0  # [px]
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 14.0, 62.0  # [px] margins around the axes
COLOURS = ("#0b6fa4", "#b8500b", "#3d7a2a", "#7b3fa0", "#8a6d00", "#555555")
STYLE = (
    "text{font:12px sans-serif;fill:#222}.tick{fill:#555;font-size:11px}.grid{stroke:#ddd}"
    ".line{fill:none;stroke-width:2}.raw{fill:none;stroke-width:0.7;opacity:0.35}"
)


def standalone(drawing: Markup, width: float, height: float, style: str = STYLE) -> str:
    """Turn a drawing of `eval.charts` into a file that a browser or a Markdown viewer shows by itself."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" style="background:#fff" '
    body = str(drawing).replace("<svg ", head, 1)
    return body.replace(">", f"><style>{style}</style>", 1) + "\n"


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and up to `window` - 1 before it."""
    sums = np.cumsum([0.0, *values])
    return [float((sums[i + 1] - sums[max(0, i + 1 - window)]) / min(i + 1, window)) for i in range(len(values))]


def learning_curves(curves: Mapping[str, Sequence[Point]], x_title: str, y_title: str, window: int = 20) -> str:
    """Draw one curve per learner, (step, return) per episode: thin as it was, thick the mean of the last `window` episodes."""
    points = [point for line in curves.values() for point in line]
    if not points:
        return standalone(svg(WIDTH, 40, y_title, text(10, 24, "no episode ended")), WIDTH, 40)
    across = nice_ticks(0.0, max(x for x, _ in points) or 1.0)
    up = nice_ticks(min(y for _, y in points), max(y for _, y in points) or 1.0)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{place_on(x, across, LEFT, right):.1f} {place_on(y, up, bottom, TOP):.1f}"

    body = x_axis(across, LEFT, right, TOP, bottom)
    for tick in up:
        y = place_on(tick, up, bottom, TOP)
        body += Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(LEFT, right, y=y)
        body += text(LEFT - 6, y + 4, f"{tick:g}", "tick", "end")
    for number, (name, line) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        means = smoothed([y for _, y in line], window)
        for css, heights in (("raw", [y for _, y in line]), ("line", means)):
            steps = [x for x, _ in line]
            path = "L".join(place(x, y) for x, y in zip(steps, heights, strict=True))
            if path:
                body += Markup('<path class="{}" stroke="{}" d="M{}"/>').format(css, colour, path)
        x = LEFT + number * 190
        body += Markup('<line x1="{:.0f}" x2="{:.0f}" y1="{y:.0f}" y2="{y:.0f}" stroke="{}" stroke-width="2"/>').format(
            x, x + 22, colour, y=HEIGHT - 12
        )
        body += text(x + 28, HEIGHT - 8, name)
    body += text((LEFT + right) / 2, bottom + 32, x_title, "", "middle")
    body += text(LEFT, TOP - 3, y_title)
    return standalone(svg(WIDTH, HEIGHT, y_title, body), WIDTH, HEIGHT)
