"""A foreign network, looked at from outside: what its owner says of it, what it takes, what it gives, and how to run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.export.onnx_model import batch_of
from roadworthy.export.resampling import upsample_bilinear, upsample_nearest
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.runtime.machine import usable_cores
from roadworthy.runtime.metadata import UNKNOWN
from roadworthy.runtime.segmenter import Segmentation
from roadworthy.runtime.taxonomy import Taxonomy

LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Foreign:
    """What its owner knows about a network and no file says."""

    taxonomy: str  # what its ids mean
    mean: tuple[float, float, float] | None = None  # RGB, subtracted; for pixels 0..255, or 0..1 when no std is above 1
    std: tuple[float, float, float] | None = None  # RGB, divided by
    layout: str = "NCHW"  # of its input
    bgr: bool = False  # whether its channels are blue, green, red
    size: tuple[int, int] | None = None  # height, width [pixels]; for a graph that takes any size
    output: str | None = None  # the output with logits or ids; None: the first
    latent: str | None = None  # the tensor (or node) for the driving agent; None: chosen, see `latent_choice`
    licence: str = UNKNOWN


class Signature(NamedTuple):
    """What was found out about the foreign graph."""

    height: int  # [pixels] of its input
    width: int
    dtype: str  # numpy name of its input
    output: str  # tensor with logits or ids
    ids: bool  # whether that holds ids
    channels_last: bool  # of the output
    rows: int  # resolution of the output
    columns: int


def frame_size(model: Any, foreign: Foreign, source: Path) -> tuple[int, int]:
    """Return the frame size: what the graph says, or what its owner says where the graph takes any."""
    stored = {tensor.name for tensor in model.graph.initializer}  # old files list their weights among the inputs
    names = [value.name for value in model.graph.input if value.name not in stored]
    if len(names) != 1 or model.graph.input[0].name != names[0]:
        raise BadInput(
            f"{source}: takes the inputs {', '.join(names)}, expected one (the image); export it with the image alone"
        )
    if foreign.layout not in LAYOUTS:
        raise BadInput(f"--layout {foreign.layout}: expected {' or '.join(LAYOUTS)}")
    axes = model.graph.input[0].type.tensor_type.shape.dim
    if len(axes) != 4:
        raise BadInput(f"{source}: its input has {len(axes)} axes, expected 4: a batch of images; export it like that")
    first = 2 if foreign.layout == "NCHW" else 1
    channels = axes[1 if foreign.layout == "NCHW" else 3]
    if channels.HasField("dim_value") and channels.dim_value != 3:
        other = LAYOUTS[1 - LAYOUTS.index(foreign.layout)]
        raise BadInput(
            f"{source}: its input has {channels.dim_value} channels in layout {foreign.layout}, expected 3; try --layout "
            f"{other}"
        )
    fixed = tuple(int(axis.dim_value) if axis.HasField("dim_value") else 0 for axis in axes[first : first + 2])
    if foreign.size is None:
        if not all(fixed):
            raise BadInput(f"{source}: takes images of any size; say which with --size WIDTHxHEIGHT, for example 512x256")
        return fixed[0], fixed[1]
    if any(have and have != wanted for have, wanted in zip(fixed, foreign.size, strict=True)):
        raise BadInput(f"{source}: takes images of {fixed[1]}x{fixed[0]} only; leave --size out, or export it at another size")
    return foreign.size


def open_session(source: Path) -> Any:
    """Open the original in ONNX Runtime. Raises `BadInput` for a graph that it refuses."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu", "adopting a model") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    try:
        return onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a bad graph
        reason = str(error).strip().splitlines()[0][:200]
        raise BadInput(f"{source}: ONNX Runtime cannot run this graph ({reason}); export it again") from error


