"""How much work a graph is, and how close to this machine's limits it runs (Williams et al. 2009, the roofline model).

Floating-point operations are counted for convolutions and matrix products alone, a multiplication and an addition as two, as
torch's FlopCounterMode counts them; bytes are every weight once plus every tensor written once and read by each of its users,
which a backend that fuses operators beats. Peaks are measured, not looked up: see `runtime.peak`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from roadworthy.runtime.errors import MissingExtra
from roadworthy.runtime.peak import Peak


@dataclass(frozen=True)
class Work:
    """What one call of a graph has to do."""

    flops: int  # [operations]
    weight_bytes: int
    activation_bytes: int  # written and read, nothing fused

    def to_dict(self) -> dict[str, float]:
        """Return the figures ready for JSON."""
        return {"gflop": self.flops / 1e9, "weight_mb": self.weight_bytes / 1e6, "activation_mb": self.activation_bytes / 1e6}


@dataclass(frozen=True)
class Roofline:
    """How a measured latency compares with what the machine could do."""

    gflops: float  # [1e9 operations per second] reached
    compute_fraction: float  # of the peak of a float32 matrix product; int8 may pass 1
    bound_ms: float  # no float32 program on this machine does the work in less, if it moves the weights and the frame alone
    limit: str  # compute or memory: which of the two the bound comes from

    def to_dict(self) -> dict[str, object]:
        """Return the figures ready for JSON."""
        return {
            "gflops": self.gflops, "compute_fraction": self.compute_fraction, "bound_ms": self.bound_ms, "limit": self.limit,
        }  # fmt: skip


def place(work: Work, latency_ms: float, peak: Peak) -> Roofline:
    """Put a latency under the roof that `peak` makes for `work`."""
    compute_ms = 1e3 * work.flops / (peak.gflops * 1e9)
    memory_ms = 1e3 * work.weight_bytes / (peak.copy_gb_per_s * 1e9)
    gflops = work.flops / (latency_ms / 1e3) / 1e9
    limit = "compute" if compute_ms >= memory_ms else "memory"
    return Roofline(gflops, gflops / peak.gflops, max(compute_ms, memory_ms), limit)


def count_work(path: Path, batch: int = 1) -> Work:
    """Count the work of the ONNX file at `path` for `batch` frames; raises `MissingExtra` without the onnx package."""
    try:
        import onnx
        from onnx import shape_inference
    except ImportError as error:
        raise MissingExtra("onnx", "export", "counting a model's operations") from error
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        if dimension.dim_param:
            _set_batch(model, dimension.dim_param, batch)
    model = shape_inference.infer_shapes(model, data_prop=True)
    shapes, sizes = _tensors(model.graph)
    flops = sum(_flops(node, shapes) for node in model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    weight_bytes = sum(sizes.get(name, 0) for name in weights)
    moved = 0
    for node in model.graph.node:
        moved += sum(sizes.get(name, 0) for name in (*node.input, *node.output) if name not in weights)
    return Work(flops, weight_bytes, moved)


def _set_batch(model: Any, name: str, batch: int) -> None:
    """Replace the symbolic dimension `name` by a number everywhere."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == name:
                dimension.dim_value = batch


def _tensors(graph: Any) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return the shape, and the size [bytes], of every tensor whose shape is known."""
    from onnx import helper

    shapes: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for tensor in graph.initializer:
        shapes[tensor.name] = list(tensor.dims)
        sizes[tensor.name] = prod(tensor.dims) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if all(dimension.HasField("dim_value") for dimension in kind.shape.dim):
            shapes[value.name] = [dimension.dim_value for dimension in kind.shape.dim]
            sizes[value.name] = prod(shapes[value.name]) * int(helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)
    return shapes, sizes


def _flops(node: Any, shapes: dict[str, list[int]]) -> int:
    """Count one node: 2 per multiplication and addition of a convolution or matrix product, else nothing."""
    if node.op_type in ("Conv", "ConvInteger"):
        weight, output = shapes[node.input[1]], shapes[node.output[0]]  # [out, in / groups, *kernel], [B, out, *size]
        return 2 * prod(output) * prod(weight[1:])
    if node.op_type == "QLinearConv":
        return 2 * prod(shapes[node.output[0]]) * prod(shapes[node.input[3]][1:])
    if node.op_type == "ConvTranspose":
        weight, source = shapes[node.input[1]], shapes[node.input[0]]  # [in, out / groups, *kernel], [B, in, *size]
        return 2 * prod(source) * prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        left = shapes[node.input[0]]
        return 2 * prod(shapes[node.output[0]]) * (left[0] if transposed else left[1])
    if node.op_type in ("MatMul", "MatMulInteger"):
        return 2 * prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0
