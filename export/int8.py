"""int8: convolutions that read eight-bit integers, with ranges measured on real frames. Needs no torch.

Static quantisation in the QDQ form that TensorRT, OpenVINO and ONNX Runtime all read: a QuantizeLinear and a DequantizeLinear
in front of every convolution, its weights stored as int8 with one scale per output channel. Symmetric int8 everywhere and no
quantised biases, because TensorRT parses nothing else. What lies between convolutions stays in float, where backends fuse it
into the convolution before. In a network without PReLU what convolutions write is quantised too: ONNX Runtime computes a
convolution in integers only then (PSPNet: 0.55 of the fp32 time instead of 1.25), and to OpenVINO it is the same.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.export.onnx_model import copy_of, import_onnx
from roadworthy.export.prelu import merge_prelu
from roadworthy.runtime.errors import BadInput, MissingExtra

QUANTISED = ("Conv",)
# Of a frame's magnitudes (averaged over the frames), what the largest integer stands for. The maximum itself is an outlier
# that costs all other values resolution: a CamVid ENet agrees with fp32 on 0.959 of the labels with it, on 0.970 with this.
PERCENTILE = 99.99
CALIBRATION_FRAMES = 32

Progress = Callable[[str, float], None]  # what is being done, fraction done 0..1


class LayerDrift(NamedTuple):
    """What one layer alone costs in int8, all others in float."""

    layer: str  # name of the node
    weights: str  # its weight's shape, e.g. 32x128x1x1
    agreement: float  # of the labels with the float model


class Quantiser:
    """A float model and the ranges of its tensors on calibration frames: makes int8 models of it with chosen layers."""

    def __init__(self, model: Any, images: npt.NDArray[np.uint8]) -> None:
        """Measure the ranges of `model` on `images` `uint8 [K, H, W, 3]`. Raises `BadInput` when nothing can be quantised."""
        self._tools = _import_tools()
        self.model = copy_of(model)
        merge_prelu(self.model)
        weights = {tensor.name for tensor in self.model.graph.initializer}
        self.layers = tuple(
            node.name for node in self.model.graph.node if node.op_type in QUANTISED and node.input[1] in weights
        )
        if any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node):
            raise BadInput("the model is quantised already; start from its fp32 export")
        if not self.layers:
            raise BadInput("the model has no convolutions with stored weights, so int8 would change nothing; export it in fp16")
        if not len(images):
            raise BadInput("int8 needs calibration frames: --calibration KIND:PATH or a folder of images")
        self._float_outputs = any(node.op_type == "PRelu" for node in self.model.graph.node)
        self._ranges = self._measure(images)

    def quantise(self, float_layers: Collection[str] = ()) -> Any:
        """Return the model with all layers in int8 but `float_layers`."""
        chosen = [layer for layer in self.layers if layer not in float_layers]
        model = copy_of(self.model)
        if not chosen:
            return model
        with _quiet():
            quantiser = self._tools.QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=self._tools.QuantType.QInt8,
                activation_qType=self._tools.QuantType.QInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=chosen,
                nodes_to_exclude=[],
                op_types_to_quantize=list(QUANTISED),
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    "OpTypesToExcludeOutputQuantization": list(QUANTISED) if self._float_outputs else [],
                },
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()
        quantised = quantiser.model.model
        quantised.producer_name, quantised.producer_version = self.model.producer_name, self.model.producer_version
        return quantised

    def shape_of(self, layer: str) -> str:
        """Return the shape of a layer's weights, in words."""
        node = next(node for node in self.model.graph.node if node.name == layer)
        dims = next(tensor.dims for tensor in self.model.graph.initializer if tensor.name == node.input[1])
        return "x".join(map(str, dims))

    def _measure(self, images: npt.NDArray[np.uint8]) -> Any:
        """Run the frames one by one and find the range of every tensor that is to be quantised.

        onnxruntime's own calibrator with the same percentile takes seven times as long: it sorts everything into histograms.
        """
        import onnxruntime

        onnx = import_onnx("calibrating")
        chosen = set(self.layers)
        layers = [node for node in self.model.graph.node if node.name in chosen]
        names = [node.input[0] for node in layers] + ([] if self._float_outputs else [node.output[0] for node in layers])
        names = list(dict.fromkeys(names))
        probe = copy_of(self.model)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"  # from a file: a network may be larger than one protobuf message
            onnx.save(probe, str(path))
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        limits = np.zeros(len(names))
        for image in images:
            for place, values in enumerate(session.run(names, {self.model.graph.input[0].name: image[None]})):
                limits[place] += _magnitude(values) / len(images)
        ranges = {name: (np.float32(-limit), np.float32(limit)) for name, limit in zip(names, limits, strict=True)}
        return self._tools.TensorsData(self._tools.CalibrationMethod.MinMax, ranges)


def _magnitude(values: npt.NDArray[np.float32]) -> float:
    """Return the PERCENTILE of the magnitudes of a tensor, or the largest where that is zero."""
    magnitudes = np.abs(values).ravel()
    rank = min(len(magnitudes) - 1, int(len(magnitudes) * PERCENTILE / 100))
    value = float(np.partition(magnitudes, rank)[rank])
    return value or float(magnitudes.max())


def layer_drifts(quantiser: Quantiser, agreement: Callable[[Any], float], progress: Progress | None = None) -> list[LayerDrift]:
    """Put one layer after the other into int8 alone and measure; the most sensitive layer comes first."""
    found = []
    for done, layer in enumerate(quantiser.layers, 1):
        others = set(quantiser.layers) - {layer}
        found.append(LayerDrift(layer, quantiser.shape_of(layer), agreement(quantiser.quantise(others))))
        if progress is not None:
            progress(f"measuring layer {done} of {len(quantiser.layers)}", done / len(quantiser.layers))
    return sorted(found, key=lambda drift: drift.agreement)


def choose_float_layers(
    quantiser: Quantiser, drifts: Sequence[LayerDrift], faithful: Callable[[Any], bool], progress: Progress | None = None
) -> tuple[Any, tuple[str, ...]]:
    """Leave the most sensitive layers in float, doubling their number until `faithful` says yes.

    Returns the model and the layers left in float. Raises `BadInput` when even half of the layers in float are not enough.
    """
    count = 1
    while count <= max(1, len(drifts) // 2):
        layers = tuple(drift.layer for drift in drifts[:count])
        if progress is not None:
            progress(f"{count} of {len(drifts)} layers in float", 0.5)
        model = quantiser.quantise(layers)
        if faithful(model):
            return model, layers
        count *= 2
    raise BadInput(
        f"with half of its {len(drifts)} layers in float the int8 model is still not faithful; give more and more varied "
        "--calibration frames, lower --min-agreement, or export in fp16"
    )


class _Tools(NamedTuple):
    """What is used of onnxruntime.quantization."""

    QDQQuantizer: Any
    QuantType: Any
    CalibrationMethod: Any
    TensorsData: Any


def _import_tools() -> _Tools:
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    except ImportError as error:
        raise MissingExtra(error.name or "onnxruntime", "export", "exporting in int8") from error
    return _Tools(QDQQuantizer, QuantType, CalibrationMethod, TensorsData)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's log lines and prints off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
