"""What people run a trained network with by hand: torch, torch.compile, ONNX Runtime, OpenVINO. Each as a callable on frames.

All give labels `uint8 [B, H, W]` for frames `uint8 [B, H, W, 3]`. The graphs are torch's own export, without our rewriting.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from roadworthy.export.graph import FrameToLabels
from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB

Frames = npt.NDArray[np.uint8]
Call = Callable[[Frames], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class PeerContext:
    """What a peer is built from."""

    network: nn.Module  # a trained segmenter of `train.models`, in evaluation mode on the CPU
    frames: Frames  # [B, H, W, 3] as they will come
    threads: int
    folder: Path  # for the files that a peer needs


def _eager(context: PeerContext) -> Call:
    """Take torch as it is trained, in the memory order that is fastest on the CPU."""
    torch.set_num_threads(context.threads)
    module = FrameToLabels(_channels_last(context.network), ("labels",)).eval()
    return lambda frames: _labels(module(torch.from_numpy(frames)))


def _compiled(context: PeerContext) -> Call:
    """Take torch.compile of the same; the first call compiles, which takes a minute."""
    torch.set_num_threads(context.threads)
    module = torch.compile(FrameToLabels(_channels_last(context.network), ("labels",)).eval())
    return lambda frames: _labels(module(torch.from_numpy(frames)))


def _onnxruntime_numpy(context: PeerContext) -> Call:
    """What most people write: the bare network in ONNX Runtime, normalisation and argmax in numpy."""

    class Logits(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = context.network(images).logits
            return logits

    batch, height, width, _ = context.frames.shape
    path = context.folder / "network.onnx"
    _export(Logits().eval(), torch.zeros((batch, 3, height, width)), path)
    session = _session(path, context.threads)
    name = session.get_inputs()[0].name
    mean, std = np.asarray(MEAN_RGB, np.float32), np.asarray(STD_RGB, np.float32)

    def call(frames: Frames) -> npt.NDArray[np.uint8]:
        images = ((frames.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
        logits = session.run(None, {name: np.ascontiguousarray(images)})[0]
        labels: npt.NDArray[np.uint8] = logits.argmax(1).astype(np.uint8)  # [B, N, H, W] -> [B, H, W]
        return labels

    return call


def _onnxruntime(context: PeerContext) -> Call:
    """ONNX Runtime with pre- and post-processing in the graph, its settings left alone but for the threads."""
    session = _session(_whole_graph(context), context.threads)
    name = session.get_inputs()[0].name

    def call(frames: Frames) -> npt.NDArray[np.uint8]:
        labels: npt.NDArray[np.uint8] = session.run(None, {name: frames})[0]
        return labels

    return call


def _openvino(context: PeerContext) -> Call:
    """OpenVINO with pre- and post-processing in the graph, in float32, tuned for latency."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "cpu", "the peer openvino") from error
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(context.threads),
    }
    request = openvino.Core().compile_model(str(_whole_graph(context)), "CPU", options).create_infer_request()

    def call(frames: Frames) -> npt.NDArray[np.uint8]:
        request.infer([frames], share_inputs=True, share_outputs=True)
        labels: npt.NDArray[np.uint8] = request.get_output_tensor(0).data.copy()
        return labels

    return call


# Name -> (how to build it, what it is, in words)
PEERS: Mapping[str, tuple[Callable[[PeerContext], Call], str]] = {
    "torch": (_eager, "torch eager, channels last"),
    "torch-compile": (_compiled, "torch.compile"),
    "ort": (_onnxruntime_numpy, "plain ONNX Runtime, numpy before and after"),
    "ort-graph": (_onnxruntime, "ONNX Runtime by hand, all in the graph"),
    "openvino": (_openvino, "OpenVINO by hand, all in the graph"),
}


def build_peers(names: Sequence[str], context: PeerContext) -> dict[str, Call]:
    """Build the peers called `names`; the result keeps the names. Raises `BadInput` for an unknown one."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise BadInput(f"unknown peer {unknown[0]!r}; known: {', '.join(PEERS)}")
    return {name: PEERS[name][0](context) for name in names}


def _channels_last(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _labels(outputs: tuple[Tensor, ...]) -> npt.NDArray[np.uint8]:
    labels: npt.NDArray[np.uint8] = outputs[0].numpy()
    return labels


def _whole_graph(context: PeerContext) -> Path:
    """Export frames to labels as torch does it, once."""
    path = context.folder / "whole.onnx"
    if not path.exists():
        example = torch.zeros(context.frames.shape, dtype=torch.uint8)
        _export(FrameToLabels(context.network, ("labels",)).eval(), example, path)
    return path


def _export(module: nn.Module, example: Tensor, path: Path) -> None:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(module, (example,), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    program.save(str(path))


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu", "the peers ort and ort-graph") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
