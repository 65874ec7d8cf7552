"""The whole path from a camera frame to label ids as one network, so that no host code stands between frame and labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import ALL_OUTPUTS, OUTPUTS
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB, normalise


class FrameToLabels(nn.Module):
    """uint8 frames `[B, H, W, 3]` -> the chosen ones of labels, confidence, latent and logits, in that order.

    labels `uint8 [B, H, W]`, confidence `float32 [B, H, W]` (largest softmax probability), latent `float32 [B, C, h, w]`,
    logits `float32 [B, N, H, W]`.
    With the latent alone the decoder is never run, so an export of it leaves the decoder out.
    """

    def __init__(self, network: nn.Module, outputs: Sequence[str] = OUTPUTS) -> None:
        """Wrap a segmenter of `train.models`; raises `BadInput` for an unknown, repeated or empty choice of outputs."""
        super().__init__()
        if not outputs or set(outputs) - set(ALL_OUTPUTS) or len(set(outputs)) != len(outputs):
            raise BadInput(
                f"outputs are {', '.join(outputs) or 'empty'}; expected one or more of {', '.join(ALL_OUTPUTS)}, each once"
            )
        self.network = network
        self.outputs = tuple(name for name in ALL_OUTPUTS if name in outputs)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `self.outputs`."""
        exporting = torch.compiler.is_exporting()
        images = normalise_planes(frames) if exporting else normalise(frames)  # uint8 [B, H, W, 3] -> float32 [B, 3, H, W]
        if self.outputs == ("latent",):
            return (self.network.encode(images),)  # type: ignore[operator]  # nn.Module attributes are untyped
        prediction = self.network(images)
        logits = prediction.logits  # [B, N, H, W]
        # Three axes from here on. OpenVINO hands the logits on with the channels innermost, where reducing over them takes
        # three to twelve times as long; a flattened map has planes again (ENet, 480x360: 38 -> 26 ms for the whole graph).
        flat, side = logits.flatten(2), logits.shape[2:]  # [B, N, H, W] -> [B, N, H W]
        results = {"latent": prediction.latent, "logits": logits}
        if "labels" in self.outputs:
            # The cast to uint8 comes last: TensorRT allows that type only at the borders of a graph.
            results["labels"] = flat.argmax(1).reshape(-1, *side).byte()  # [B, N, H W] -> [B, H, W]
        if "confidence" in self.outputs:
            results["confidence"] = largest_probability(flat).reshape(-1, *side)  # [B, H W] -> [B, H, W]
        return tuple(results[name] for name in self.outputs)


def normalise_planes(frames: Tensor) -> Tensor:
    """`train.models.normalisation.normalise` with the arithmetic after the permute: whole planes by one number each.

    Backends broadcast three numbers along the innermost axis pixel by pixel, which takes several times as long. The cast
    stays before the permute, because TensorRT refuses to transpose uint8.
    """
    mean, std = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    planes = frames.to(torch.float32).permute(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
    return planes * (1 / std).reshape(3, 1, 1) - (mean / std).reshape(3, 1, 1)


def largest_probability(logits: Tensor) -> Tensor:
    """Return the largest softmax probability per pixel, `[B, N, ...]` -> `[B, ...]`, without the softmax.

    max softmax = exp(max) / sum exp = 1 / sum exp(logit - max). In ONNX Runtime this takes a fifth of the time of
    Softmax + ReduceMax over the channels and a third of exp(max - logsumexp) (20 classes, 480x360, two cores).
    """
    return (logits - logits.amax(1, keepdim=True)).exp().sum(1).reciprocal()
