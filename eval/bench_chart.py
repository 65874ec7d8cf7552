"""A benchmark as one SVG picture that needs nothing else: per contender the median, its interval, and the slow tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

WIDTH, ROW, LABEL, TOP = 900, 26, 380, 54  # [px]
COLOURS = {"roadworthy": "#0b6e99", "peer": "#8a8f98"}


def draw(result: Mapping[str, Any]) -> str:
    """Return the SVG text of a result of `eval.bench.bench`."""
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    largest = max(float(row["p99_ms"]) for row in rows)
    height = TOP + ROW * len(rows) + 40

    def x(milliseconds: float) -> float:
        return LABEL + (WIDTH - LABEL - 90) * milliseconds / largest

    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="12" role="img">'
            '<title>Latency per call</title><rect width="100%" height="100%" fill="#fff"/>'
            '<text x="12" y="22" font-size="15">Latency per call [ms]: dot p50 with its 95 % interval, bar to p90, line to p99'
            '</text><text x="12" y="40" fill="#555">{}, {} usable cores, {} rounds, interleaved</text>'
        ).format(WIDTH, height, result["machine"]["cpu"], result["machine"]["usable_cores"], result["rounds"])
    ]
    for index, row in enumerate(rows):
        y = TOP + ROW * index + ROW / 2
        colour = COLOURS[row["kind"]]
        low, high = row["p50_interval_ms"]
        name = row["name"] if row["batch"] == 1 else f"{row['name']}, batch {row['batch']}"
        parts.append(
            Markup(
                '<text x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>'
                '<line x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{c}" stroke-width="1"/>'
                '<line x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{c}" stroke-width="7" opacity="0.35"/>'
                '<line x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{c}" stroke-width="3"/>'
                '<circle cx="{:.1f}" cy="{y:.1f}" r="5" fill="{c}"/><text x="{:.1f}" y="{:.1f}">{:.2f}</text>'
            ).format(
                LABEL - 10, y + 4, name[:58],
                x(row["p50_ms"]), x(row["p99_ms"]),
                x(row["p50_ms"]), x(row["p90_ms"]),
                x(low), x(high),
                x(row["p50_ms"]), x(row["p99_ms"]) + 8, y + 4, row["p50_ms"],
                y=y, c=colour,
            )
        )  # fmt: skip
    axis = TOP + ROW * len(rows) + 12
    parts.append(
        Markup(
            '<line x1="{a:.0f}" x2="{b:.0f}" y1="{y:.0f}" y2="{y:.0f}" stroke="#333"/><text x="{a:.0f}" y="{t:.0f}">0</text>'
            '<text x="{b:.0f}" y="{t:.0f}" text-anchor="end">{:.1f} ms</text></svg>'
        ).format(largest, a=LABEL, b=x(largest), y=axis, t=axis + 16)
    )
    return "".join(parts)
