"""`roadworthy adapt`: learning where nobody labelled, tried on fixed cameras and on the step from the town to CamVid."""

from __future__ import annotations

import json
from pathlib import Path

import click

from roadworthy.scripts.terminal import console, progress_line


@click.command()
@click.argument("study", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the study.  [default: studies/NAME]")
@click.option("--page", type=click.Path(path_type=Path),
              help="Write the tables into this Markdown file, between its marks: docs/adaptation.md.")  # fmt: skip
@click.option("--show", is_flag=True, help="Print the study as YAML, to start your own from, and do nothing.")
def command(study: Path | None, output: Path | None, page: Path | None, show: bool) -> None:
    """Run what is missing of an adaptation study and print its tables: STUDY is a YAML file (default: the shipped study).

    Interrupt it at any time; the same command goes on with what is not done.

    Example: roadworthy adapt study.yaml --page docs/adaptation.md
    """
    from roadworthy.eval.adaptation import adapt
    from roadworthy.eval.adaptation_page import page as tables
    from roadworthy.eval.adaptation_page import write_page
    from roadworthy.eval.adaptation_plan import AdaptationStudy, load_adaptation, show_adaptation

    plan = AdaptationStudy() if study is None else load_adaptation(study)
    if show:
        click.echo(show_adaptation(plan))
        return
    output = output or Path("studies") / plan.name
    with progress_line("adapting") as report:
        results = adapt(plan, output, report)
    facts = json.loads(results.read_text(encoding="utf-8"))
    if page is not None:
        write_page(page, plan, facts)
        console.print(f"{page}: tables written from {results}")
    else:
        click.echo(tables(plan, facts))
