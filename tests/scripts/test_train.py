"""`roadworthy train`: its options reach the configuration, and what a user gets wrong is one message and exit code 2."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from roadworthy.scripts.cli import main
from roadworthy.train.config import TrainConfig, load_config
from roadworthy.train.data.augment import Augmentation
from roadworthy.train.fit import load_result


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", *arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    text = " ".join(result.output.split())
    assert "Traceback" not in text
    for word in words:
        assert word in text, text


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Four made-up frames in each split of the CamVid layout."""
    rng = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for split in ("train", "val"):
        for part in (split, f"{split}annot"):
            (root / part).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(root / split / f"{index}.png")
            Image.fromarray(rng.integers(0, 12, (32, 64), np.uint8)).save(root / f"{split}annot" / f"{index}.png")
    return root


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """What `fit` is asked for, instead of doing it."""
    asked: list[TrainConfig] = []

    def fit(config: TrainConfig, *_arguments: object, **_options: object) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("roadworthy.train.fit.fit", fit)
    return asked


def test_without_options_the_defaults_of_the_configuration_hold(captured: list[TrainConfig]) -> None:
    assert run("--data", "camvid:x").exit_code == 130
    assert captured == [TrainConfig(data="camvid:x")]


def test_every_option_reaches_the_configuration(captured: list[TrainConfig]) -> None:
    run(
        "--data", "cityscapes:x", "--validation", "cityscapes:y", "--model", "lite0", "--objective", "focal",
        "--ground", "importance",
        "--init", "runs/a", "--backbone-weights", "imagenet", "--epochs", "2.5", "--batch", "12", "--accumulate", "3",
        "--size", "1024x512", "--crop", "512x512", "--flip", "0.1", "--scale", "0.5-2", "--jitter", "0", "--optimiser", "sgd",
        "--learning-rate", "0.01", "--schedule", "poly", "--weight-decay", "0.1", "--batch-norm", "frozen", "--ema", "0.99",
        "--selection", "0.1", "--select-every", "7", "--patience", "3", "--skip-bad", "--seed", "5", "--device", "cpu",
        "--precision", "bf16", "--threads", "3", "--workers", "4", "--checkpoint-every", "9",
    )  # fmt: skip
    assert captured == [
        TrainConfig(
            data="cityscapes:x", validation="cityscapes:y", model="lite0", objective="focal", ground="importance",
            init="runs/a", backbone_weights="imagenet", epochs=2.5, batch_size=12, accumulate=3, size=(512, 1024),
            crop=(512, 512), augmentation=Augmentation(0.1, 0.5, 2.0, 0.0), optimiser="sgd", learning_rate=0.01,
            schedule="poly", weight_decay=0.1, batch_norm="frozen", ema=0.99, selection=0.1, select_every=7, patience=3,
            skip_bad=True, seed=5, device="cpu", precision="bf16-mixed", threads=3, workers=4, checkpoint_every=9,
        )
    ]  # fmt: skip


def test_a_preset_fills_in_what_is_not_given(captured: list[TrainConfig]) -> None:
    run("--data", "cityscapes:x", "--preset", "unet-cityscapes")
    run(
        "--data",
        "cityscapes:x",
        "--preset",
        "unet-cityscapes",
        "--objective",
        "cross-entropy",
        "--steps",
        "7",
        "--jitter",
        "0.1",
    )
    published, own = captured
    assert (published.model, published.epochs, published.batch_size, published.beta1) == ("unet", 300, 4, 0.5)
    assert "gambling" in published.objective
    assert (own.objective, own.steps, own.epochs, own.learning_rate) == ("cross-entropy", 7, None, 1e-4)
    assert own.augmentation == Augmentation(0.5, 1.0, 1.0, 0.1)
    refused(run("--data", "cityscapes:x", "--preset", "resnet"), "unknown preset 'resnet'", "pspnet-camvid")
    listed = run("--list-presets")
    assert listed.exit_code == 0
    assert "unet-cityscapes: U-Net" in listed.output


SMALL = ("--steps", "2", "--batch", "2", "--size", "64x32", "--threads", "1")


