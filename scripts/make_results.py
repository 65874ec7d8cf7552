"""A finished study's figures beside the papers', as a page of docs: `python -m roadworthy.scripts.make_results studies/camvid`.

It reads the study's files alone; every sentence about a claim follows from the intervals (`eval.claims`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from roadworthy.eval.claims import NOT_TESTED, Finding, judge_claims
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.image_scores import compare_scores
from roadworthy.eval.results import load_results
from roadworthy.eval.verdict import JUDGED
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import get_taxonomy
from roadworthy.scripts.terminal import console

BASELINE = "cross-entropy"

# Tables of the papers: objective -> (mean IoU, BF-score, Hausdorff distance) of table 6 of arXiv 1908.02711.
PAPER_GAMBLING: Mapping[str, tuple[float, float, float]] = {
    "cross-entropy": (72.5, 71.8, 17.9),
    "focal": (70.8, 71.4, 17.7),
    "adversarial": (72.7, 72.7, 17.1),
    "el-gan": (70.1, 69.6, 19.1),
    "gambling": (72.1, 73.8, 16.0),
}
# Mean IoU of table II of arXiv 2008.04751 (FCN; its rows of the linear, squared and Huber metrics are 72.4, 72.8, 72.8).
PAPER_WASSERSTEIN: Mapping[str, float] = {"cross-entropy": 69.6, "importance-aware": 71.2, "wasserstein": 72.4}

# metric -> (title, factor, digits)
SHOWN: Mapping[str, tuple[str, float, int]] = {
    "miou": ("mean IoU [%]", 100, 1),
    "bf": ("BF-score [%]", 100, 1),
    "hausdorff_px": ("Hausdorff [px]", 1, 1),
    "mean_max_probability": ("mean max-prob. [%]", 100, 1),
    "ece": ("calibration error [%]", 100, 1),
    "expected_severity": ("severity × 1000", 1000, 1),
}


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/results.md"), show_default=True)
def main(study: Path, output: Path) -> None:
    """Write the figures of the finished STUDY, beside the papers', to OUTPUT (Markdown)."""
    folder = StudyFolder(study)
    results = load_results(folder)
    write_text(output, page(results, read_evaluations(folder, results)))
    console.print(str(output))


