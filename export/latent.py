"""Cutting the decoder off a model file: the encoder-only model that a driving agent runs. Needs no torch and no run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.errors import BadInput, MissingExtra, RoadworthyError
from roadworthy.runtime.files import atomic_path
from roadworthy.runtime.segmenter import load

TOLERANCE = 1e-5  # of the latent's largest magnitude: the same operators, but a backend may fuse them otherwise


def cut_latent(model: Path, output: Path, *, frames: npt.NDArray[np.uint8] | None = None) -> None:
    """Write the part of `model` that computes its latent to `output`, with the same metadata.

    This takes a moment where exporting the run again takes many seconds, and gives the same graph. The result is compared
    with the whole model on `frames` `uint8 [B, H, W, 3]` (default: one of random bytes; the whole model was checked on real
    ones). Raises `BadInput` for a model without a latent output; then, and when the two differ, nothing is written.
    """
    try:
        import onnx
        from onnx.utils import Extractor
    except ImportError as error:
        raise MissingExtra("onnx", "export", "cutting a model file") from error
    whole = load(model, device="cpu", backend="onnxruntime")
    if whole.latent_shape is None:
        raise BadInput(
            f"{model}: has the outputs {', '.join(whole.outputs)}, expected latent among them; export it with latent"
        )
    if output.suffix != ".onnx" or output.resolve() == model.resolve():
        raise BadInput(f"{output}: expected a new name that ends in .onnx")
    if frames is None:
        shape = (1, whole.metadata.height, whole.metadata.width, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = onnx.load(str(model))
    encoder = Extractor(source).extract_model([source.graph.input[0].name], ["latent"])
    del encoder.metadata_props[:]
    encoder.metadata_props.extend(source.metadata_props)
    encoder.producer_name, encoder.producer_version = source.producer_name, source.producer_version
    with atomic_path(output) as temporary:
        onnx.checker.check_model(encoder, full_check=True)
        onnx.save(encoder, str(temporary))
        expected, actual = whole(frames).latent, load(temporary, device="cpu", backend="onnxruntime")(frames).latent
        if expected is None or actual is None or not np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max():
            raise RoadworthyError(f"{model}: its encoder alone gives another latent than the whole model; export the run again")
