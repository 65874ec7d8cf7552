"""Facts of the 70x70 PatchGAN, against pix2pix."""

from __future__ import annotations

import pytest
import torch

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.patchgan import PatchGan


def test_it_has_the_size_of_pix2pixs_discriminator() -> None:
    # 2,768,705 is what the authors' implementation counts for three channels in and three out.
    assert sum(parameter.numel() for parameter in PatchGan(6).parameters()) == 2_768_705


def test_each_logit_sees_70_by_70_pixels() -> None:
    torch.manual_seed(0)
    critic = PatchGan(4).eval()
    pairs = torch.randn(1, 4, 256, 256, requires_grad=True)
    logits = critic(pairs)
    assert logits.shape == (1, 30, 30)  # as in the paper: 30x30 patches of a 256x256 image
    logits[0, 15, 15].backward()
    assert pairs.grad is not None
    seen = pairs.grad.abs().sum((0, 1)) > 0  # [256, 256]
    for side in (0, 1):
        positions = seen.any(side).nonzero()
        assert int(positions.max() - positions.min()) + 1 == 70


def test_the_embedding_is_the_input_of_the_last_layer() -> None:
    critic = PatchGan(5).eval()
    pairs = torch.randn(2, 5, 32, 64)
    embedding = critic(pairs, embed=True)
    assert embedding.shape == (2, 512, 3, 7)
    assert torch.equal(critic.classifier(embedding).squeeze(1), critic(pairs))


def test_the_smallest_frame_leaves_one_patch_and_a_smaller_one_is_refused() -> None:
    critic = PatchGan(3).eval()
    assert critic(torch.zeros(1, 3, 24, 31)).shape == (1, 1, 1)
    with pytest.raises(BadInput, match="at least 24x24"):
        critic(torch.zeros(1, 3, 23, 64))
