"""What every segmenter gives, and the base class that says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

AUXILIARY_WEIGHT = 0.4  # of the auxiliary logits' loss beside the main one (PSPNet, arXiv 1612.01105, section 3.3)


class Prediction(NamedTuple):
    """One forward pass of a segmenter.

    `logits [B, N, H, W]` at the full input resolution; `embedding [B, E, h', w']` is the input of the last learned layer
    (what ground-matrix learning averages per class); `latent [B, C, h, w]` is the encoder map that a driving agent sees.

    `auxiliary [B, N, H, W]` are the logits of a second head in the encoder's middle, which only helps it to learn: there
    in training mode for the networks whose paper has one (PSPNet), None for all others and in evaluation mode. An
    objective adds `auxiliary_weight` times its pixel loss on them.
    """

    logits: Tensor
    embedding: Tensor
    latent: Tensor
    auxiliary: Tensor | None = None
    auxiliary_weight: float = AUXILIARY_WEIGHT

    def split(self, count: int) -> tuple[Prediction, Prediction]:
        """Return the predictions of the first `count` frames and of the others."""

        def cut(maps: Tensor) -> tuple[Tensor, Tensor]:
            first, rest = torch.split(maps, [count, len(maps) - count])
            return first, rest

        logits, embedding, latent = cut(self.logits), cut(self.embedding), cut(self.latent)
        auxiliary = (None, None) if self.auxiliary is None else cut(self.auxiliary)
        weight = self.auxiliary_weight
        first = Prediction(logits[0], embedding[0], latent[0], auxiliary[0], weight)
        return first, Prediction(logits[1], embedding[1], latent[1], auxiliary[1], weight)


class Segmenter(nn.Module, ABC):
    """A network from normalised frames to a `Prediction`.

    Subclasses set the class attributes below and take the number of classes as their first argument. Those that can be a
    gambler too (see `gambler`) take `in_channels`, the channels of what they look at.
    """

    latent_channels: int  # C of the latent map
    latent_stride: int  # frame pixels per latent cell, along each side; a last cell may be partly outside the frame
    size_multiple: int = 1  # frame height and width must be multiples of this [pixels]
    two_level: bool = False  # whether it gives auxiliary logits in training mode

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Return the latent `[B, C, ceil(H / latent_stride), ceil(W / latent_stride)]` alone, without the decoder."""

    @abstractmethod
    def forward(self, frames: Tensor) -> Prediction:
        """Segment normalised float frames `[B, 3, H, W]` (see `normalisation.normalise`)."""
