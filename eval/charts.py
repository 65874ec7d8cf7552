"""The report's drawings as inline SVG: no library in the page, colours from its style sheet, every name escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

MARKERS = ("circle", "square", "diamond", "triangle")  # models differ by shape as well as by colour: print, colour-blind eyes
WIDTH = 560  # [px] of a chart in its own coordinates; the page scales it
ROW = 22  # [px]
CLASS_OFFSET = 5.0  # [px] between the models of one class
LABEL = 168  # [px] left of the axis


@dataclass(frozen=True)
class Dot:
    """One value with its interval, as drawn; `low` and `high` may be None."""

    label: str
    series: int  # index of the model: decides colour and shape
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""  # shown when the pointer rests on it


def marker(series: int, x: float, y: float, size: float = 4.5, title: str = "") -> Markup:
    """Draw the symbol of model number `series` at (x, y)."""
    shape = MARKERS[series % len(MARKERS)]
    if shape == "circle":
        body = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}"').format(x, y, size)
    elif shape == "square":
        body = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"').format(
            x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8
        )
    else:
        reach = size * 1.25
        corners: Sequence[Point] = (
            ((x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y))
            if shape == "diamond"
            else ((x, y - reach), (x + reach, y + reach * 0.8), (x - reach, y + reach * 0.8))
        )
        body = Markup('<path d="M{}Z"').format("L".join(f"{a:.1f} {b:.1f}" for a, b in corners))
    tag = {"circle": "circle", "square": "rect"}.get(shape, "path")
    return body + Markup(' class="series s{}">{}</{}>').format(series % 6, _title(title), tag)


def _title(text: str) -> Markup:
    """Write what is shown when the pointer rests on a symbol."""
    return Markup("<title>{}</title>").format(text) if text else Markup("")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose about `count` round numbers that cover low..high."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count - 1, 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}"


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> Markup:
    """Draw `words` at (x, y)."""
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(x, y, css, anchor, words)


def svg(width: float, height: float, label: str, body: Markup, css: str = "chart") -> Markup:
    """Wrap a drawing; `label` is what a screen reader says."""
    return Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        css, width, height, label, body
    )


def x_axis(ticks: Sequence[float], left: float, right: float, top: float, bottom: float) -> Markup:
    """Draw vertical grid lines with their numbers below."""
    body = Markup("")
    for tick in ticks:
        x = place_on(tick, ticks, left, right)
        body += Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(x, top, bottom)
        body += text(x, bottom + 14, _number(tick), "tick", "middle")
    return body


def place_on(value: float, ticks: Sequence[float], left: float, right: float) -> float:
    """Map `value` on the axis of `ticks` to a coordinate between `left` and `right`."""
    span = ticks[-1] - ticks[0]
    return left + (value - ticks[0]) / span * (right - left) if span else (left + right) / 2


def short(words: str, limit: int) -> str:
    """Cut `words` to `limit` characters."""
    return words if len(words) <= limit else words[: limit - 1] + "…"


def interval_chart(dots: Sequence[Dot], label: str, *, zero: bool = False) -> Markup:
    """Draw one row per model: its value and interval. `zero` makes the axis start at 0."""
    values = [v for dot in dots for v in (dot.value, dot.low, dot.high) if v is not None and math.isfinite(v)]
    if not values:
        return Markup('<p class="note">no data</p>')
    low, high = (0.0 if zero else min(values)), max(values)
    if high == low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    ticks = nice_ticks(low, high)
    left, right, top = float(LABEL), WIDTH - 20.0, 6.0
    bottom = top + ROW * len(dots)
    body = x_axis(ticks, left, right, top, bottom)
    for row, dot in enumerate(dots):
        y = top + ROW * (row + 0.5)
        body += text(left - 8, y + 4, short(dot.label, 24), "name", "end")
        if dot.low is not None and dot.high is not None:
            ends = [place_on(end, ticks, left, right) for end in (dot.low, dot.high)]
            body += Markup('<line class="whisker s{}" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                dot.series % 6, *ends, y=y
            )
        if dot.value is not None:
            body += marker(dot.series, place_on(dot.value, ticks, left, right), y, title=dot.note)
    return svg(WIDTH, bottom + 22, label, body)


def class_chart(
    classes: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    intervals: Mapping[str, Sequence[Sequence[float] | None]],
    label: str,
) -> Markup:
    """Draw one row per class, one symbol per model with a line for its interval, on an axis from 0 to 1.

    A value of None means that the class does not occur; an interval of None, that the data give none.
    """
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    left, right, top = float(LABEL), WIDTH - 20.0, 6.0
    row_height = max(19.0, CLASS_OFFSET * len(values) + 6)
    bottom = top + row_height * len(classes)
    body = x_axis(ticks, left, right, top, bottom)
    for row, name in enumerate(classes):
        y = top + row_height * (row + 0.5)
        body += Markup('<line class="rule" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(left, right, y=y)
        body += text(left - 8, y + 4, short(name, 24), "name", "end")
        absent = True
        for series, (model, numbers) in enumerate(values.items()):
            number = numbers[row]
            if number is None:
                continue
            absent = False
            level = y + (series - (len(values) - 1) / 2) * CLASS_OFFSET
            said = f"{model}, {name}: {number:.3f}"
            interval = intervals[model][row]
            if interval is not None:
                said += f" ({interval[0]:.3f} to {interval[1]:.3f})"
                ends = [place_on(end, ticks, left, right) for end in interval]
                body += Markup('<line class="whisker s{}" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                    series % 6, *ends, y=level
                )
            body += marker(series, place_on(number, ticks, left, right), level, 3, said)
        if absent:
            body += text(left + 6, y + 4, "not in the test images", "tick")
    return svg(WIDTH, bottom + 22, label, body)


def heat_map(rows: Sequence[Sequence[float]], classes: Sequence[str], label: str, *, top_value: float | None = None) -> Markup:
    """Draw a matrix, truth in the rows, prediction in the columns; stronger is more, up to `top_value`."""
    cell, side, head = 15.0, 92.0, 92.0
    count = len(classes)
    highest = top_value or max((value for row in rows for value in row), default=0.0) or 1.0
    body = Markup('<rect class="cell-empty" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}"/>').format(
        side, head, cell * count, cell * count
    )
    for i, name in enumerate(classes):
        shown = short(name, 14)
        body += text(side - 4, head + cell * (i + 0.72), shown, "tick", "end")
        x = side + cell * (i + 0.7)
        body += Markup('<text class="tick" transform="translate({:.1f} {:.1f}) rotate(-60)">{}</text>').format(
            x, head - 4, shown
        )
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if not value > highest * 0.002:  # what nobody could see is left out of the page
                continue
            strength = min(value / highest, 1.0) ** 0.6  # lifts small entries into sight
            title = f"truth {classes[i]}, predicted {classes[j]}: {value:.3g}"
            body += Markup(
                '<rect class="cell" x="{:.0f}" y="{:.0f}" width="{c:.0f}" height="{c:.0f}" fill-opacity="{:.2f}">'
                "<title>{}</title></rect>"
            ).format(side + cell * j, head + cell * i, strength, title, c=cell)
    return svg(side + cell * count + 24, head + cell * count + 6, label, body, "chart square")


KIND_SYMBOLS: Mapping[str, str] = {
    "collision_person": "M0 -6L6 5L-6 5Z",
    "collision_car": "M-5 -5H5V5H-5Z",
    "collision_static": "M0 -7L7 0L0 7L-7 0Z",
    "off_line": "M-5 -5L5 5M-5 5L5 -5",
    "off_road": "M-6 0H6M0 -6V6",
}


def kind_symbol(kind: str, x: float, y: float, title: str, scale: float = 1.0) -> Markup:
    """Draw the symbol of an infraction kind."""
    place = f"translate({x:.1f} {y:.1f}) scale({scale:.2f})"
    return Markup('<path class="event k-{}" d="{}" transform="{}">{}</path>').format(
        kind, KIND_SYMBOLS[kind], place, _title(title)
    )


def kind_key(kind: str) -> Markup:
    """Draw the symbol of an infraction kind for a legend."""
    return Markup('<svg class="key" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>').format(kind_symbol(kind, 0, 0, ""))


def series_key(series: int) -> Markup:
    """Draw the symbol of a model for a legend."""
    return Markup('<svg class="key" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>').format(marker(series, 0, 0, 6))


@dataclass(frozen=True)
class MapEvent:
    """An infraction on a town map."""

    kind: str
    x_m: float
    y_m: float
    title: str
    link: str = ""  # id within the page of what was seen there


def town_map(
    roads: Sequence[Sequence[Point]],
    routes: Sequence[Sequence[Point]],
    tracks: Sequence[Sequence[Point]],
    events: Sequence[MapEvent],
    label: str,
) -> Markup:
    """Draw a town from above (x forward = up, y right = right): routes as planned and as driven, and the infractions."""
    points = [point for line in (*roads, *routes, *tracks) for point in line] + [(event.x_m, event.y_m) for event in events]
    if not points:
        return Markup('<p class="note">no map</p>')
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    margin, size = 12.0, 340.0
    scale = (size - 2 * margin) / max(max(xs) - min(xs), max(ys) - min(ys), 1.0)

    def place(point: Point) -> Point:
        return margin + (point[1] - min(ys)) * scale, margin + (max(xs) - point[0]) * scale

    def path(line: Sequence[Point], css: str) -> Markup:
        if len(line) < 2:
            return Markup("")
        return Markup('<path class="{}" d="M{}"/>').format(css, "L".join("{:.1f} {:.1f}".format(*place(p)) for p in line))

    body = Markup("").join(path(line, "road") for line in roads)
    body += Markup("").join(path(line, "route") for line in routes)
    body += Markup("").join(path(line, "track") for line in tracks)
    for event in events:
        symbol = kind_symbol(event.kind, *place((event.x_m, event.y_m)), event.title, 0.75)
        body += Markup('<a href="#{}" aria-label="{}">{}</a>').format(event.link, event.title, symbol) if event.link else symbol
    height = 2 * margin + (max(xs) - min(xs)) * scale
    return svg(2 * margin + (max(ys) - min(ys)) * scale, height, label, body, "chart map")
