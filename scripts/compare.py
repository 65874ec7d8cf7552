"""`roadworthy compare`: record, train, export, measure, drive and report, for several objectives."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from roadworthy.eval.runner import Progress as StudyProgress
from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.terminal import console

if TYPE_CHECKING:
    from roadworthy.eval.watch import Watch

PLAIN_EVERY_S = 15.0  # [s] between lines when the output is not a terminal


@click.command()
@click.argument("study", required=False, type=click.Path(path_type=Path))
@click.option("--preset", help="A shipped study: quick.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the study.  [default: studies/NAME]")
@click.option("--cores", type=click.IntRange(1), help="Cores to fill.  [default: all physical cores]")
@click.option(
    "--watch", type=click.IntRange(0, 65535), help="Serve the study's state on this port of this machine; 0 = a free one."
)
@click.option("--ray", help="Run the jobs on the Ray cluster at HOST:PORT (or auto, or local); needs the extra ray.")
@click.option("--show", is_flag=True, help="Print the study as YAML, to start your own from, and do nothing.")
def command(
    study: Path | None,
    preset: str | None,
    output: Path | None,
    cores: int | None,
    watch: int | None,
    ray: str | None,
    show: bool,
) -> None:
    """Run what is missing of a study and write its report: STUDY is a YAML file, or name a --preset.

    Interrupt it at any time; the same command goes on with what is not done.

    Example: roadworthy compare --preset quick
    """
    import yaml

    from roadworthy.eval.compare import compare
    from roadworthy.eval.folder import StudyFolder
    from roadworthy.eval.plan import make_jobs
    from roadworthy.eval.study import load_study, study_data
    from roadworthy.eval.study import preset as named_preset
    from roadworthy.eval.usage import read_usage
    from roadworthy.eval.watch import Watch

    if (study is None) == (preset is None):
        raise BadInput("name one study: a YAML file, or --preset quick")
    plan = load_study(study) if study is not None else named_preset(preset or "")
    if show:
        click.echo(yaml.safe_dump(study_data(plan), sort_keys=False))
        return
    output = output or Path("studies") / plan.name
    shown = _Display()
    with ExitStack() as stack:
        tell, page = shown.update, None
        if watch is not None:
            folder = StudyFolder(output)
            page = stack.enter_context(Watch(folder, plan.title, make_jobs(plan, folder), watch))
            console.print(f"watch it at {page.address}", soft_wrap=True)
            tell = partial(_tell_both, shown, page)
        with shown:
            report = compare(plan, output, cores=cores, ray=ray, progress=tell)
        if page is not None:
            page.finish()
            console.print(f"the report is at {page.address} until you press a key", soft_wrap=True)
            click.pause("")
    for usage in read_usage(StudyFolder(output).usage)[-1:]:
        console.print(usage.words(), soft_wrap=True)
    console.print(f"done in {shown.elapsed_s / 60:.1f} minutes. The report: {report.resolve()}", soft_wrap=True)


def _tell_both(shown: _Display, page: Watch, now: StudyProgress) -> None:
    shown.update(now)
    page.update(now)


class _Display:
    """The study's progress: a bar in a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self._printed_s = -PLAIN_EVERY_S
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> None:
        if self._bar is not None:
            self._bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, now: StudyProgress) -> None:
        """Show where the study is and how long it will take."""
        self.elapsed_s = now.elapsed_s
        left = f"{now.left_s / 60:.1f} min left" if now.left_s >= 90 else f"{now.left_s:.0f} s left"
        line = f"{left}, job {min(now.done + 1, now.total)} of {now.total}: {now.text}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=now.fraction, description=line)
        elif now.elapsed_s - self._printed_s >= PLAIN_EVERY_S or now.fraction >= 1.0:
            self._printed_s = now.elapsed_s
            console.print(f"{now.elapsed_s / 60:4.1f} min {100 * now.fraction:3.0f} % {line}", soft_wrap=True)
