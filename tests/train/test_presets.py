"""The presets hold the figures that the paper's supplement prints, and make a configuration that trains."""

from __future__ import annotations

import dataclasses

import pytest

from roadworthy.runtime.errors import BadInput
from roadworthy.train.config import TrainConfig
from roadworthy.train.objectives.gambling import GamblingOptions
from roadworthy.train.objectives.spec import parse_spec, read_options
from roadworthy.train.presets import PRESETS, get_preset

# name: learning rate, lambda, segmenter and gambler iterations, epochs, batch (arXiv 1908.02711, supplement)
PUBLISHED = {
    "unet-cityscapes": (1e-4, 1.0, 200, 400, 300, 4),
    "pspnet-cityscapes": (2.5e-5, 1.0, 800, 800, 200, 3),
    "pspnet-camvid": (5e-5, 0.5, 100, 200, 100, 2),
}


# Changes that other papers' trainings make: ADVENT's section 5.1 and code, AVSS 2018's section 5.
OTHERS: dict[str, dict[str, object]] = {
    "advent-deeplabv2": {
        "model": "deeplabv2-two-level-resnet101", "optimiser": "sgd", "learning_rate": 2.5e-4, "momentum": 0.9,
        "weight_decay": 5e-4, "schedule": "poly", "poly_power": 0.9, "critic_optimiser": "adam", "critic_learning_rate": 1e-4,
        "critic_weight_decay": 0.0, "beta1": 0.9, "beta2": 0.99, "batch_size": 1, "steps": 250_000,
        "objective": "cross-entropy + advent(weight=0.001, auxiliary=0.0002)", "crop": None, "epochs": None,
    },
    "scene-adaptation-pspnet": {
        "optimiser": "adam", "learning_rate": 2e-4, "batch_size": 1, "epochs": 10, "size": (600, 800),
        "objective": "cross-entropy + scene-adaptation",
    },
    "scene-baseline-pspnet": {
        "optimiser": "sgd", "learning_rate": 7e-3, "momentum": 0.9, "schedule": "poly", "poly_power": 0.9, "batch_size": 8,
        "epochs": 10, "objective": "cross-entropy",
    },
}  # fmt: skip


def test_every_preset_is_published() -> None:
    assert PRESETS.keys() == PUBLISHED.keys() | OTHERS.keys()


@pytest.mark.parametrize("name", OTHERS)
def test_the_presets_of_adaptation_give_the_published_figures(name: str) -> None:
    config = dataclasses.replace(TrainConfig(data="gta5:somewhere"), **get_preset(name).changes())
    assert {field: getattr(config, field) for field in OTHERS[name]} == OTHERS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_gives_the_published_figures_as_a_configuration(name: str) -> None:
    learning_rate, weight, segmenter_steps, gambler_steps, epochs, batch = PUBLISHED[name]
    config = dataclasses.replace(TrainConfig(data="camvid:somewhere"), **get_preset(name).changes())
    assert config.learning_rate == config.critic_learning_rate == learning_rate
    assert (config.batch_size, config.beta1, config.beta2, config.weight_decay) == (batch, 0.5, 0.99, 5e-4)
    (term,) = parse_spec(config.objective)
    options = read_options(GamblingOptions, term.options, term.name)
    assert options == GamblingOptions(weight, 0.02, segmenter_steps, gambler_steps)
    assert config.updates(samples=367) == -(-epochs * 367 // batch)
    assert config.crop == (512, 512)
    assert config.model.startswith(name.split("-")[0])


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="unknown preset 'unet-camvid'; known: unet-cityscapes"):
        get_preset("unet-camvid")
