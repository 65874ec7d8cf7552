"""Painting layouts: the translator, the folder of dreamt pairs, and how they are mixed into a training."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb
from roadworthy.runtime.taxonomy import CAMVID, IGNORE, TOWN, Taxonomy
from roadworthy.scripts.train import command
from roadworthy.train.checkpoint import read_safetensors
from roadworthy.train.config import load_config
from roadworthy.train.data import open_dataset
from roadworthy.train.data.augment import NO_AUGMENTATION
from roadworthy.train.data.batches import Batches, Mixture
from roadworthy.train.data.dataset import Sample
from roadworthy.train.data.dream import write_classes
from roadworthy.train.data.frames import Frames
from roadworthy.train.data.labelled_folder import load_classes
from roadworthy.train.dreams import Dream, write_dreams
from roadworthy.train.layouts import LayoutConfig, train_layouts
from roadworthy.train.models.unet import UNetBody
from roadworthy.train.translation import (
    TranslationDuel,
    Translator,
    TranslatorConfig,
    load_translator,
    paint,
    train_translator,
)

SIZE = (32, 64)


@pytest.fixture(scope="module")
def config(tiny_camvid: Path) -> TranslatorConfig:
    return TranslatorConfig(f"camvid:{tiny_camvid}", SIZE, width=4, steps=4, checkpoint_every=3, tensorboard=False, threads=1)


@pytest.fixture(scope="module")
def translator(config: TranslatorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_translator(config, tmp_path_factory.mktemp("runs") / "translator")


@pytest.fixture(scope="module")
def layouts(config: TranslatorConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = LayoutConfig(config.data, size=(16, 32), width=2, kernel=3, latent=4, batch_size=4, steps=2, tensorboard=False)
    return train_layouts(settings, tmp_path_factory.mktemp("runs") / "layouts")


def test_the_generator_is_pix2pixs_unet_256() -> None:
    # 54,413,955 parameters are the authors' for three channels in and three out.
    network = Translator(3, (256, 256), 64)
    assert network.depth == 8
    assert sum(parameter.numel() for parameter in network.parameters()) == 54_413_955
    slopes = {module.negative_slope for module in network.body.down.modules() if isinstance(module, nn.LeakyReLU)}
    assert slopes == {0.2}
    dropped = [any(isinstance(module, nn.Dropout) for module in block.modules()) for block in network.body.up]
    assert dropped == [False] * 4 + [True] * 3  # from the outermost to the innermost
    assert not any(isinstance(module, nn.Dropout) for module in UNetBody(3, 3, 8).modules())


@pytest.mark.parametrize("size", [(32, 64), (45, 60), (128, 256)])
def test_it_paints_any_size(size: tuple[int, int]) -> None:
    painted = Translator(5, size, 2)(torch.rand(1, 5, *size))
    assert painted.shape == (1, 3, *size)
    assert float(painted.detach().abs().max()) <= 1


def test_it_learns_to_paint(config: TranslatorConfig, tiny_camvid: Path) -> None:
    frames = Frames(open_dataset(f"camvid:{tiny_camvid}", "train"), SIZE)
    duel = TranslationDuel(replace(config, learning_rate=2e-3), frames)
    distances = [float(duel.update(number)["l1"].detach()) for number in range(24)]
    assert np.mean(distances[-8:]) < 0.7 * np.mean(distances[:4])
    before = {name: value.clone() for name, value in duel.generator.state_dict().items()}
    labels = frames[0].labels
    first, again, other = (paint(duel.generator, duel.space, labels, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)  # dropout is the noise
    assert all(torch.equal(before[name], value) for name, value in duel.generator.state_dict().items())


def test_an_interrupted_translator_goes_on_to_the_same_bits(
    config: TranslatorConfig, translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadworthy.train.duel.SAY_EVERY_S", 0.0)

    def interrupt(text: str, _fraction: float) -> None:
        if text.startswith("1/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_translator(config, tmp_path / "run", progress=interrupt)
    train_translator(config, tmp_path / "run", resume=True)
    left, right = (read_safetensors(run / "last.ckpt.safetensors")[0] for run in (translator, tmp_path / "run"))
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_dreams_are_pairs_that_training_can_read(layouts: Path, translator: Path, tmp_path: Path) -> None:
    dream = Dream(str(layouts), str(translator), 3, seed=4)
    folder = write_dreams(dream, tmp_path / "dreams")
    data = open_dataset(f"dream:{folder}", "train")
    assert data.taxonomy is CAMVID
    assert len(data) == 3
    sample = data[1]
    assert sample.image.shape == (*SIZE, 3)
    assert set(np.unique(sample.labels)) <= {*range(11), IGNORE}
    painter = load_translator(translator)
    assert painter.size == SIZE
    assert (folder / "pairs.png").is_file()
    with pytest.raises(BadInput, match="to learn from, not to score by"):
        open_dataset(f"dream:{folder}", "val")
    # Gone on with: what is there stays, what is missing comes back the same.
    kept, lost = folder / "images" / "000000.png", folder / "images" / "000002.png"
    before, stamp = read_rgb(lost), kept.stat().st_mtime_ns
    lost.unlink()
    write_dreams(dream, folder)
    assert np.array_equal(read_rgb(lost), before)
    assert kept.stat().st_mtime_ns == stamp
    assert read_ids(folder / "labels" / "000002.png").shape == SIZE
    with pytest.raises(BadInput, match="holds another dream"):
        write_dreams(replace(dream, seed=5), folder)
    with pytest.raises(BadInput, match="not an empty folder"):
        write_dreams(dream, tmp_path)


def test_layouts_and_translator_must_know_the_same_classes(translator: Path, tmp_path: Path) -> None:
    shapes = LayoutConfig(width=2, kernel=3, latent=4, batch_size=2, steps=1, tensorboard=False)
    run = train_layouts(shapes, tmp_path / "shapes")
    with pytest.raises(BadInput, match="train both on the same data"):
        write_dreams(Dream(str(run), str(translator), 1), tmp_path / "dreams")
    with pytest.raises(BadInput, match="a generator of frames, expected one of layouts"):
        write_dreams(Dream(str(translator), str(translator), 1), tmp_path / "dreams")
    with pytest.raises(BadInput, match="a generator of layouts, expected one of frames"):
        load_translator(run)
    assert not (tmp_path / "dreams").exists()


@pytest.mark.parametrize("taxonomy", [CAMVID, TOWN])
def test_classes_are_written_as_the_folder_loader_reads_them(tmp_path: Path, taxonomy: Taxonomy) -> None:
    write_classes(tmp_path, taxonomy)
    assert load_classes(tmp_path / "classes.yaml").taxonomy is taxonomy
    own = replace(taxonomy, name="own", classes=tuple(f"class {index}" for index in range(len(taxonomy))))
    own = replace(own, groups={2: own.classes}, folding={**{index: index for index in range(len(own))}, IGNORE: IGNORE})
    write_classes(tmp_path, own)
    assert load_classes(tmp_path / "classes.yaml").taxonomy == own


class _Numbered:
    """Samples whose name is their number."""

    def __init__(self, size: int, letter: str) -> None:
        self.size, self.letter = size, letter

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.size:
            raise IndexError(index)
        value = index + (100 if self.letter == "b" else 0)
        return Sample(np.full((2, 2, 3), value, np.uint8), np.zeros((2, 2), np.uint8), f"{self.letter}{index}")


def test_a_mixture_takes_its_share_and_shows_every_sample() -> None:
    mixture = Mixture(_Numbered(8, "a"), _Numbered(3, "b"), 0.2)
    batches = Batches(mixture, 5, 7, NO_AUGMENTATION)
    shown = np.stack([batches[number].frames[:, 0, 0, 0].numpy() for number in range(6)])
    assert ((shown >= 100).sum(1) == 1).all()  # a fifth of every batch of five
    assert sorted(shown[shown >= 100]) == [100, 100, 101, 101, 102, 102]  # each once per pass
    assert sorted(shown[shown < 100][:16]) == sorted([*range(8)] * 2)
    assert np.array_equal(batches[4].frames[:, 0, 0, 0], shown[4])
    parts = [Batches(mixture, 4, 7, NO_AUGMENTATION, rank=rank, world=2)[3].frames for rank in range(2)]
    assert torch.equal(torch.cat(parts), Batches(mixture, 4, 7, NO_AUGMENTATION)[3].frames)
    alone = Batches(_Numbered(8, "a"), 4, 7, NO_AUGMENTATION)
    of_first = shown[shown < 100]
    assert np.array_equal(of_first[:8], np.concatenate([alone[0].frames[:, 0, 0, 0], alone[1].frames[:, 0, 0, 0]]))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(BadInput, match="mix is"):
        Mixture(_Numbered(1, "a"), _Numbered(1, "b"), share)


def test_the_translators_options_are_checked(config: TranslatorConfig) -> None:
    with pytest.raises(BadInput, match="l1_weight"):
        replace(config, l1_weight=0.0)
    with pytest.raises(BadInput, match="size"):
        replace(config, size=(8, 64))
    with pytest.raises(BadInput, match="no such folder"):
        train_translator(replace(config, data="camvid:nowhere"), Path("unused"))
    assert not Path("unused").exists()
    assert json.dumps(config.size)


def test_a_training_mixes_the_second_data_in(
    layouts: Path, translator: Path, tiny_camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dreams(Dream(str(layouts), str(translator), 2), tmp_path / "dreams")
    common = f"--data camvid:{tiny_camvid} --model plain --steps 3 --batch 4 --size 64x32 --threads 1".split()

    def train(name: str, *options: str) -> dict[str, torch.Tensor]:
        output = tmp_path / name
        command.main([*common, *options, "--output", str(output)], standalone_mode=False)
        capsys.readouterr()
        assert load_config(output / "config.yaml").mixed == (f"dream:{folder}" if "--mix" in options else None)
        return read_safetensors(output / "model.safetensors")[0]

    alone = train("alone")
    mixed, again = (train(name, "--data", f"dream:{folder}", "--mix", "0.5") for name in ("mixed", "again"))
    assert all(torch.equal(mixed[key], again[key]) for key in mixed)
    assert not all(torch.equal(mixed[key], alone[key]) for key in mixed)
    with pytest.raises(BadInput, match="expected that too"):
        command.main([*common, "--mix", "0.5"], standalone_mode=False)
    with pytest.raises(BadInput, match="expected once, or twice"):
        command.main([*common, "--data", "dream:a", "--data", "dream:b"], standalone_mode=False)
    shapes = tmp_path / "other"
    for kind in ("images", "labels"):
        (shapes / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 64), np.uint8)).save(shapes / kind / "0.png")
    write_classes(shapes, TOWN)
    with pytest.raises(BadInput, match="mixed data has taxonomy 'town', expected 'camvid'"):
        train("wrong", "--data", f"dream:{shapes}", "--mix", "0.5")
