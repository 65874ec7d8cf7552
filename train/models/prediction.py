"""What every segmenter gives, and the base class that says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Prediction(NamedTuple):
    """One forward pass of a segmenter.

    `logits [B, N, H, W]` at the full input resolution; `embedding [B, E, h', w']` is the input of the last learned layer
    (what ground-matrix learning averages per class); `latent [B, C, h, w]` is the encoder map that a driving agent sees.
    """

    logits: Tensor
    embedding: Tensor
    latent: Tensor


class Segmenter(nn.Module, ABC):
    """A network from normalised frames to a `Prediction`.

    Subclasses set the class attributes below and take the number of classes as their first argument.
    """

    latent_channels: int  # C of the latent map
    latent_stride: int  # frame pixels per latent cell, along each side
    size_multiple: int  # frame height and width must be multiples of this [pixels]

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Return the latent `[B, C, H / latent_stride, W / latent_stride]` alone, without running the decoder."""

    @abstractmethod
    def forward(self, frames: Tensor) -> Prediction:
        """Segment normalised float frames `[B, 3, H, W]` (see `normalisation.normalise`)."""
