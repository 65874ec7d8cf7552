"""Runs an adaptation study: records what is missing, trains what is missing, scores it, and writes `results.json`.

    STUDY/study.yaml          what was asked for
    STUDY/views/A1 ...        recordings of experiment (a); STUDY/town: that of experiment (b)
    STUDY/runs/NAME           one training each (of self-training: its rounds)
    STUDY/scores/NAME.json    its confusion matrices, image by image
    STUDY/results.json        see `roadworthy.eval.adaptation_scores`

Everything can be interrupted and goes on when the same study is run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from roadworthy.agent.recorder import record
from roadworthy.agent.views import record_views
from roadworthy.eval.adaptation_check import check_before_recording
from roadworthy.eval.adaptation_plan import (
    AdaptationStudy,
    Training,
    drives_plan,
    load_adaptation,
    save_adaptation,
    study_trainings,
    views_plan,
)
from roadworthy.eval.adaptation_scores import score_run, summarise
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.train.fit import fit
from roadworthy.train.rounds import self_train

Progress = Callable[[str, float], None]
RECORDING_SHARE = 0.1  # of the progress bar


def adapt(study: AdaptationStudy, folder: Path, progress: Progress | None = None) -> Path:
    """Run what is missing of a study in `folder`; returns its results file.

    Raises `BadInput`, before anything is recorded, when the folder holds another study, a data set or town is missing, or a
    training cannot work.
    """
    say = progress or (lambda text, fraction: None)
    study.check("study")
    kept = folder / "study.yaml"
    if kept.is_file() and load_adaptation(kept) != study:
        raise BadInput(f"{folder} holds another study: choose another --output, or ask for the same again to go on with it")
    trainings = study_trainings(study, folder)
    check_before_recording(study, trainings)
    save_adaptation(study, kept)
    if study.scenes is not None:
        record_views(
            views_plan(study.scenes), folder / "views", lambda text, done: say(f"views: {text}", RECORDING_SHARE / 2 * done),
            address=study.carla,
        )  # fmt: skip
    if study.real is not None:
        record(
            drives_plan(study, study.real),
            folder / "town",
            lambda text, done: say(f"town: {text}", RECORDING_SHARE / 2 * (1 + done)),
        )
    for number, training in enumerate(trainings):

        def report(text: str, done: float, number: int = number, name: str = training.name) -> None:
            share = (number + done) / len(trainings)
            say(f"{name} ({number + 1} of {len(trainings)}): {text}", RECORDING_SHARE + (1 - RECORDING_SHARE) * share)

        _train(training, folder, report)
    write_text(folder / "results.json", json.dumps(summarise(study, folder), indent=2) + "\n")
    return folder / "results.json"


def _train(training: Training, folder: Path, report: Progress) -> None:
    """Train and score one network, if that is not done."""
    path, run = folder / "scores" / f"{training.name}.json", folder / "runs" / training.name
    if path.is_file():
        return
    if training.rounds is None:
        results = [fit(training.config, run, progress=report, resume=True)]
    else:
        results = self_train(training.config, training.rounds, run, progress=report, resume=True)
    scores = {name: score_run(results[-1].run, spec) for name, spec in training.scored_on.items()}
    seconds = sum(result.seconds for result in results)
    write_text(
        path, json.dumps({"updates": sum(result.steps for result in results), "seconds": seconds, "scores": scores}) + "\n"
    )
