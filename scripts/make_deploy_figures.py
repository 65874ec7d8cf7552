"""Write what the runtime's benchmarks measured into docs/deploy.md: a table per network and size, and which targets were met.

    python -m roadworthy.scripts.make_deploy_figures enet.json pspnet.json int8.json --serve serve.json

The files are those of `bench_runtime --output` and `bench_serve --output`, all of one machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.bench_serve import MOST_ADDED_MS
from roadworthy.scripts.stages import DOCS, write_between
from roadworthy.scripts.terminal import console

WORDS: Mapping[str, str] = {
    "torch": "torch eager, channels last",
    "torch-compile": "torch.compile",
    "ort": "ONNX Runtime by hand, numpy before and after (1.00x)",
    "ort-graph": "ONNX Runtime by hand, all in the graph",
    "openvino": "OpenVINO by hand, all in the graph",
    "roadworthy": "**ours**, labels",
    "roadworthy, latent only": "ours, latent only",
    "roadworthy, all outputs": "ours, labels, confidence and latent",
    "int8": "**ours, int8**",
}


@click.command(context_settings={"show_default": True})
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--serve", type=click.Path(path_type=Path), help="JSON of bench_serve.")
@click.option("--page", type=click.Path(path_type=Path), default=DOCS / "deploy.md", help="Page whose marked part is replaced.")
def main(files: tuple[Path, ...], serve: Path | None, page: Path) -> None:
    """Write the figures of the benchmark FILES."""
    reports = [_read(path, "sizes") for path in files]
    lines = [_machine(reports[0]["machine"]), ""]
    for report in reports:
        for size, figures in report["sizes"].items():
            lines += [*table(report["model"], size, report["rounds"], figures), ""]
    if serve is not None:
        lines += served(_read(serve, "in-process"))
    write_between(page, "figures", lines)
    console.print(str(page))


def _read(path: Path, part: str) -> dict[str, Any]:
    """Read a benchmark's JSON; raises `BadInput` for any other file."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a benchmark's JSON ({error}); write one with its --output") from error
    if not isinstance(report, dict) or part not in report:
        raise BadInput(f"{path}: has no {part!r}; expected a file of bench_runtime --output (--serve: of bench_serve --output)")
    return report


def _machine(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "onnxruntime", "openvino"))
    return (
        f"{machine['cpu']}, {machine['usable_cores']} cores, {packages}; not run on a GPU. Milliseconds per call of batch 1, "
        "uint8 frame in; in every round each contender has an untimed call and a timed one, in a new order. Ratios are of "
        "medians, with 95 % intervals over rounds."
    )


def table(model: str, size: str, rounds: int, figures: Mapping[str, Any]) -> list[str]:
    """Return the lines for one network and size."""
    height, width = size.split("x")
    lines = [f"**{model}, {width}x{height}**, {rounds} rounds; ours ran on {figures['backend']}.", ""]
    lines += ["| contender | p50 | p90 | ratio |", "|---|---|---|---|"]
    for name, latency in figures["contenders"].items():
        relative = latency["ratio_to_baseline"]
        spread = "" if name == "ort" else f" ({relative['low']:.2f}–{relative['high']:.2f})"
        times = f"{latency['p50_ms']:.1f} | {latency['p90_ms']:.1f}"
        lines.append(f"| {WORDS.get(name, name)} | {times} | {relative['value']:.2f}x{spread} |")
    lines += ["", *(_target(check) for check in figures["targets"] if check["limit"] is not None)]
    overhead = "met" if figures["wrapper_overhead_met"] else "**not met**"
    lines.append(f"- our Python around the backend's call: {figures['wrapper_overhead_ms']:.3f} ms (at most 0.15: {overhead})")
    if "int8" in figures:
        drift = figures["int8"]
        lines.append(
            f"- int8 on validation frames: {100 * drift['agreement']:.1f} % of the labels agree with float (at least 96), mIoU "
            f"{100 * drift['float_miou']:.2f} → {100 * drift['int8_miou']:.2f} % ({drift['drift_points']:+.2f} points lost, at "
            "most 0.5)"
        )
    return lines


def _target(check: Mapping[str, Any]) -> str:
    verdict = "met" if check["met"] else "**not met**"
    spread = f"{check['low']:.2f}–{check['high']:.2f}"
    return f"- {check['what']}: {check['value']:.2f}x ({spread}), at most {check['limit']}: {verdict}"


def served(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of what Triton adds."""
    inside = report["in-process"]
    lines = [f"**Behind Triton** (loopback, {report['backend']}): in-process p50 {inside['p50_ms']:.1f} ms;", ""]
    ways: Sequence[str] = [name for name in ("http", "grpc") if name in report]
    return lines + [
        f"- {name}: p50 {report[name]['p50_ms']:.1f} ms, {report[name]['added_ms']:.1f} ms more (at most {MOST_ADDED_MS:g})"
        for name in ways
    ]


if __name__ == "__main__":
    main()
