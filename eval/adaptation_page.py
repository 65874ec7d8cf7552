"""The tables of an adaptation study as Markdown, and a sentence for each claim of the papers, decided by intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roadworthy.eval.adaptation_plan import (
    CLAIMS,
    ORACLE,
    POINTS_OF_VIEW,
    SCENES,
    SOURCE_ONLY,
    STATISTICS,
    AdaptationStudy,
)
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

BEGIN, END = "<!-- adaptation study: begin -->", "<!-- adaptation study: end -->"


# Mean IoU in tables 1 and 2 of Di Mauro et al. (AVSS 2018).
PUBLISHED: Mapping[str, str] = {
    POINTS_OF_VIEW: "ours 57 against 32 without adaptation and 64 with the target's labels, 30,000 frames, PSPNet",
    SCENES: "ours 22 against 19 without adaptation and 47 with the target's labels",
}


def write_page(path: Path, study: AdaptationStudy, results: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a Markdown file. Raises `BadInput` if it has none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN not in text or END not in text:
        raise BadInput(f"{path}: expected a Markdown file with the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(path, f"{before}{BEGIN}\n{page(study, results)}{END}{after}")


def page(study: AdaptationStudy, results: Mapping[str, Any]) -> str:
    """Return the tables of a finished study."""
    parts = []
    if study.scenes is not None and "scenes" in results:
        plan, facts = study.scenes, results["scenes"]
        spent = ", ".join(f"{method} {seconds:.0f} s" for method, seconds in facts["seconds"].items())
        parts.append(
            f"### (a) Fixed cameras\n\n{_network(study)}; {plan.episodes} episodes of {plan.frames} "
            f"frames per view, the last one scored; seeds {_list(plan.seeds)}. With labels {plan.steps} updates of "
            f"{plan.batch_size} frames ({plan.optimiser}, {plan.learning_rate:g}); ours {plan.adaptation_steps} more "
            f"of {plan.adaptation_batch_size} + {plan.adaptation_batch_size} frames (Adam, {plan.adaptation_learning_rate:g}), "
            f"`{plan.objective}`. Mean seconds of a training: {spent}. Means over pairs; intervals (95 %) over pairs.\n"
        )
        for kind in (POINTS_OF_VIEW, SCENES):
            if kind in facts:
                parts.append(_scene_tables(kind, facts))
    if study.real is not None and "real" in results:
        parts.append(_real_table(study, results["real"]))
    return "\n".join(parts)


def _scene_tables(kind: str, facts: Mapping[str, Any]) -> str:
    found = facts[kind]
    lines = [f"#### Adaptation between {kind} ({', '.join(found['pairs'])})\n"]
    for title, mean, each in (("class accuracy", "mean_accuracy", "accuracy"), ("IoU", "mean_iou", "iou")):
        lines.append(_row([title, "mean", *facts["classes"]]))
        lines.append(_row(["---"] * (2 + len(facts["classes"]))))
        for method, figures in found["methods"].items():
            lines.append(_row([method, _interval(figures[mean]), *(_percent(value) for value in figures[each])]))
        lines.append("")
    lines += [f"- {_verdict(difference)}" for difference in found["differences"]]
    lines.append(f"- The paper: {PUBLISHED[kind]}.")
    return "\n".join([*lines, ""])


def _real_table(study: AdaptationStudy, facts: Mapping[str, Any]) -> str:
    assert study.real is not None
    plan = study.real
    lines = [
        f"### (b) The town to CamVid\n\n{_network(study)}; {plan.episodes} drives of {plan.frames} "
        f"frames in {', '.join(plan.towns)}; seeds {_list(plan.seeds)}. {plan.steps} updates of {plan.batch_size} labelled "
        f"frames of the town (Adam, {plan.learning_rate:g}, `{plan.labels}`), then every method {plan.adaptation_steps} "
        f"more of {plan.adaptation_batch_size} + {plan.adaptation_batch_size} (Adam, {plan.adaptation_learning_rate:g}). "
        f"Scored on CamVid's {facts['images']} validation images at that size, data-set level, void ignored, over the "
        "classes that occur; means over seeds, intervals (95 %) over seeds and blocks of ten successive images.\n",
        _row(["method", "mIoU", *facts["classes"], "s"]),
        _row(["---"] * (3 + len(facts["classes"]))),
    ]
    for method, figures in facts["methods"].items():
        classes = [_percent(value) for value in figures["iou"]]
        lines.append(_row([method, _interval(figures["mean_iou"]), *classes, f"{figures['seconds']:.0f}"]))
    lines.append("")
    lines += [f"- {_verdict(difference)}" for difference in facts["differences"] if difference["second"] == SOURCE_ONLY]
    controlled = [difference for difference in facts["differences"] if difference["second"] == STATISTICS]
    if controlled:
        lines += [
            "",
            f"Against {STATISTICS} (the target's frames move batch normalisation, and nothing else is learnt from them):",
            "",
        ]
        lines += [f"- {_verdict(difference)}" for difference in controlled if difference["first"] != ORACLE]
    lines += ["", "What the papers claim:", ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in claims(facts)), ""])


def claims(facts: Mapping[str, Any]) -> list[str]:
    """Return each claim with what the study saw of it."""
    known = {(each["first"], each["second"]): each for each in facts["differences"]}
    sentences = []
    for first, second, claim in CLAIMS:
        difference = known.get((first, second))
        if difference is None:
            answer = "not tested: the study lacks one of them"
        elif not difference["distinguishable"]:
            answer = f"not seen: cannot be told apart ({_signed(difference)})"
        elif difference["value"] > 0:
            answer = f"seen ({_signed(difference)})"
        else:
            answer = f"not seen: the opposite was found ({_signed(difference)})"
        sentences.append(f"{claim} Here: {answer}.")
    return sentences


def _verdict(difference: Mapping[str, Any]) -> str:
    first, second = difference["first"], difference["second"]
    if not difference["distinguishable"]:
        return f"{first} and {second} cannot be told apart: mIoU {_signed(difference)}."
    return f"{first} is {'better' if difference['value'] > 0 else 'worse'} than {second}: mIoU {_signed(difference)}."


def _signed(difference: Mapping[str, Any]) -> str:
    if difference["low"] is None:
        return f"{100 * difference['value']:+.1f} points, no interval"
    return f"{100 * difference['value']:+.1f} points, {100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}"


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return _percent(figure["value"])
    return f"**{_percent(figure['value'])}** ({_percent(figure['low'])}–{_percent(figure['high'])})"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _network(study: AdaptationStudy) -> str:
    return f"{study.model} at {study.width}x{study.height}"
