"""How long work shows itself in the terminal: one progress line with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False)


@contextmanager
def progress_line(title: str) -> Iterator[Callable[[str, float], None]]:
    """Yield `report(text, fraction)` that draws a progress bar, or plain lines when the output is not a terminal."""
    if not console.is_terminal:
        shown = [-1]

        def report_plain(text: str, fraction: float) -> None:
            if int(fraction * 10) > shown[0]:
                shown[0] = int(fraction * 10)
                console.print(f"{title}: {100 * fraction:3.0f} % {text}", soft_wrap=True)

        yield report_plain
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=1.0)

        def report(text: str, fraction: float) -> None:
            progress.update(task, completed=fraction, description=f"{title}: {text}")

        yield report


class ImageSize(click.ParamType[tuple[int, int]]):
    """A size written WIDTHxHEIGHT, as cameras and displays write it; converted to (height, width) in pixels."""

    name = "WxH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Turn "256x128" into (128, 256)."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 2 or not all(part.isdigit() and 0 < int(part) <= 8192 for part in parts):
            self.fail(f"{value!r} is not a size; expected WIDTHxHEIGHT in pixels, for example 256x128", param, ctx)
        return int(parts[1]), int(parts[0])
