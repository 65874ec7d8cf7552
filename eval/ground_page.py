"""Ground matrices to look at: one self-contained page with a heat map of each, and what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from roadworthy.eval.charts import heat_map
from roadworthy.runtime.files import write_text
from roadworthy.train.ground import GroundMatrix

STYLE = """
:root { color-scheme: light dark; --ink:#1b1f24; --soft:#5b6570; --paper:#fff; --panel:#f5f7f9; --line:#d8dee4; --s1:#c4500a; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaee; --soft:#9aa6b2; --paper:#14181d; --panel:#1c2229; --line:#333c46; --s1:#f08a4b; } }
body { margin:0 auto; max-width:1280px; padding:20px; background:var(--paper); color:var(--ink); font:16px/1.5 system-ui,sans-serif; }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(420px,100%),1fr)); gap:16px; }
section { background:var(--panel); border:1px solid var(--line); border-radius:8px; padding:12px 14px; } h2 { font-size:1rem; margin:0; }
p { color:var(--soft); margin:.2em 0; font-size:.9rem; } svg { width:100%; height:auto; } svg text { fill:var(--soft); font-size:10px; }
.cell { fill:var(--s1); } .cell-empty { fill:none; stroke:var(--line); }
"""  # noqa: E501  # a style sheet


def write_ground_page(entries: Sequence[tuple[str, str, GroundMatrix]], path: Path, title: str) -> None:
    """Write a page with a heat map for each (heading, note, matrix) of `entries`, truth in the rows."""
    cards = Markup("").join(
        Markup("<section><h2>{}</h2><p>{}</p>{}</section>").format(
            heading, note, heat_map(matrix.cost.tolist(), matrix.classes, f"ground matrix {heading}", top_value=1.0)
        )
        for heading, note, matrix in entries
    )
    page = Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,"><title>{0}</title><style>{1}</style></head><body><h1>{0}</h1>'
        "<p>What each mistake costs, 0 to 1: truth in the rows, prediction in the columns. Rest the pointer on a cell.</p>"
        '<div class="grid">{2}</div></body></html>'
    ).format(title, Markup(STYLE), cards)
    write_text(path, str(page))
