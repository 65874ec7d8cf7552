"""The frame-to-labels network, before any export."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from roadworthy.export.graph import FrameToLabels, largest_probability, normalise_planes
from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.normalisation import normalise


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e4))
def test_largest_probability_is_that_of_softmax(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 5, 3, 4), generator=generator) * scale  # up to values whose exponential overflows
    torch.testing.assert_close(largest_probability(logits), logits.softmax(1).amax(1), rtol=1e-5, atol=1e-6)


def test_both_normalisations_are_the_same_function() -> None:
    frames = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    torch.testing.assert_close(normalise_planes(frames), normalise(frames), rtol=1e-6, atol=1e-6)


def test_outputs(network: nn.Module, frames: np.ndarray) -> None:
    batch = torch.from_numpy(frames[:2])
    with torch.no_grad():
        labels, confidence, latent = FrameToLabels(network)(batch)
        (alone,) = FrameToLabels(network, ("latent",))(batch)
        reordered = FrameToLabels(network, ("latent", "labels"))(batch)
    assert (labels.dtype, labels.shape) == (torch.uint8, (2, 16, 32))
    assert (confidence.dtype, confidence.shape) == (torch.float32, (2, 16, 32))
    assert latent.shape == (2, 8, 4, 8)
    assert torch.equal(alone, latent)
    assert torch.equal(reordered[0], labels)  # always in the order labels, confidence, latent
    assert len(labels.unique()) > 2  # the test network really tells pixels apart


def test_the_decoder_is_not_run_for_the_latent_alone(network: nn.Module, frames: np.ndarray) -> None:
    network.decoder = None  # type: ignore[assignment]
    FrameToLabels(network, ("latent",))(torch.from_numpy(frames))
    with pytest.raises(TypeError):
        FrameToLabels(network)(torch.from_numpy(frames))


@pytest.mark.parametrize("outputs", [(), ("scores",), ("labels", "labels")])
def test_impossible_outputs(network: nn.Module, outputs: Sequence[str]) -> None:
    with pytest.raises(BadInput, match="expected one or more of labels, confidence, latent"):
        FrameToLabels(network, outputs)