def read_evaluations(folder: StudyFolder, results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Read the evaluation of every seed, by name of the row. Raises `BadInput` for a missing one."""
    found: dict[str, list[dict[str, Any]]] = {}
    for segmenter in results["segmenters"]:
        for one in segmenter["seeds"]:
            path = folder.evaluation(one["file"])
            if not path.is_file():
                raise BadInput(f"{path}: no such file; finish the study first: roadworthy compare {folder.study}")
            found.setdefault(segmenter["name"], []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def page(results: Mapping[str, Any], evaluations: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the page, in Markdown. Raises `BadInput` for a study that has not trained cross-entropy to compare with."""
    segmenters = {segmenter["name"]: segmenter for segmenter in results["segmenters"]}
    if BASELINE not in segmenters or results["study"]["train"] is None:
        raise BadInput(f"the study {results['name']!r} has no row {BASELINE!r} to compare with; it has {', '.join(segmenters)}")
    after, floor = float(segmenters[BASELINE]["metrics"]["miou"]["value"]), float(results["study"]["train"]["floor_miou"])
    before = [each for found in results["floors"].values() for each in found["miou_of_seeds"]]
    reached = sum(before) / len(before) if before else after
    parts = [_head(results, segmenters), _floor(reached, before, after, results), _figures(segmenters)]
    if reached >= floor:  # below it nothing is compared
        parts += [_against(segmenters, evaluations, results), _papers(segmenters), _claims(results, evaluations)]
    return "\n\n".join(parts) + "\n"


def _head(results: Mapping[str, Any], segmenters: Mapping[str, Any]) -> str:
    study = results["study"]
    train, machine = study["train"], results["machine"]
    width, height = study["width"], study["height"]
    crop = f", learnt from random parts of {train['crop'][1]}x{train['crop'][0]}" if train["crop"] else ""
    minutes = results["seconds"] / 60
    return f"""# {results["title"]}

Written by `python -m roadworthy.scripts.make_results` from the files of a finished study; every figure of ours and every answer
follows from them.

- **Study**: `{results["command"]}`, revision {results["revision"]}, {minutes:.0f} minutes of jobs on {machine["cpu"]},
  {machine["usable_cores"]} cores, GPU: {", ".join(machine["gpus"]) or "none"}.
- **Data**: {results["data"]["test"] or "recorded in the town"}: trained on the split "train", scored on
  {results["data"]["test_images"]} images of another; {results["data"]["convention"]}.
- **Size**: {width}x{height}{crop}. The predictions are brought to the labels' size before they are scored.
- **Budget**: {train["pretrain_steps"]} updates with `{train["pretrain_objective"]}`, shared by all objectives and counted
  for each, then {train["finetune_steps"]} updates with the objective itself, {train["batch_size"]} images each;
  {", ".join(train["models"])} from random weights, seeds {", ".join(map(str, train["seeds"]))}. The **last** checkpoint is
  scored; none was chosen on the scored images.
- **Objectives**: {", ".join(f"`{one['objective']}`" for one in segmenters.values())}.

A figure is the mean over the seeds, with its 95 % interval over seeds and images; that of one seed counts nothing alone."""


def _floor(reached: float, before: Sequence[float], after: float, results: Mapping[str, Any]) -> str:
    """Say whether what all objectives start from had learnt enough, and where plain cross-entropy came from there."""
    train = results["study"]["train"]
    floor = float(train["floor_miou"])
    seeds = f" (seed by seed {', '.join(f'{100 * each:.1f}' for each in before)})" if before else ""
    what = f"the shared pre-training, `{train['pretrain_objective']}`," if before else "plain cross-entropy"
    found = f"{what} has a mean IoU of {100 * reached:.1f} %{seeds}, {100 * floor:.0f} % were demanded"
    if reached < floor:
        return f"**Floor not reached**: {found}. Nothing is compared here; train for longer (`train.pretrain_steps`)."
    if not before:
        return f"**Floor**: {found}."
    low = ", **below that floor**: the networks compared here have learnt little of rare classes" if after < floor else ""
    return (
        f"**Floor**: {found}. After {train['finetune_steps']} updates of plain cross-entropy from there it is "
        f"{100 * after:.1f} %{low}."
    )


def _figures(segmenters: Mapping[str, Any]) -> str:
    rows = [["objective", *(title for title, _, _ in SHOWN.values()), "mean IoU of each seed [%]", "training [min]"]]
    for segmenter in segmenters.values():
        cells = [_with_interval(segmenter["metrics"][metric], factor, digits) for metric, (_, factor, digits) in SHOWN.items()]
        seeds = ", ".join(f"{100 * one['metrics']['miou']:.1f}" for one in segmenter["seeds"])
        minutes = "–" if segmenter["train_s"] is None else f"{segmenter['train_s'] / 60:.1f}"
        rows.append([segmenter["label"], *cells, seeds, minutes])
    note = "Training: wall time of the objective's own updates, critics included, other jobs beside it."
    return f"## Figures\n\n{_table(rows)}\n\n{note}"


def _against(
    segmenters: Mapping[str, Any], evaluations: Mapping[str, Sequence[Mapping[str, Any]]], results: Mapping[str, Any]
) -> str:
    """Compare every objective with the baseline, and only those pairs: fewer pairs, narrower intervals."""
    pairs = [(name, BASELINE) for name in segmenters if name != BASELINE]
    found = compare_scores(evaluations, pairs=pairs, seed=results["study"]["seed"])
    metrics = [metric for metric in SHOWN if metric in JUDGED]
    rows = [["objective", *(SHOWN[metric][0] for metric in metrics)]]
    for index, (name, _) in enumerate(pairs):
        cells = []
        for metric in metrics:
            difference, (_, factor, digits) = found[metric][index], SHOWN[metric]
            better = difference.estimate.value * JUDGED[metric][1] > 0
            answer = ("**better**" if better else "**worse**") if difference.distinguishable else "cannot tell"
            cells.append(f"{_with_interval(difference.estimate.to_dict(), factor, digits, signed=True)} {answer}")
        rows.append([segmenters[name]["label"], *cells])
    words = (
        f"Differences on the same images, seed by seed, widened for the {len(pairs)} objectives; “cannot tell” where the "
        "interval contains zero. Wasserstein's severity is in-sample: it learnt with the matrix that scores it."
    )
    return f"## Against {BASELINE}\n\n{words}\n\n{_table(rows)}"


def _papers(segmenters: Mapping[str, Any]) -> str:
    rows = [
        ["objective", "ours: mean IoU, BF, Hausdorff", "1908.02711, table 6 (PSPNet)", "2008.04751, table II (FCN), mean IoU"]
    ]
    for name, segmenter in segmenters.items():
        metrics = segmenter["metrics"]
        ours = (
            f"{100 * metrics['miou']['value']:.1f}, {100 * metrics['bf']['value']:.1f}, {metrics['hausdorff_px']['value']:.1f}"
        )
        theirs = ", ".join(map(str, PAPER_GAMBLING[name])) if name in PAPER_GAMBLING else "–"
        rows.append([segmenter["label"], ours, theirs, str(PAPER_WASSERSTEIN.get(name, "–"))])
    words = (
        "The papers' figures cannot be compared with ours in size, only in order. 1908.02711 trains PSPNet from ImageNet "
        "weights for 100 epochs on 429 images of CamVid at 960x720 and scores 171 test images; 2008.04751 fine-tunes a public "
        "FCN on 367 images and scores 233 test images. Ours starts from random weights, on the 367 training images of the "
        "480x360 files, and is scored on their 101 validation images, because the test images were not at hand. Hausdorff "
        "distances are in pixels of each one's own size."
    )
    return f"## The papers' own figures beside ours\n\n{words}\n\n{_table(rows)}"


def _claims(results: Mapping[str, Any], evaluations: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    taxonomy = get_taxonomy(next(iter(evaluations.values()))[0]["taxonomy"])
    findings = judge_claims(evaluations, taxonomy, seed=results["study"]["seed"])
    lines = [_sentence(finding) for finding in findings]
    lines += [f"- *Not tested*: {text} ({paper}): {reason}." for paper, text, reason in NOT_TESTED]
    words = (
        "“Seen” where the interval of the difference keeps clear of zero on the claimed side; all claims together share a "
        "chance of 5 % of one false “seen”. “Not seen” is not “refuted”: it holds for this network, this budget and this data."
    )
    return f"## Claim by claim\n\n{words}\n\n" + "\n".join(lines)


def _sentence(finding: Finding) -> str:
    claim, difference = finding.claim, finding.difference
    head = f"- *{finding.answer.capitalize()}*: {claim.text} ({claim.paper}: {claim.reported})"
    if difference is None:
        return f"{head}: {finding.reason}."
    _, factor, digits = SHOWN.get(claim.metric, ("", 100, 1))
    measured = _with_interval(difference.to_dict(), factor, digits + 1, signed=True)
    return f"{head}. Here {claim.first} − {claim.second} is {measured}: {finding.reason}."


def _with_interval(estimate: Mapping[str, Any], factor: float, digits: int, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if estimate["value"] is None:
        return "–"
    value = f"{factor * estimate['value']:{sign}.{digits}f}"
    if estimate["low"] is None:
        return value
    return f"{value} ({factor * estimate['low']:{sign}.{digits}f} to {factor * estimate['high']:{sign}.{digits}f})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
