"""The tables of an adaptation study as Markdown, and a sentence for each claim of the papers, decided by intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roadworthy.eval.adaptation_claims import claims, signed
from roadworthy.eval.adaptation_pairs import POINTS_OF_VIEW, SCENES
from roadworthy.eval.adaptation_plan import SOURCE_ONLY, STATISTICS, AdaptationStudy
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
            f"{plan.batch_size} frames ({plan.optimiser}, {plan.learning_rate:g}, `{plan.labels}`); ours "
            f"{plan.adaptation_steps} more of {plan.adaptation_batch_size} + {plan.adaptation_batch_size} frames (Adam, "
            f"{plan.adaptation_learning_rate:g}) with `{plan.adaptation}`; {STATISTICS} as many and as large "
            f"ones, in which only batch normalisation sees the target's frames. Mean seconds of a training: {spent}. Means "
            "over pairs and seeds; intervals (95 %) over scenes, where there are enough of them.\n"
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
    lines.append(_row(["difference of mIoU, in points", *found["pairs"], "above zero"]))
    lines.append(_row(["---"] * (2 + len(found["pairs"]))))
    for difference in found["differences"]:
        of_pairs = difference["of_pairs"]
        above = f"{sum(value > 0 for value in of_pairs)} of {len(of_pairs)}"
        name = f"{difference['first']} − {difference['second']}"
        lines.append(_row([name, *(f"{100 * value:+.1f}" for value in of_pairs), above]))
    lines.append("")
    lines += [f"- {_scene_verdict(difference, found)}" for difference in found["differences"]]
    lines.append(f"- The paper: {PUBLISHED[kind]}.")
    return "\n".join([*lines, ""])


def _scene_verdict(difference: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if found["scenes"] >= found["scenes_needed"]:
        return _verdict(difference)
    return (
        f"{difference['first']} against {difference['second']}: too few scenes to tell ({found['scenes']}, at least "
        f"{found['scenes_needed']} are needed); mIoU {100 * difference['value']:+.1f} points on average."
    )


def _real_table(study: AdaptationStudy, facts: Mapping[str, Any]) -> str:
    assert study.real is not None
    plan = study.real
    lines = [
        f"### (b) The town to CamVid\n\n{_network(study)}; {plan.episodes} drives of {plan.frames} "
        f"frames in {', '.join(plan.towns)}; seeds {_list(plan.seeds)}. {plan.steps} updates of {plan.batch_size} labelled "
        f"frames of the town (Adam, {plan.learning_rate:g}, `{plan.labels}`), then every method {plan.adaptation_steps} "
        f"more of {plan.adaptation_batch_size} + {plan.adaptation_batch_size} (Adam, {plan.adaptation_learning_rate:g}). "
        f"Scored on CamVid's {facts['images']} validation images at that size, data-set level, void ignored, over the "
        "classes that occur; means over seeds, intervals (95 % for each figure) over seeds and blocks of ten successive "
        "images. The comparisons that decide what the papers claim share 5 % (Bonferroni); the others have 95 % each.\n",
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
        lines += [f"- {_verdict(difference)}" for difference in controlled]
    lines += ["", "What the papers claim:", ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in claims(facts)), ""])


def _verdict(difference: Mapping[str, Any]) -> str:
    first, second = difference["first"], difference["second"]
    if not difference["distinguishable"]:
        return f"{first} and {second} cannot be told apart: mIoU {signed(difference)}."
    return f"{first} is {'better' if difference['value'] > 0 else 'worse'} than {second}: mIoU {signed(difference)}."


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
