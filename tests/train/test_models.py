"""Facts of the networks: sizes, shapes, and the index-free unpooling that export relies on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.activation import PReLU
from roadworthy.train.models.enet import ENet
from roadworthy.train.models.gambler import GAMBLERS, build_gambler
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB, normalise
from roadworthy.train.models.unpooling import max_pool, max_pool_position, max_unpool, max_unpool_position


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 96), (128, 256)])
def test_every_segmenter_keeps_the_contract_of_shapes(name: str, size: tuple[int, int]) -> None:
    model = build_model(name, 7).eval()
    height, width = size
    with torch.no_grad():
        frames = torch.randn(2, 3, height, width)
        prediction = model(frames)
        latent = model.encode(frames)
    assert prediction.logits.shape == (2, 7, height, width)
    stride = model.latent_stride
    assert prediction.latent.shape == (2, model.latent_channels, height // stride, width // stride)
    assert prediction.embedding.shape[0] == 2
    assert torch.equal(latent, prediction.latent)


def test_enets_latent_is_128_maps_of_16_by_32_for_a_128_by_256_frame() -> None:
    with torch.no_grad():
        assert ENet(19).eval().encode(torch.zeros(1, 3, 128, 256)).shape == (1, 128, 16, 32)


def test_enet_has_the_papers_size() -> None:
    # Table III of the ENet paper: 0.37 M parameters; implementations count 0.35 to 0.37 M, by their activations.
    parameters = sum(parameter.numel() for parameter in ENet(19).parameters())
    assert 0.355e6 < parameters < 0.37e6


def test_enet_has_the_papers_bottlenecks() -> None:
    dilations = sorted(m.dilation[0] for m in ENet(19).modules() if isinstance(m, torch.nn.Conv2d) and m.dilation[0] > 1)
    asymmetric = [m for m in ENet(19).modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (5, 1)]
    assert dilations == [2, 2, 4, 4, 8, 8, 16, 16]
    assert len(asymmetric) == 4


@pytest.mark.parametrize("name", GAMBLERS)
def test_every_gambler_scores_each_pixel_once_and_is_lighter_than_its_segmenter(name: str) -> None:
    gambler = build_gambler(name, 7).eval()
    scores = gambler(torch.randn(2, 3, 64, 96), torch.softmax(torch.randn(2, 7, 64, 96), 1))
    assert scores.shape == (2, 64, 96)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (gambler, build_model(name, 7))]
    assert sizes[0] < sizes[1]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="unknown model 'enett'; known: enet"):
        build_model("enett", 3)
    with pytest.raises(BadInput, match="no gambler"):
        build_gambler("enett", 3)


@pytest.mark.parametrize("levels", [3, 1000])  # three levels: almost every window has a tie
def test_both_forms_of_unpooling_are_torchs_to_the_bit(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(0, levels, (2, 5, 8, 12), generator=generator).float()
    values = torch.randn(2, 5, 4, 6, generator=generator)
    pooled, indices = F.max_pool2d(features, 2, stride=2, return_indices=True)
    expected = F.max_unpool2d(values, indices, [2, 2], stride=[2, 2])
    for pool, unpool in ((max_pool, max_unpool), (max_pool_position, max_unpool_position)):
        maxima, where = pool(features)
        assert torch.equal(maxima, pooled)
        assert torch.equal(unpool(values, where), expected)


def test_an_exported_enet_has_no_index_unpooling_and_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    model = ENet(5).eval()
    frames = torch.randn(2, 3, 32, 64)
    exported = torch.export.export(model, (frames,))
    operators = {str(node.target) for node in exported.graph.nodes}
    assert not any("unpool" in name or "with_indices" in name for name in operators)
    with torch.no_grad():
        expected, found = model(frames), exported.module()(frames)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.latent, expected.latent)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_fast_prelu_is_torchs(memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours, theirs = PReLU(6), torch.nn.PReLU(6)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(6))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 5, 7)
    x[0, :, 0] = 0.0  # the kink
    inputs = [x.clone(memory_format=memory).requires_grad_() for _ in range(2)]
    gradient = torch.randn(3, 6, 5, 7)
    for activation, value in zip((ours, theirs), inputs, strict=True):
        activation(value).backward(gradient)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert torch.equal(ours(x), theirs(x))


def test_normalisation_is_per_channel_on_the_0_to_255_scale() -> None:
    frames = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    frames[0, 1, 2] = torch.tensor([255, 128, 1], dtype=torch.uint8)
    out = normalise(frames)
    assert out.shape == (1, 3, 2, 3)
    for channel, value in enumerate((255, 128, 1)):
        expected = (value - MEAN_RGB[channel]) / STD_RGB[channel]
        assert out[0, channel, 1, 2].item() == pytest.approx(expected, rel=1e-6)
