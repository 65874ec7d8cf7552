"""The gambler of gambling adversarial networks (arXiv 1908.02711): it sees a frame and its prediction, and places bets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models import MODELS
from roadworthy.train.models.activation import PReLU
from roadworthy.train.models.convolution import crop
from roadworthy.train.models.enet import Bottleneck, Downsampling, ENet, Upsampling
from roadworthy.train.models.prediction import Segmenter
from roadworthy.train.models.pspnet import PSPNet
from roadworthy.train.models.unet import UNet, UNetBody

UNET_DEPTH = 6  # down-sampling blocks of the U-Net's gambler (section 4)


class ENetGambler(nn.Module):
    """An encoder-decoder of ENet's blocks at half its widths and a third of its depth: a critic needs no more to spot errors.

    (The paper's gambler is the segmenter's architecture, for U-Net with six instead of nine down-sampling blocks.)
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        # One convolution over frame and prediction together, as two whose results are added: nothing is joined at full
        # resolution, and no gradient is made for the frame.
        self.frame = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.prediction = nn.Conv2d(classes, 16, 3, stride=2, padding=1, bias=False)
        self.initial = nn.Sequential(nn.BatchNorm2d(16), PReLU(16))
        self.down1 = Downsampling(16, 32)
        self.stage1 = Bottleneck(32)
        self.down2 = Downsampling(32, 64)
        self.stage2 = nn.Sequential(
            Bottleneck(64, dilation=2), Bottleneck(64, asymmetric=True), Bottleneck(64, dilation=4), Bottleneck(64, dilation=8)
        )
        self.up3 = Upsampling(64, 32)
        self.stage3 = Bottleneck(32, relu=True)
        self.up4 = Upsampling(32, 16)
        self.stage4 = Bottleneck(16, relu=True)
        self.scores = nn.ConvTranspose2d(16, 1, 2, stride=2)

    def forward(self, frames: Tensor, probabilities: Tensor) -> Tensor:
        """Score normalised frames `[B, 3, H, W]` and softmax predictions `[B, N, H, W]`: raw scores `[B, H, W]`."""
        half = self.initial(self.frame(frames) + self.prediction(probabilities))  # [B, 16, H/2, W/2]
        quarter, where_half = self.down1(half)  # [B, 32, H/4, W/4]
        eighth, where_quarter = self.down2(self.stage1(quarter))  # [B, 64, H/8, W/8]
        quarter = self.stage3(self.up3(self.stage2(eighth), where_quarter))  # [B, 32, H/4, W/4]
        half = self.stage4(self.up4(quarter, where_half))  # [B, 16, H/2, W/2]
        scores: Tensor = self.scores(half)  # [B, 1, H, W]
        return scores.squeeze(1)


class UNetGambler(nn.Module):
    """The U-Net with six down-sampling blocks instead of nine, as in the paper (section 4)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = UNetBody(3 + classes, 1, UNET_DEPTH)

    def forward(self, frames: Tensor, probabilities: Tensor) -> Tensor:
        """Score normalised frames `[B, 3, H, W]` and softmax predictions `[B, N, H, W]`: raw scores `[B, H, W]`."""
        maps = self.body.contract(torch.cat((frames, probabilities), 1), UNET_DEPTH)  # [B, 3 + N, H, W] -> six maps
        scores: Tensor = self.body.last(self.body.expand(maps))  # [B, 1, H, W], or an odd side's next even number
        return crop(scores, *frames.shape[2:]).squeeze(1)


class TwinGambler(nn.Module):
    """The segmenter's own architecture with one output, as the paper's gambler for PSPNet (section 4)."""

    def __init__(self, segmenter: type[Segmenter], classes: int) -> None:
        super().__init__()
        only_main = {"auxiliary": False} if issubclass(segmenter, PSPNet) else {}
        build: Callable[..., Segmenter] = segmenter
        self.network = build(1, 3 + classes, **only_main)

    def forward(self, frames: Tensor, probabilities: Tensor) -> Tensor:
        """Score normalised frames `[B, 3, H, W]` and softmax predictions `[B, N, H, W]`: raw scores `[B, H, W]`."""
        scores: Tensor = self.network(torch.cat((frames, probabilities), 1)).logits  # [B, 3 + N, H, W] -> [B, 1, H, W]
        return scores.squeeze(1)


# By the segmenter's class; all others have a twin.
GAMBLERS: Mapping[type[Segmenter], Callable[[int], nn.Module]] = {ENet: ENetGambler, UNet: UNetGambler}


def build_gambler(model: str, classes: int) -> nn.Module:
    """Build the gambler that goes with the segmenter called `model`, for `classes` classes."""
    if model not in MODELS:
        raise BadInput(f"no gambler is known for the model {model!r}; the models with one: {', '.join(MODELS)}")
    segmenter = MODELS[model]
    return GAMBLERS.get(segmenter, partial(TwinGambler, segmenter))(classes)
