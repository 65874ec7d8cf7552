"""Facts of the networks: sizes, shapes, and the index-free unpooling that export relies on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models import MODELS, Segmenter, build_model
from roadworthy.train.models.activation import PReLU
from roadworthy.train.models.enet import ENet
from roadworthy.train.models.gambler import build_gambler
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB, normalise
from roadworthy.train.models.prediction import AUXILIARY_WEIGHT
from roadworthy.train.models.unpooling import max_pool, max_pool_position, max_unpool, max_unpool_position

# What every network is run at here. FCN-8s is 134 M parameters, most of them in one layer: one forward pass is enough.
LIGHT = ["enet", "lite0", "unet", "segnet", "pspnet-resnet18", "deeplabv2-resnet18", "deeplabv3plus-resnet18"]


@pytest.fixture(scope="module")
def networks() -> Iterator[Callable[[str], Segmenter]]:
    """Networks for seven classes in evaluation mode, built once each. Not to be changed."""

    @cache
    def network(name: str) -> Segmenter:
        torch.manual_seed(0)
        return build_model(name, 7).eval()

    yield network
    network.cache_clear()


@pytest.mark.parametrize("name", MODELS)
def test_every_segmenter_keeps_the_contract_of_shapes(name: str, networks: Callable[[str], Segmenter]) -> None:
    model = networks(name)
    sizes = [(64, 96)] if model.size_multiple > 1 else [(64, 96), (45, 77)]
    for height, width in sizes if name in LIGHT else sizes[-1:]:
        with torch.no_grad():
            frames = torch.randn(2, 3, height, width)
            prediction = model(frames)
            latent = model.encode(frames)
        assert prediction.logits.shape == (2, 7, height, width)
        stride = model.latent_stride
        assert prediction.latent.shape == (2, model.latent_channels, -(-height // stride), -(-width // stride))
        assert prediction.embedding.shape[0] == 2
        assert prediction.auxiliary is None
        assert torch.equal(latent, prediction.latent)
        again = model(frames).logits
        assert torch.equal(again, prediction.logits)  # nothing random is left in evaluation mode


@pytest.mark.parametrize("name", MODELS)
def test_every_latent_is_the_deepest_map_of_at_least_8_by_16_cells(name: str) -> None:
    assert MODELS[name].latent_stride in (8, 16)
    deeper = {"unet", "segnet", "fcn8s"}  # those that go on to maps too coarse for a driver
    if name in deeper:
        assert MODELS[name].latent_stride == 16


@pytest.mark.parametrize("name", LIGHT)
def test_every_segmenter_gives_the_same_in_either_memory_format(name: str, networks: Callable[[str], Segmenter]) -> None:
    model = networks(name)
    frames = torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(frames)
        model = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = model(frames.contiguous(memory_format=torch.channels_last))
    # Another order of summation moves a few maxima, and with them values that are put back where the maxima were.
    moved = 0.01 if name in ("enet", "segnet") else 0.0
    for ours, theirs in ((found.logits, expected.logits), (found.latent, expected.latent)):
        off = (ours - theirs).abs() > 1e-4 * theirs.abs().max()
        assert off.float().mean() <= moved


@pytest.mark.parametrize("name", LIGHT)
def test_every_segmenter_learns_a_tiny_task_and_the_same_way_twice(name: str) -> None:
    labels = torch.zeros(2, 32, 64, dtype=torch.int64)
    labels[0, 16:], labels[1, :, 32:] = 1, 2
    torch.manual_seed(0)
    frames = F.one_hot(labels, 3).permute(0, 3, 1, 2) + 0.1 * torch.randn(2, 3, 32, 64)
    learning_rate = 1e-2 if name == "enet" else 3e-3

    def losses(steps: int) -> list[float]:
        torch.manual_seed(1)
        model = build_model(name, 3).train()
        optimiser = torch.optim.Adam(model.parameters(), learning_rate)
        found = []
        for _ in range(steps):
            prediction = model(frames)
            loss = F.cross_entropy(prediction.logits, labels)
            if prediction.auxiliary is not None:
                loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(prediction.auxiliary, labels)
            found.append(loss.item())
            loss.backward()
            assert all(parameter.grad is not None for parameter in model.parameters())  # nothing is left out of the graph
            optimiser.step()
            optimiser.zero_grad()
        return found

    learnt = losses(6)
    assert learnt[-1] < 0.75 * learnt[0]
    assert losses(2) == learnt[:2]


@pytest.mark.parametrize("name", ["fcn8s", "pspnet-resnet50", "deeplabv3plus-resnet50", "deeplabv2-resnet50"])
def test_the_heavy_ones_have_a_gradient_everywhere(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 3).train()
        prediction = model(torch.randn(2, 3, 64, 96))
        loss = prediction.logits.sum() + (0 if prediction.auxiliary is None else prediction.auxiliary.sum())
        loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


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


@pytest.mark.parametrize("name", ["enet", "unet", "pspnet-resnet18", "segnet", "lite0"])
@pytest.mark.parametrize("size", [(64, 96), (40, 72)])
def test_every_gambler_scores_each_pixel_once(name: str, size: tuple[int, int]) -> None:
    gambler = build_gambler(name, 7).eval()
    scores = gambler(torch.randn(2, 3, *size), torch.softmax(torch.randn(2, 7, *size), 1))
    assert scores.shape == (2, *size)
    scores.sum().backward()  # every part of it can learn
    assert all(parameter.grad is not None for parameter in gambler.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_segmenter_has_a_gambler_of_its_family_that_is_no_larger(name: str) -> None:
    with torch.device("meta"):
        gambler, segmenter = build_gambler(name, 19), build_model(name, 19)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (gambler, segmenter)]
    assert sizes[0] < 1.01 * sizes[1]  # a twin's first layer sees the classes too
    if name == "unet":
        assert len(gambler.body.down) == 6  # type: ignore[arg-type,union-attr]
    elif name != "enet":
        assert type(gambler.network) is type(segmenter)


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
