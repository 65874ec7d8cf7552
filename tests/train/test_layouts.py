"""SemGAN: the shapes it learns from, its networks and losses, and a training that goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import nn

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, IGNORE
from roadworthy.train import duel
from roadworthy.train.checkpoint import read_safetensors
from roadworthy.train.data.colored_shapes import COLORED_SHAPES, RADIUS, draw_colored_shapes
from roadworthy.train.duel import LAST_FILE, batch_places, kept_generators
from roadworthy.train.layout_space import LayoutSpace, grid
from roadworthy.train.layouts import LayoutConfig, LayoutDuel, LayoutMaps, load_layouts, read_layouts, train_layouts
from roadworthy.train.models.layouts import (
    LayoutCritic,
    LayoutGenerator,
    discriminator_loss,
    feature_matching_loss,
    halvings,
)

BACKGROUND, CIRCLE, RECTANGLE, SQUARE = range(4)
TINY = LayoutConfig(width=2, kernel=3, latent=4, batch_size=4, steps=6, checkpoint_every=4, tensorboard=False, threads=1)


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    return draw_colored_shapes(0)


def test_the_set_is_as_described(shapes: np.ndarray) -> None:
    assert shapes.shape == (54 * 54, 64, 64)
    assert shapes.dtype == np.uint8
    assert set(np.unique(shapes)) == {BACKGROUND, CIRCLE, RECTANGLE, SQUARE}
    disc = sum((y * y + x * x) <= RADIUS**2 for y in range(-10, 11) for x in range(-10, 11))
    assert set((shapes == CIRCLE).sum((1, 2))) == {disc}  # on top, and whole
    # Where nothing hides it, the square is 10x10 and at its own place.
    squares = (shapes == SQUARE).sum((1, 2))
    whole = np.flatnonzero(squares == 100)
    assert len(whole) > 2000
    for index in whole[::101]:
        rows, columns = np.nonzero(shapes[index] == SQUARE)
        assert (rows.min(), columns.min()) == divmod(int(index), 54)
        assert (rows.max() - rows.min(), columns.max() - columns.min()) == (9, 9)
    assert int(squares.min()) == 0  # the circle can cover the square whole
    assert (shapes == RECTANGLE).sum((1, 2)).max() == 200
    assert np.array_equal(shapes, draw_colored_shapes(0))
    assert not np.array_equal(shapes, draw_colored_shapes(1))


def test_maps_are_one_hot_with_void_as_a_class_of_its_own() -> None:
    labels = np.array([[[0, 10], [IGNORE, 3]]], np.uint8)
    space = LayoutSpace(CAMVID, void=True)
    maps = space.encode(labels)
    assert maps.shape == (1, 12, 2, 2)
    assert torch.equal(maps.sum(1), torch.ones(1, 2, 2))
    assert maps[0, 11, 1, 0] == 1
    assert np.array_equal(space.labels(maps), labels)
    assert np.array_equal(space.pictures(maps), CAMVID.colourise(labels))


def test_colours_come_back_as_the_nearest_class() -> None:
    labels = np.array([[[0, 10], [IGNORE, 3]]], np.uint8)
    space = LayoutSpace(CAMVID, void=True, rgb=True)
    maps = space.encode(labels)
    assert maps.shape == (1, 3, 2, 2)
    assert float(maps.min()) >= -1
    assert float(maps.max()) <= 1
    assert np.array_equal(space.pictures(maps), CAMVID.colourise(labels))
    assert np.array_equal(space.labels(maps + 0.02), labels)


def test_a_grid_shows_every_picture_once() -> None:
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    sheet = grid(pictures, columns=3, gap=1)
    assert sheet.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    assert [int(sheet[1, 1 + 7 * column, 0]) for column in range(3)] == [0, 1, 2]
    assert [int(sheet[6, 1 + 7 * column, 0]) for column in range(3)] == [3, 4, 255]


@pytest.mark.parametrize("kernel", [7, 11])
@pytest.mark.parametrize("size", [(64, 64), (128, 128), (32, 64)])
def test_the_generator_gives_distributions_and_the_critic_a_logit(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    generator = LayoutGenerator(5, size, latent=8, kernel=kernel, width=2)
    maps = generator(torch.randn(3, 8))
    assert maps.shape == (3, 5, *size)
    torch.testing.assert_close(maps.sum(1), torch.ones(3, *size))
    critic = LayoutCritic(5, size, kernel=kernel, width=2)
    assert not torch.equal(critic(maps), critic(maps))  # dropout
    assert not any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())
    critic.eval()
    assert critic(maps).shape == (3,)
    assert torch.equal(critic.classifier(critic.features(maps)).squeeze(1), critic(maps))
    colours = LayoutGenerator(3, size, latent=8, kernel=kernel, width=2, rgb=True)(torch.randn(3, 8))
    assert colours.shape == (3, 3, *size)
    assert float(colours.detach().abs().max()) <= 1


def test_both_generators_are_one_architecture_but_for_the_last_layer() -> None:
    semantic = LayoutGenerator(4, (64, 64), latent=10, kernel=7, width=2)
    plain = LayoutGenerator(3, (64, 64), latent=10, kernel=7, width=2, rgb=True)
    shapes = [[tuple(value.shape) for value in network.parameters()] for network in (semantic, plain)]
    assert shapes[0][:-2] == shapes[1][:-2]
    kinds = nn.ConvTranspose2d | nn.Conv2d
    assert {tuple(module.kernel_size) for module in semantic.modules() if isinstance(module, kinds)} == {(7, 7)}


@pytest.mark.parametrize("size", [(8, 64), (64, 72), (100, 100)])
def test_sizes_that_cannot_be_halved_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="multiples of"):
        halvings(size)


def test_losses_are_those_of_the_paper() -> None:
    real, fake = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    expected = -(F.logsigmoid(real).mean() + torch.log(1 - torch.sigmoid(fake)).mean())
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    assert float(discriminator_loss(torch.zeros(2), torch.zeros(2))) == pytest.approx(2 * np.log(2))
    left, right = torch.randn(5, 7, dtype=torch.float64), torch.randn(9, 7, dtype=torch.float64, requires_grad=True)
    by_hand = sum((left[:, i].mean() - right[:, i].mean()) ** 2 for i in range(7))
    torch.testing.assert_close(feature_matching_loss(left, right), by_hand)
    assert torch.autograd.gradcheck(lambda value: feature_matching_loss(left, value), right)


def test_the_generator_learns_through_the_critic_and_not_the_other_way_round(shapes: np.ndarray) -> None:
    players = LayoutDuel(TINY, LayoutMaps(shapes[:40], COLORED_SHAPES))
    before = {name: value.clone() for name, value in players.critic.state_dict().items() if "running" not in name}
    with players.frozen_critic():
        maps = torch.rand(2, 4, 64, 64)
        assert torch.equal(players.critic.features(maps), players.critic.features(maps))  # no dropout there
        features = players.critic.features(players.generator(torch.randn(4, 4)))
        players.learn("generator", features.square().sum())
    assert all(torch.equal(before[name], players.critic.state_dict()[name]) for name in before if "num_batches" not in name)
    assert all(parameter.grad is None for parameter in players.critic.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in players.generator.parameters())
    assert all(parameter.requires_grad for parameter in players.critic.parameters())
    settings = players.optimisers["generator"].param_groups[0]
    assert (settings["betas"], settings["eps"], settings["lr"]) == ((0.5, 0.999), 1e-8, 1e-4)


def test_batches_pass_through_everything_in_a_new_order() -> None:
    seen = np.concatenate([batch_places(10, 4, 3, number) for number in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])


@pytest.mark.parametrize("rgb", [False, True])
def test_learning_moves_towards_the_data(shapes: np.ndarray, rgb: bool) -> None:
    """After a few dozen updates the mean maps are nearer to those of the data than at the even start."""
    coarse = shapes[::20, ::4, ::4]  # [146, 16, 16]
    config = replace(TINY, data="camvid:none", size=(16, 16), rgb=rgb, width=8, learning_rate=2e-3, batch_size=16, steps=120)
    players = LayoutDuel(config, LayoutMaps(coarse, COLORED_SHAPES))
    noise = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))

    def distance() -> float:
        with torch.no_grad():
            made = players.generator(noise)
        return float((made.mean((0, 2, 3)) - players.space.encode(coarse).mean((0, 2, 3))).abs().sum())

    before = distance()
    for number in range(config.steps):
        players.update(number)
    assert distance() < 0.5 * before


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "SAY_EVERY_S", 0.0)
    train_layouts(TINY, tmp_path / "unbroken")

    def interrupt(text: str, _fraction: float) -> None:
        if text.startswith("1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_layouts(TINY, tmp_path / "broken", progress=interrupt)
    assert (tmp_path / "broken" / LAST_FILE).is_file()
    with pytest.raises(BadInput, match="did not finish"):
        load_layouts(tmp_path / "broken")
    with pytest.raises(BadInput, match="resume it"):
        train_layouts(TINY, tmp_path / "broken")
    with pytest.raises(BadInput, match="steps: 6 -> 7"):
        train_layouts(replace(TINY, steps=7), tmp_path / "broken", resume=True)
    train_layouts(TINY, tmp_path / "broken", resume=True)
    for name in ("generator.safetensors", LAST_FILE):
        left, right = (read_safetensors(tmp_path / run / name)[0] for run in ("unbroken", "broken"))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name
    train_layouts(TINY, tmp_path / "broken", resume=True)  # a finished one is left as it is


def test_a_run_can_be_sampled_and_its_samples_do_not_depend_on_their_number(tmp_path: Path) -> None:
    run = train_layouts(replace(TINY, keep_every=3), tmp_path / "run")
    assert kept_generators(run) == [3, 6]
    assert Image.open(run / "samples.png").size == (8 * 66 + 2, 4 * 66 + 2)
    assert json.loads((run / "metrics.json").read_text())["steps"] == 6
    model = load_layouts(run)
    maps = model.sample(70, seed=5)
    assert maps.shape == (70, 4, 64, 64)
    torch.testing.assert_close(model.sample(3, seed=5), maps[:3], rtol=0, atol=1e-6)
    assert not torch.equal(model.sample(3, seed=6), maps[:3])
    assert torch.equal(load_layouts(run, 6).sample(2), model.sample(2))
    assert not torch.equal(load_layouts(run, 3).sample(2), model.sample(2))
    with pytest.raises(BadInput, match="generator-000004"):
        load_layouts(run, 4)
    (run / "generator.json").write_text('{"kind": "layouts"}')
    with pytest.raises(BadInput, match=r"generator\.json"):
        load_layouts(run)


def test_camvids_label_maps_are_learnt_with_their_void(tiny_camvid: Path, tmp_path: Path) -> None:
    config = replace(TINY, data=f"camvid:{tiny_camvid}", size=(32, 64), steps=2)
    model = load_layouts(train_layouts(config, tmp_path / "run"))
    assert model.space.taxonomy is CAMVID
    assert model.space.void
    assert model.sample(2).shape == (2, 12, 32, 64)


def test_facades_come_through_the_folder_loader(tmp_path: Path) -> None:
    names = (
        "background",
        "facade",
        "window",
        "door",
        "cornice",
        "sill",
        "balcony",
        "blind",
        "deco",
        "molding",
        "pillar",
        "shop",
    )
    root = tmp_path / "facades"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    entries = [
        {"name": name, "colour": [20 * index, 255 - 20 * index, 40], "ids": [index + 1]} for index, name in enumerate(names)
    ]
    (root / "classes.yaml").write_text(yaml.safe_dump({"name": "facades", "classes": entries}))
    rng = np.random.default_rng(0)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(root / "images" / f"{index}.jpg")
        Image.fromarray(rng.integers(1, 13, (40, 30), dtype=np.uint8)).save(root / "labels" / f"{index}.png")
    maps = read_layouts(f"folder:{root}", (16, 16))
    assert maps.labels.shape == (9, 16, 16)  # the tenth is for validation
    assert maps.taxonomy.classes == names
    config = replace(TINY, data=f"folder:{root}", size=(16, 16), steps=1)
    assert load_layouts(train_layouts(config, tmp_path / "run")).sample(1).shape == (1, 12, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": 4}, "kernel is 4, expected odd"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"size": (32, 32)}, "size is .* expected 64x64"),
        ({"data": "camvid:x", "size": (64, 66)}, "multiples of"),
    ],
)
def test_options_that_will_not_do_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(TINY, **changes)


def test_data_that_are_not_there_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither colored-shapes nor KIND:PATH"):
        train_layouts(replace(TINY, data="shapes"), tmp_path / "run")
    with pytest.raises(BadInput, match="no such folder"):
        train_layouts(replace(TINY, data=f"camvid:{tmp_path / 'none'}", size=(32, 64)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
