"""Drawings with two axes: what a gain costs (with its Pareto front), and reliability curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from roadworthy.eval.charts import marker, nice_ticks, place_on, svg, text, x_axis

WIDTH, HEIGHT = 460.0, 300.0  # [px] of a drawing in its own coordinates; the page scales it
ASIDE = 7.0  # [px] between symbols of one cost
LEFT, RIGHT, TOP, BOTTOM = 58.0, 16.0, 14.0, 44.0  # [px] margins around the axes


@dataclass(frozen=True)
class Trade:
    """One model: what it costs (x) and what it gains (y), each with its interval where there is one."""

    label: str
    series: int  # index of the model: decides colour and shape
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    tag: str = ""  # words beside the symbol, where several symbols are one model's


def pareto_front(trades: Sequence[Trade], *, larger_is_better: bool) -> list[Trade]:
    """Return the models that no other beats on cost (smaller x) without losing on y, cheapest first.

    Of models that are equal on both axes the first stays.
    """
    sign = 1 if larger_is_better else -1
    front: list[Trade] = []
    for trade in sorted(trades, key=lambda trade: (trade.x, -sign * trade.y)):
        if not front or sign * trade.y > sign * front[-1].y:
            front.append(trade)
    return front


def trade_off(trades: Sequence[Trade], x_title: str, y_title: str, *, larger_is_better: bool) -> Markup:
    """Draw models by cost and gain; a stepped line joins the Pareto front of the point estimates."""
    if not trades:
        return Markup('<p class="note">no data</p>')
    x_ticks = _ticks([v for t in trades for v in (t.x, *(t.x_interval or ()))], from_zero=True)
    y_ticks = _ticks([v for t in trades for v in (t.y, *(t.y_interval or ()))], from_zero=False)
    frame = _Frame(x_ticks, y_ticks)
    body = frame.axes(x_title, y_title)
    front = pareto_front(trades, larger_is_better=larger_is_better)
    corners = [frame.point(front[0].x, front[0].y)]
    for trade in front[1:]:
        x, y = frame.point(trade.x, trade.y)
        corners += [(x, corners[-1][1]), (x, y)]
    corners.append((WIDTH - RIGHT, corners[-1][1]))
    body += Markup('<path class="front" d="M{}"/>').format("L".join(f"{x:.1f} {y:.1f}" for x, y in corners))
    aside = _side_by_side(trades)
    for trade, shift in zip(trades, aside, strict=True):
        body += _whiskers(frame, trade, shift)
    for trade, shift in zip(trades, aside, strict=True):
        on_front = ", on the Pareto front" if trade in front else ""
        x, y = frame.point(trade.x, trade.y)
        x += shift
        body += marker(trade.series, x, y, 5, f"{trade.label}: {trade.x:.4g}, {trade.y:.4g}{on_front}")
        if trade.tag and all(shift >= other for one, other in zip(trades, aside, strict=True) if one.x == trade.x):
            body += text(x + 8, y + 4, trade.tag, "tick")
    return svg(WIDTH, HEIGHT, f"{y_title} against {x_title}", body)


def reliability_chart(curves: Mapping[str, Sequence[tuple[float, float, float]]], label: str) -> Markup:
    """Draw accuracy over confidence, one line per model; each point is (confidence, accuracy, share of all pixels).

    A calibrated model lies on the diagonal; below it, it is too sure of itself.
    """
    frame = _Frame([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    body = frame.axes("confidence", "fraction right")
    ends = (*frame.point(0, 0), *frame.point(1, 1))
    body += Markup('<line class="front" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*ends)
    for series, (name, curve) in enumerate(curves.items()):
        points = [frame.point(confidence, accuracy) for confidence, accuracy, _ in curve]
        if len(points) > 1:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            body += Markup('<path class="curve s{}" d="M{}"/>').format(series % 6, line)
        for (x, y), (confidence, accuracy, share) in zip(points, curve, strict=True):
            said = f"{name}: {confidence:.0%} sure, {accuracy:.0%} right, {share:.1%} of the pixels"
            body += marker(series, x, y, 2.5 + 4 * share**0.5, said)
    return svg(WIDTH, HEIGHT, label, body)


@dataclass(frozen=True)
class _Frame:
    """Two axes and the mapping from values to coordinates."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return the coordinates of a pair of values."""
        return place_on(x, self.x_ticks, LEFT, WIDTH - RIGHT), place_on(y, self.y_ticks, HEIGHT - BOTTOM, TOP)

    def axes(self, x_title: str, y_title: str) -> Markup:
        """Draw grid lines, numbers and titles of both axes."""
        body = x_axis(self.x_ticks, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)
        for tick in self.y_ticks:
            y = place_on(tick, self.y_ticks, HEIGHT - BOTTOM, TOP)
            body += Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                LEFT, WIDTH - RIGHT, y=y
            )
            body += text(LEFT - 6, y + 4, f"{tick:.4g}", "tick", "end")
        body += text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "tick", "middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        return body + Markup(
            '<text class="tick" text-anchor="middle" transform="translate(14 {:.1f}) rotate(-90)">{}</text>'
        ).format(middle, y_title)


def _ticks(values: Sequence[float], *, from_zero: bool) -> list[float]:
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high == low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    return nice_ticks(low, high)


def _side_by_side(trades: Sequence[Trade]) -> list[float]:
    """Return how far [px] each symbol is moved aside: models of one graph have one cost and would hide each other."""
    places = [[other for other, one in enumerate(trades) if one.x == trade.x] for trade in trades]
    return [ASIDE * (same.index(index) - (len(same) - 1) / 2) for index, same in enumerate(places)]


def _whiskers(frame: _Frame, trade: Trade, shift: float) -> Markup:
    body, css = Markup(""), trade.series % 6
    if trade.x_interval is not None:
        (a, y), (b, _) = (frame.point(end, trade.y) for end in trade.x_interval)
        body += Markup('<line class="whisker s{}" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>').format(css, a, b, y=y)
    if trade.y_interval is not None:
        (x, a), (_, b) = (frame.point(trade.x, end) for end in trade.y_interval)
        x += shift
        body += Markup('<line class="whisker s{}" x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(css, a, b, x=x)
    return body