def examine(session: Any, model: Any, foreign: Foreign, taxonomy: Taxonomy, height: int, width: int, source: Path) -> Signature:
    """Run the foreign graph once on a black image to see what it gives."""
    names = [value.name for value in session.get_outputs()]
    if foreign.output is not None and foreign.output not in names:
        raise BadInput(f"{source}: has no output {foreign.output!r}; it has {', '.join(names)}")
    chosen = foreign.output or names[0]
    dtypes = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
    kind = session.get_inputs()[0].type
    if kind not in dtypes:
        raise BadInput(f"{source}: takes {kind}, expected images as uint8, float or half; export it like that")
    dims = [3, height, width] if foreign.layout == "NCHW" else [height, width, 3]
    blank = np.zeros((batch_of(model) or 1, *dims), dtypes[kind])
    try:
        (result,) = session.run([chosen], {session.get_inputs()[0].name: blank})
    except Exception as error:  # as above
        reason = str(error).strip().splitlines()[0][:200]
        raise BadInput(f"{source}: fails on a {width}x{height} image ({reason}); try another --size") from error
    if not isinstance(result, np.ndarray):
        raise BadInput(f"{source}: output {chosen!r} is not a tensor; choose another with --output: {', '.join(names)}")
    what = f"{source}: output {chosen!r} is {result.dtype} {list(result.shape)}"
    if np.issubdtype(result.dtype, np.integer) or result.dtype == np.bool_:
        flat = [size for size in result.shape[1:] if size != 1] if result.ndim == 4 else list(result.shape[1:])
        if len(flat) != 2:
            raise BadInput(f"{what}, expected ids [B, h, w]; choose another with --output: {', '.join(names)}")
        return Signature(height, width, dtypes[kind], chosen, True, False, *flat)
    count = len(taxonomy)
    if result.ndim == 4 and result.shape[1] == count:
        return Signature(height, width, dtypes[kind], chosen, False, False, *result.shape[2:])
    if result.ndim == 4 and result.shape[3] == count:
        return Signature(height, width, dtypes[kind], chosen, False, True, *result.shape[1:3])
    raise BadInput(
        f"{what}, expected logits [B, {count}, h, w] of the {count} classes of taxonomy {taxonomy.name}, or ids; choose "
        f"another --taxonomy or --output ({', '.join(names)})"
    )


def normalisation(foreign: Foreign, shape: Signature, source: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return mean and std `float32 [3]` in the network's channel order, for pixels 0..255."""
    if shape.dtype == "uint8":
        if foreign.mean is not None or foreign.std is not None:
            raise BadInput(f"{source}: takes bytes, so it normalises by itself; leave --mean and --std out")
        return np.zeros(3, np.float32), np.ones(3, np.float32)
    if foreign.mean is None or foreign.std is None:
        raise BadInput(
            f"{source}: takes floats; say how they come from pixels: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 for "
            "ImageNet's, --mean 0,0,0 --std 1,1,1 for plain 0..1, --std 255,255,255 for the same on the 0..255 scale"
        )
    if min(foreign.std) <= 0:
        raise BadInput(f"--std {foreign.std}: expected three numbers above 0")
    scale = 255.0 if max(foreign.std) <= 1 else 1.0
    mean, std = (np.asarray(values, np.float32) * np.float32(scale) for values in (foreign.mean, foreign.std))
    return (mean[::-1], std[::-1]) if foreign.bgr else (mean, std)


def run_by_hand(
    session: Any,
    images: npt.NDArray[np.uint8],
    foreign: Foreign,
    shape: Signature,
    mean: npt.NDArray[np.float32],
    std: npt.NDArray[np.float32],
    batch: int | None,
) -> Segmentation:
    """Run the original as its owner would: numpy before and after."""
    values: npt.NDArray[Any] = images[..., ::-1] if foreign.bgr else images
    if shape.dtype != "uint8":
        values = ((values.astype(np.float32) - mean) / std).astype(shape.dtype)
    if foreign.layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
    size = batch or len(values)
    parts = []
    for start in range(0, len(values), size):
        part = np.ascontiguousarray(values[start : start + size])
        missing = size - len(part)
        padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append(session.run([shape.output], {session.get_inputs()[0].name: padded})[0][: len(part)])
    result = np.concatenate(parts)
    if shape.ids:
        ids = result.reshape(len(images), shape.rows, shape.columns).astype(np.uint8)
        return Segmentation(upsample_nearest(ids, shape.height, shape.width), None, None)
    logits = result.astype(np.float32)
    if shape.channels_last:
        logits = logits.transpose(0, 3, 1, 2)  # [B, h, w, N] -> [B, N, h, w]
    labels = upsample_bilinear(logits, shape.height, shape.width).argmax(1).astype(np.uint8)  # [B, N, h, w] -> [B, H, W]
    return Segmentation(labels, None, None)
