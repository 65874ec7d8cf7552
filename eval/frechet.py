"""Fréchet inception distance (Heusel et al., arXiv 1706.08500, eq. 6), with the Inception network from a user's ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput, MissingExtra

Floats = npt.NDArray[np.float64]

AT_ONCE = 16  # pictures through the network in one go


def frechet_distance(left: Floats, right: Floats) -> float:
    """Return ‖m - m'‖² + tr(C + C' - 2 (C C')^½) of the Gaussians fitted to features `float64 [M, D]` and `[M', D]`.

    The trace of the root is that of (C^½ C' C^½)^½, which is symmetric, so no complex root is needed. Raises `BadInput` for
    fewer than two pictures or different features.
    """
    for features in (left, right):
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != left.shape[1]:
            raise BadInput(f"features of {left.shape} and {right.shape}, expected [M, D] of at least 2 pictures, the same D")
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (left, right)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # C^½ [D, D]
    inner = root @ covariances[1] @ root
    trace = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(0)).sum()
    shift = left.mean(0) - right.mean(0)
    return float(shift @ shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * trace)


class Inception:
    """Features of pictures by an ONNX network from `float32 [B, 3, H, W]` in -1..1 to `[B, D]` or `[B, D, 1, 1]`.

    FID's own is the Inception-v3 of 2015-12-05, 299x299, whose last pooling gives 2048 features. It cannot be shipped: the
    weights are 90 MB. Scores by different files cannot be compared, so the result says which file it was.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file. Raises `BadInput` where there is none, or it takes or gives something else."""
        if path is None or not path.is_file():
            what = "no Inception network was given" if path is None else f"{path}: no such file"
            raise BadInput(
                f"{what}; the Fréchet inception distance needs one: --inception FILE.onnx, FID's Inception-v3 exported from "
                "float32 [B, 3, 299, 299] in -1..1 to its [B, 2048] pooled features"
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("onnxruntime", "cpu", "The Fréchet inception distance") from error
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
            raise BadInput(f"{path}: ONNX Runtime cannot open it ({error})") from error
        (entry, *more), outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(entry.shape)
        sides = shape[2:]
        fits = not more and entry.type == "tensor(float)" and len(shape) == 4 and shape[1] == 3
        if not fits or not all(isinstance(side, int) for side in sides):
            raise BadInput(
                f"{path}: takes {entry.type} {shape}, expected one float32 [B, 3, H, W] of fixed sides, for instance 299x299"
            )
        self.path, self.size = path, (int(sides[0]), int(sides[1]))
        self._input, self._output = entry.name, outputs[0].name

    def features(self, pictures: npt.NDArray[np.uint8]) -> Floats:
        """Return `float64 [M, D]` of RGB pictures `uint8 [M, H, W, 3]`, resized bilinearly to what the network takes."""
        height, width = self.size
        found = []
        for start in range(0, len(pictures), AT_ONCE):
            sized = [
                np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.BILINEAR))
                for each in pictures[start : start + AT_ONCE]
            ]
            values = np.stack(sized).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1  # [B, H, W, 3] -> [B, 3, H, W]
            (output,) = self._session.run([self._output], {self._input: values})
            if output.ndim < 2 or output.size != output.shape[0] * output.shape[1]:
                raise BadInput(f"{self.path}: gives {output.shape} for {values.shape}, expected [B, D] features")
            found.append(output.reshape(len(values), -1))  # [B, D, 1, 1] -> [B, D]
        return np.concatenate(found).astype(np.float64)
