"""PReLU in the form that inference backends run fastest. Same function, other operators."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SplitPReLU(nn.Module):
    """PReLU with one slope per channel, as two scalings by channel, a ReLU and a sum.

    For slopes a <= 1: prelu(x) = relu((1 - a) x) + a x. For x > 0 that is (1 - a) x + a x = x, for x < 0 it is a x.
    Where some slope is above 1 the scaling moves behind the ReLU: (1 - a) relu(x) + a x.

    The scalings are depthwise 1x1 convolutions, because ONNX Runtime fuses those with the ReLU and the sum and keeps its
    blocked channel layout from one convolution to the next; its PRelu kernel does neither, and took 4 of ENet's 7 ms of
    encoder (128x256, two cores), this form 0.5. OpenVINO, which fuses PRelu itself, is about 15 % slower with it, so the
    runtime puts the operator back where it opens an ONNX file with OpenVINO (`runtime.backends.openvino_prelu`).
    """

    rising: Tensor
    slope: Tensor

    def __init__(self, prelu: nn.PReLU) -> None:
        """Take over the slopes of `prelu`."""
        super().__init__()
        slope = prelu.weight.detach().reshape(-1, 1, 1, 1)  # [C] -> [C, 1, 1, 1], a depthwise kernel
        self.register_buffer("slope", slope.clone())
        self.register_buffer("rising", 1 - slope)
        self.scale_first = bool((slope <= 1).all())

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape."""
        channels = len(self.slope)
        if self.scale_first:
            return F.relu(F.conv2d(x, self.rising, groups=channels)) + F.conv2d(x, self.slope, groups=channels)
        return F.conv2d(F.relu(x), self.rising, groups=channels) + F.conv2d(x, self.slope, groups=channels)


def with_split_prelu(network: nn.Module) -> nn.Module:
    """Return a copy of `network` in which every PReLU has its fast form; the original is left alone."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PReLU):
                setattr(parent, name, _fast_form(child))
    return network.eval()


def _fast_form(prelu: nn.PReLU) -> nn.Module:
    """One shared slope is a leaky ReLU, which every backend fuses into the convolution before it."""
    if prelu.num_parameters == 1:
        return nn.LeakyReLU(float(prelu.weight.detach()))
    with torch.no_grad():
        return SplitPReLU(prelu)
