"""What runs where, tried and not claimed: export every network in every format and precision, load it, run it, note it down.

    python -m roadworthy.scripts.make_support_matrix --network enet --network pspnet-resnet50   # try these here, now
    python -m roadworthy.scripts.make_support_matrix                                            # only write the page's table

What was seen is kept in docs/support.json (one entry per network, format, precision and backend, with versions; a new run
replaces it), and the table between the marks in docs/deploy.md is made from it. Random weights at a small size: support is a
matter of operators. Where TensorRT for RTX is installed its engines are built; none is run without a GPU.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from roadworthy.export.convert import convert
from roadworthy.export.frames import Frames
from roadworthy.export.onnx import export_network
from roadworthy.export.tensorrt import import_library
from roadworthy.export.wish import SUFFIXES, Wish
from roadworthy.runtime import load
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import versions
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CITYSCAPES, IGNORE
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.normalisation import normalise

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECORDS, PAGE = DOCS / "support.json", DOCS / "deploy.md"
BEGIN, END = "<!-- support matrix: begin -->", "<!-- support matrix: end -->"
PRECISIONS = ("fp32", "fp16", "int8")
# Column -> format and backend. An engine's backend needs a GPU; Triton's repository needs a Triton.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "ONNX, ONNX Runtime CPU": ("onnx", "onnxruntime"),
    "ONNX, OpenVINO": ("onnx", "openvino"),
    "OpenVINO IR": ("openvino", "openvino"),
    "RTX engine": ("tensorrt-rtx", "tensorrt"),
    "TensorRT engine": ("tensorrt", "tensorrt"),
    "Triton repository": ("triton", "triton"),
}
TARGETS = ("sm86", "sm89", "sm120")  # what RTX engines are built for
SIZE = (64, 128)  # [pixels] height, width
RAN, BUILT, NEEDS_GPU = "ran here", "built here", "needs a GPU"


@click.command(context_settings={"show_default": True})
@click.option("--network", "networks", multiple=True, type=click.Choice([*MODELS, "all"]), help="Try this network now.")
def main(networks: tuple[str, ...]) -> None:
    """Try networks, and write the table."""
    records = _read()
    for network in MODELS if "all" in networks else networks:
        for record in _try_network(network):
            records[_key(record)] = record
            state = record["state"] + (f": {record['why']}" if record["why"] else "")
            click.echo(f"{network} {record['precision']} {record['format']} on {record['backend']}: {state}")
        write_text(RECORDS, json.dumps([records[key] for key in sorted(records)], indent=1) + "\n")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_text(PAGE, f"{before}{BEGIN}\n{table(list(records.values()))}{END}{after}")


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the matrix as Markdown: a row per network and precision, with every refusal's reason below."""
    seen = {_key(record): record for record in records}
    lines = [f"| network | precision | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    reasons: list[str] = []
    for network in MODELS:
        for precision in PRECISIONS:
            cells = []
            for format, backend in COLUMNS.values():
                record = seen.get((network, precision, format, backend))
                cell = "not tried" if record is None else str(record["state"])
                if record is not None and record["why"]:
                    if record["why"] not in reasons:
                        reasons.append(str(record["why"]))
                    cell += f" ({reasons.index(record['why']) + 1})"
                cells.append(cell)
            if any(cell != "not tried" for cell in cells):
                lines.append(f"| {network} | {precision} | {' | '.join(cells)} |")
    tried = sorted({f"{name} {number}" for record in records for name, number in record["versions"].items()})
    lines += ["", *(f"({place}) {reason}" for place, reason in enumerate(reasons, 1)), ""]
    return "\n".join(lines) + f"\nTried with {', '.join(tried)}; {SIZE[1]}x{SIZE[0]} frames, random weights.\n"


def _key(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return record["network"], record["precision"], record["format"], record["backend"]


def _read() -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
    """Return what was seen so far."""
    if not RECORDS.is_file():
        return {}
    return {_key(record): record for record in json.loads(RECORDS.read_text(encoding="utf-8"))}


def _try_network(name: str) -> list[dict[str, Any]]:
    """Export `name` in everything and run what can be run."""
    torch.manual_seed(0)
    height, width = SIZE
    images = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), dtype=np.uint8)
    network = build_model(name, len(CITYSCAPES))
    with torch.no_grad():
        network.train()(normalise(torch.from_numpy(images)))  # batch statistics that fit the frames
    metadata = ModelMetadata.of(CITYSCAPES, ignore_id=IGNORE, height=height, width=width, architecture=name, precision="fp32")
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        export_network(network.eval(), metadata, source, images, min_agreement=0.99)
        for precision in PRECISIONS:
            for format in dict.fromkeys(format for format, _ in COLUMNS.values()):
                records += _try_format(name, source, precision, format, images)
    return records


def _try_format(network: str, source: Path, precision: str, format: str, images: Any) -> list[dict[str, Any]]:
    """Make one file of `source` and load it with every backend of its columns."""
    backends = [backend for wanted, backend in COLUMNS.values() if wanted == format]
    facts: dict[str, Any] = {"network": network, "precision": precision, "format": format}
    path = source
    if (format, precision) != ("onnx", "fp32"):
        path = source.parent / f"{precision}-{format}{SUFFIXES[format]}"
        wish = Wish(format, precision, min_agreement=0.0, targets=TARGETS if format == "tensorrt-rtx" else ())
        frames = Frames(images, None, "random")
        try:
            convert(source, path, wish, frames=lambda: frames, calibration=lambda: frames)
        except RoadworthyError as error:
            state = NEEDS_GPU if format == "tensorrt" else "refused"
            return [
                {**facts, "backend": name, **_outcome(state, "" if state == NEEDS_GPU else str(error))} for name in backends
            ]
    records = []
    for backend in backends:
        if backend not in BACKENDS:
            records.append({**facts, "backend": backend, **_outcome(BUILT)})
            continue
        try:
            labels = load(path, backend=backend, threads=1)(images[:1], ("labels",)).labels
            assert labels is not None
            outcome = _outcome(RAN)
        except RoadworthyError as error:
            outcome = _outcome(BUILT) if backend == "tensorrt" else _outcome("refused", str(error))
        records.append({**facts, "backend": backend, **outcome})
    if format == "tensorrt-rtx":
        for record in records:
            record["versions"] = {"tensorrt-rtx": import_library(format)[1]}
    return records


def _outcome(state: str, why: str = "") -> dict[str, Any]:
    """Return what was seen, and with which packages."""
    found = {name: number for name, number in versions().items() if name in ("onnxruntime", "openvino", "torch")}
    return {"state": state, "why": " ".join(why.split())[:200], "versions": found}


if __name__ == "__main__":
    main()
