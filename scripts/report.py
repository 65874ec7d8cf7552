"""`roadworthy report`: write a finished study's page and figures again, from its files alone."""

from __future__ import annotations

from pathlib import Path

import click

from roadworthy.scripts.terminal import console


@click.command()
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Also write the figures as CSV, to STUDY/csv.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document instead of the paths.")
def command(studies: tuple[Path, ...], as_csv: bool, as_json: bool) -> None:
    """Rebuild the report of each study folder in STUDIES; nothing is trained, measured or driven.

    Example: roadworthy report studies/quick --csv
    """
    import json

    from roadworthy.eval.compare import rebuild
    from roadworthy.eval.figures import write_csv
    from roadworthy.eval.folder import StudyFolder
    from roadworthy.eval.results import load_results

    pages = {study: rebuild(study) for study in studies}
    figures = {str(study): load_results(StudyFolder(study)) for study in studies}
    written = [path for study in studies if as_csv for path in write_csv(figures[str(study)], study / "csv")]
    if as_json:
        click.echo(json.dumps(figures, indent=1))
        return
    for path in (*pages.values(), *written):
        console.print(str(path), soft_wrap=True)
