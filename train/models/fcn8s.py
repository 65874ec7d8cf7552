"""FCN-8s (Long et al., arXiv 1411.4038): VGG-16 made fully convolutional, with the scores of two finer maps added.

Differences from the published network: frames are padded to multiples of 32 and each convolution by its own half width,
where the paper pads every frame by 100 pixels and crops; the last, fixed eightfold upsampling is bilinear resizing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.train.models.convolution import crop, pad_to_multiple, resize
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.vgg import VGG16

MULTIPLE = 32  # five halvings
FC_WIDTH = 4096  # channels of the two convolutions that were VGG's fully connected layers
DROPOUT = 0.5  # probability, behind each of them


class FCN8s(Segmenter):
    """FCN-8s. Its latent is the map after the fourth pooling, `[B, 512, H/16, W/16]`: the fifth leaves a driver too little.

    Its embedding is what the deepest scores are made of, `[B, 4096, H/32, W/32]`; the learned layers behind it handle
    class scores only. As published, all scores begin at zero and the upsampling as bilinear.
    """

    latent_channels = 512
    latent_stride = 16

    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(classes)
        self.encoder = VGG16(norm=False, in_channels=in_channels)
        self.fc6 = nn.Conv2d(512, FC_WIDTH, 7, padding=3)
        self.fc7 = nn.Conv2d(FC_WIDTH, FC_WIDTH, 1)
        self.score = nn.Conv2d(FC_WIDTH, classes, 1)
        self.score4 = nn.Conv2d(512, classes, 1)
        self.score3 = nn.Conv2d(256, classes, 1)
        self.double5 = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
        self.double4 = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for scores in (self.score, self.score4, self.score3):
            nn.init.zeros_(scores.weight)
            if scores.bias is not None:
                nn.init.zeros_(scores.bias)
        for double in (self.double5, self.double4):
            with torch.no_grad():
                double.weight.copy_(bilinear_kernel(classes))

    def _fourth(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        maps, third = frames, frames
        for number in range(4):
            third = maps  # of the third pooling when the loop is over
            maps = F.max_pool2d(self.encoder.stage(number, maps), 2)  # [B, C, h, w] -> [B, C', h/2, w/2]
        return third, maps

    def _latent(self, fourth: Tensor, frames: Tensor) -> Tensor:
        height, width = frames.shape[2:]
        return crop(fourth, -(-height // self.latent_stride), -(-width // self.latent_stride))

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, 512, H/16, W/16]`, the encoder down to the latent."""
        return self._latent(self._fourth(pad_to_multiple(frames, MULTIPLE))[1], frames)

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 4096, H/32, W/32]`, latent `[B, 512, H/16, W/16]`."""
        height, width = frames.shape[2:]
        third, fourth = self._fourth(pad_to_multiple(frames, MULTIPLE))  # [B, 256, H/8, W/8], [B, 512, H/16, W/16]
        fifth = F.max_pool2d(self.encoder.stage(4, fourth), 2)  # [B, 512, H/32, W/32]
        hidden = F.dropout(F.relu(self.fc6(fifth)), DROPOUT, self.training)  # [B, 4096, H/32, W/32]
        embedding = F.dropout(F.relu(self.fc7(hidden)), DROPOUT, self.training)
        scores = self.double5(self.score(embedding)) + self.score4(fourth)  # [B, N, H/16, W/16]
        scores = self.double4(scores) + self.score3(third)  # [B, N, H/8, W/8]
        logits = crop(resize(scores, third.shape[2] * 8, third.shape[3] * 8), height, width)  # [B, N, H, W]
        return Prediction(logits, embedding, self._latent(fourth, frames))


def bilinear_kernel(classes: int) -> Tensor:
    """Return the kernel `[N, N, 4, 4]` of a transposed convolution that doubles each map bilinearly on its own."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    return torch.eye(classes)[:, :, None, None] * torch.outer(line, line)  # [N, N, 1, 1] * [4, 4]
