"""Which tensor of a foreign network shall the driving agent see? Its deepest encoder map that is not too coarse."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from roadworthy.export.onnx_model import WEIGHTED, import_onnx
from roadworthy.runtime.errors import BadInput

COARSEST_STRIDE = 16  # frame pixels per cell: 8x16 cells of a 128x256 frame; coarser ones tell a driver nothing
SHOWN = 12  # candidates in a message
_ENLARGING = ("Resize", "Upsample", "ConvTranspose", "DepthToSpace")


class Candidate(NamedTuple):
    """A map inside the network."""

    name: str  # of the tensor
    shape: tuple[int, int, int]  # C, h, w


def choose_latent(model: Any, wanted: str | None, height: int, width: int, source: Path) -> Candidate:
    """Return the tensor named `wanted` (or written by the node of that name), by default the deepest encoder map.

    Without a name it is the last map before the network first enlarges one, of those with the largest stride up to
    COARSEST_STRIDE. Raises `BadInput` listing the candidates when the name is not one, or none can be chosen.
    """
    found = candidates(model, height, width)
    if wanted is not None:
        of_node = {node.name: name for node in model.graph.node for name in node.output}
        by_name = {candidate.name: candidate for candidate in found}
        chosen = by_name.get(wanted) or by_name.get(of_node.get(wanted, ""))
        if chosen is None:
            raise BadInput(f"{source}: {wanted!r} is no map [B, C, h, w] of this network; candidates: {_listed(found)}")
        return chosen
    before: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _ENLARGING:
            break
        before.update(node.output)
    needed: set[str] = set()  # by a later layer: logits are no latent
    for node in list(model.graph.node)[::-1]:
        if node.op_type in WEIGHTED or needed.intersection(node.output):
            needed.update(node.input)
    encoder = [
        candidate
        for candidate in found
        if candidate.name in before & needed
        and 1 < height / candidate.shape[1] <= COARSEST_STRIDE
        and min(candidate.shape[1:]) > 1
    ]
    if not encoder:
        raise BadInput(f"{source}: no map could be chosen for the driving agent; name one with --latent: {_listed(found)}")
    deepest = min(candidate.shape[1] * candidate.shape[2] for candidate in encoder)
    return [candidate for candidate in encoder if candidate.shape[1] * candidate.shape[2] == deepest][-1]


def candidates(model: Any, height: int, width: int) -> list[Candidate]:
    """Return all maps [B, C, h, w] with the frame's aspect ratio, in the order in which they are computed."""
    onnx = import_onnx("looking for a latent")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    shapes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        dims = [int(axis.dim_value) if axis.HasField("dim_value") else 0 for axis in kind.shape.dim]
        if kind.elem_type in floats and len(dims) == 4 and all(dims[1:]):
            shapes[value.name] = (dims[1], dims[2], dims[3])
    found = []
    for node in model.graph.node:
        for name in node.output:
            if name in shapes:
                channels, rows, columns = shapes[name]
                if rows <= height and columns <= width and abs(rows * width - columns * height) <= max(height, width):
                    found.append(Candidate(name, (channels, rows, columns)))
    return found


def _listed(found: list[Candidate]) -> str:
    """Write the last candidates of each resolution, coarsest first."""
    last = {candidate.shape: candidate for candidate in found}
    chosen = sorted(last.values(), key=lambda candidate: candidate.shape[1] * candidate.shape[2])[:SHOWN]
    return "; ".join(f"{c.name} [{c.shape[0]}, {c.shape[1]}, {c.shape[2]}]" for c in chosen) or "none"