def test_bad_samples_are_counted_when_skipped(camvid: Path, tmp_path: Path) -> None:
    (camvid / "train" / "1.png").write_bytes(b"GIF89a, or so it says")
    (camvid / "valannot" / "2.png").unlink()
    data, output = ("--data", f"camvid:{camvid}"), ("-o", str(tmp_path / "run"))
    refused(run(*data, *output, *SMALL), "2 of 8 samples", "train/1.png: not a readable image", "val/2.png: no label")
    assert not (tmp_path / "run").exists()
    done = run(*data, *output, *SMALL, "--skip-bad")
    assert done.exit_code == 0, done.output
    assert "2 samples could not be used" in done.output
    assert load_result(tmp_path / "run").skipped == 2
    assert load_config(tmp_path / "run" / "config.yaml").skip_bad
    refused(run(*data, *output, *SMALL, "--skip-bad"), "holds a run already")
    assert run(*data, *output, *SMALL, "--skip-bad", "--resume").exit_code == 0


def spoil_size(camvid: Path) -> None:
    Image.fromarray(np.zeros((31, 64), np.uint8)).save(camvid / "trainannot" / "3.png")


def spoil_emptied(camvid: Path) -> None:
    for path in (camvid / "train").iterdir():
        path.unlink()


def spoil_bomb(camvid: Path) -> None:
    Image.fromarray(np.zeros((8192, 8192), np.uint8)).save(camvid / "train" / "0.png")


def spoil_folder(camvid: Path) -> None:
    shutil.rmtree(camvid / "valannot")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_size, ("trainannot/3.png: 64x31 pixels", "64x32")),
        (spoil_emptied, ("camvid/train: no images there",)),
        (spoil_bomb, ("train/0.png: 8192x8192 pixels, expected at most",)),
        (spoil_folder, ("valannot: no such folder",)),
    ],
)
def test_unusable_data_is_one_message(spoil, words: tuple[str, ...], camvid: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    spoil(camvid)
    refused(run("--data", f"camvid:{camvid}", "-o", str(tmp_path / "run"), *SMALL), *words)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(camvid: Path, tmp_path: Path) -> None:
    data = ("--data", f"camvid:{camvid}")
    occupied = tmp_path / "notes.txt"
    occupied.write_text("mine")
    refused(run(*data, "-o", str(occupied), *SMALL), "notes.txt: is a file")
    refused(run(*data, "-o", str(occupied / "run"), *SMALL), "notes.txt: is a file")
    if not os.access("/proc", os.W_OK):
        refused(run(*data, "-o", "/proc/run", *SMALL), "/proc: cannot be written to")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):  # it is, for root
        refused(run(*data, "-o", str(locked / "run"), *SMALL), "locked: cannot be written to")
    assert occupied.read_text() == "mine"


def test_a_disk_too_full_to_begin_is_refused(camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6))  # type: ignore[attr-defined]
    refused(run("--data", f"camvid:{camvid}", "-o", str(tmp_path / "run"), *SMALL), "1 MB free, expected at least")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--crop", "50x50"), ("crop", "multiples of")),
        (("--scale", "big"), ("0.8-1.4",)),
        (("--scale", "2-1"), ("scale_min",)),
        (("--accumulate", "3"), ("cannot be dealt out",)),
        (("--patience", "2"), ("selection",)),
        (("--batch-norm", "sync", "--device", "cpu"), ("CUDA",)),
        (("--epochs", "-1"), ("epochs",)),
        (("--init", "/nowhere"), ("/nowhere",)),
        (("--backbone-weights", "/nowhere.safetensors"), ("ENet",)),
        (("--validation", "gta5:/nowhere"), ("/nowhere",)),
    ],
)
def test_options_that_will_not_do_are_one_message(
    arguments: tuple[str, ...], words: tuple[str, ...], camvid: Path, tmp_path: Path
) -> None:
    refused(run("--data", f"camvid:{camvid}", "-o", str(tmp_path / "run"), *SMALL, *arguments), *words)
    assert not (tmp_path / "run").exists()
