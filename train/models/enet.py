"""ENet (Paszke et al., arXiv 1606.02147): a real-time segmenter of about 0.36 M parameters.

As in the authors' network: per-channel PReLU in the encoder and ReLU in the decoder, no biases next to batch
normalisation, a bottleneck's inner width is a quarter of its output, dropout in the encoder only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.train.models.activation import PReLU
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.unpooling import max_pool, max_unpool

REDUCTION = 4  # a bottleneck's inner width is its output width divided by this
EARLY_DROPOUT = 0.01  # probability, stage 1
DROPOUT = 0.1  # probability, stages 2 and 3


def _activation(channels: int, relu: bool) -> nn.Module:
    return nn.ReLU(inplace=True) if relu else PReLU(channels)


def _normalised(convolution: nn.Module, channels: int, relu: bool) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(channels), _activation(channels, relu)]


class InitialBlock(nn.Module):
    """Halve the frame: a strided convolution beside a max pooling of the input, joined (paper, figure 2a)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, out, H/2, W/2]`."""
        joined = torch.cat((self.convolution(x), F.max_pool2d(x, 2, stride=2)), 1)
        activated: Tensor = self.activation(self.norm(joined))
        return activated


class Bottleneck(nn.Module):
    """A residual block at one resolution: 1x1 down, one convolution (regular, dilated or asymmetric), 1x1 up (figure 2b)."""

    def __init__(
        self, channels: int, *, dilation: int = 1, asymmetric: bool = False, dropout: float = 0.0, relu: bool = False
    ) -> None:
        super().__init__()
        inner = channels // REDUCTION
        if asymmetric:  # a 5x5 convolution as 5x1 then 1x5
            middle = _normalised(nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False), inner, relu)
            middle += _normalised(nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False), inner, relu)
        else:
            convolution = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
            middle = _normalised(convolution, inner, relu)
        self.residual = nn.Sequential(
            *_normalised(nn.Conv2d(channels, inner, 1, bias=False), inner, relu),
            *middle,
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Dropout2d(dropout),
        )
        self.activation = _activation(channels, relu)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` -> the same shape."""
        activated: Tensor = self.activation(x + self.residual(x))
        return activated


class Downsampling(nn.Module):
    """Halve the map and widen it; the main branch is a max pooling whose positions the decoder needs."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        inner = out_channels // REDUCTION
        self.residual = nn.Sequential(
            *_normalised(nn.Conv2d(in_channels, inner, 2, stride=2, bias=False), inner, relu=False),
            *_normalised(nn.Conv2d(inner, inner, 3, padding=1, bias=False), inner, relu=False),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Dropout2d(dropout),
        )
        self.activation = PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, C, h, w]` -> `[B, out, h/2, w/2]` and the positions of the maxima `[B, C, h/2, w/2]`."""
        residual = self.residual(x)
        pooled, where = max_pool(x)
        widening = residual.shape[1] - pooled.shape[1]
        main = F.pad(pooled, (0, 0, 0, 0, 0, widening))  # zero channels up to the residual's width
        return self.activation(main + residual), where


class Upsampling(nn.Module):
    """Double the map and narrow it; the main branch puts its values where the encoder found its maxima."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = out_channels // REDUCTION
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.residual = nn.Sequential(
            *_normalised(nn.Conv2d(in_channels, inner, 1, bias=False), inner, relu=True),
            *_normalised(
                nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False), inner, relu=True
            ),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor, where: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, out, 2h, 2w]`."""
        return F.relu(max_unpool(self.main(x), where) + self.residual(x))


def _context_stage() -> list[nn.Module]:
    """Return the eight bottlenecks of stage 2, which stage 3 repeats: growing dilation between asymmetric ones."""
    width = ENet.latent_channels
    return [
        Bottleneck(width, dropout=DROPOUT),
        Bottleneck(width, dropout=DROPOUT, dilation=2),
        Bottleneck(width, dropout=DROPOUT, asymmetric=True),
        Bottleneck(width, dropout=DROPOUT, dilation=4),
        Bottleneck(width, dropout=DROPOUT),
        Bottleneck(width, dropout=DROPOUT, dilation=8),
        Bottleneck(width, dropout=DROPOUT, asymmetric=True),
        Bottleneck(width, dropout=DROPOUT, dilation=16),
    ]


class ENet(Segmenter):
    """ENet as in table 1 of the paper. Its latent is the encoder's output, `[B, 128, H/8, W/8]`."""

    latent_channels = 128
    latent_stride = 8
    size_multiple = 8

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.initial = InitialBlock(3, 16)
        self.down1 = Downsampling(16, 64, dropout=EARLY_DROPOUT)
        self.stage1 = nn.Sequential(*[Bottleneck(64, dropout=EARLY_DROPOUT) for _ in range(4)])
        self.down2 = Downsampling(64, 128, dropout=DROPOUT)
        self.stage2 = nn.Sequential(*_context_stage())
        self.stage3 = nn.Sequential(*_context_stage())
        self.up4 = Upsampling(128, 64)
        self.stage4 = nn.Sequential(Bottleneck(64, relu=True), Bottleneck(64, relu=True))
        self.up5 = Upsampling(64, 16)
        self.stage5 = Bottleneck(16, relu=True)
        self.classifier = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def _encode(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.initial(frames)  # [B, 16, H/2, W/2]
        quarter, where_half = self.down1(half)  # [B, 64, H/4, W/4]
        eighth, where_quarter = self.down2(self.stage1(quarter))  # [B, 128, H/8, W/8]
        return self.stage3(self.stage2(eighth)), where_half, where_quarter

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, 128, H/8, W/8]`, the encoder alone."""
        return self._encode(frames)[0]

    def forward(self, frames: Tensor) -> Prediction:
        """`[B, 3, H, W]` -> logits `[B, N, H, W]`, embedding `[B, 16, H/2, W/2]`, latent `[B, 128, H/8, W/8]`."""
        latent, where_half, where_quarter = self._encode(frames)
        quarter = self.stage4(self.up4(latent, where_quarter))  # [B, 64, H/4, W/4]
        half = self.stage5(self.up5(quarter, where_half))  # [B, 16, H/2, W/2]
        return Prediction(logits=self.classifier(half), embedding=half, latent=latent)
