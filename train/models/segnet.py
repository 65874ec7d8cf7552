"""SegNet (Badrinarayanan et al., arXiv 1511.00561): VGG-16 with batch normalisation, and its mirror that unpools.

As published (SegNet, not SegNet-Basic): thirteen convolutions down and thirteen up, five poolings whose positions the decoder
uses, no dropout. Frames whose sides are no multiples of 32 are padded, and the result is cropped.
"""

from __future__ import annotations

from torch import Tensor, nn

from roadworthy.train.models.convolution import conv_norm_relu, crop, initialise, pad_to_multiple
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.unpooling import max_pool, max_unpool
from roadworthy.train.models.vgg import STAGES, VGG16

MULTIPLE = 32  # five halvings


class SegNet(Segmenter):
    """SegNet. Its latent is the map after the fourth pooling, `[B, 512, H/16, W/16]`: the fifth leaves a driver too little."""

    latent_channels = 512
    latent_stride = 16

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        decoders = []
        for number in reversed(range(len(STAGES))):
            widths = STAGES[number]
            # The last convolution of a stage gives the width that the stage before it was pooled from; in the first stage
            # it is the classifier.
            outputs = [*widths[:-1], STAGES[number - 1][-1]] if number else [*widths[:-1]]
            inputs = [widths[-1], *outputs[:-1]]
            layers = [conv_norm_relu(before, after, 3) for before, after in zip(inputs, outputs, strict=True)]
            decoders.append(nn.Sequential(*layers))
        self.decoder = nn.ModuleList(decoders)  # deepest stage first
        initialise(self.decoder)
        self.classifier = nn.Conv2d(STAGES[0][0], classes, 3, padding=1)
        self.encoder = VGG16(norm=True, in_channels=in_channels)

    def _encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the map after the fourth pooling and the places of the maxima so far."""
        maps, places = frames, []
        for number in range(4):
            maps, where = max_pool(self.encoder.stage(number, maps))  # [B, C, h, w] -> [B, C', h/2, w/2]
            places.append(where)
        return maps, places

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, 512, H/16, W/16]`, the encoder alone."""
        return self._latent(self._encode(pad_to_multiple(frames, MULTIPLE))[0], frames)

    def _latent(self, maps: Tensor, frames: Tensor) -> Tensor:
        height, width = frames.shape[2:]
        return crop(maps, -(-height // self.latent_stride), -(-width // self.latent_stride))

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 64, H, W]`, latent `[B, 512, H/16, W/16]`."""
        height, width = frames.shape[2:]
        fourth, places = self._encode(pad_to_multiple(frames, MULTIPLE))  # [B, 512, H/16, W/16]
        maps, where = max_pool(self.encoder.stage(4, fourth))  # [B, 512, H/32, W/32]
        for stage, place in zip(self.decoder, (where, *reversed(places)), strict=True):
            maps = stage(max_unpool(maps, place))  # [B, C, h, w] -> [B, C', 2h, 2w]
        logits = crop(self.classifier(maps), height, width)  # [B, 64, H, W] -> [B, N, H, W]
        return Prediction(logits, crop(maps, height, width), self._latent(fourth, frames))
