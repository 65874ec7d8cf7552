"""What the loop does besides learning: choose, stop, average, slow down, show, and stay small."""

from __future__ import annotations

import dataclasses
import gc
import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from roadworthy.runtime.errors import BadInput
from roadworthy.train.checkpoint import load_run, load_training
from roadworthy.train.config import TrainConfig
from roadworthy.train.data import open_dataset
from roadworthy.train.fit import fit, load_result
from roadworthy.train.loop import Trainer
from roadworthy.train.optimisation import rate_factor
from roadworthy.train.selection import Selected, split_selection


def config(data: Path, **changes: object) -> TrainConfig:
    base = TrainConfig(
        data=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, steps=12, learning_rate=1e-2, threads=1, workers=1,
        tensorboard=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_the_best_checkpoint_is_chosen_by_frames_of_its_own(
    tiny_camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[tuple[int, set[str]]] = []
    scores = Trainer.scores

    def falling(self, frames):  # type: ignore[no-untyped-def]
        """Scores that are best at iteration 6, whatever the network is worth."""
        result = scores(self, frames)
        scored.append((self.iteration, {frames[index].image.tobytes() for index in range(len(frames))}))
        return dataclasses.replace(result, mean_iou=1 - abs(self.iteration - 6) / 100)

    monkeypatch.setattr(Trainer, "scores", falling)
    result = fit(config(tiny_camvid, selection=0.25, select_every=3, checkpoint_every=6, steps=11), tmp_path / "run")
    assert result.selected == Selected(frames=2, iteration=6, mean_iou=1.0, worse_since=2)
    assert [iteration for iteration, _ in scored] == [3, 6, 9, 11, 11]  # the last one is the reported validation
    chosen_by, reported = scored[0][1], scored[-1][1]
    trained_on = {sample.image.tobytes() for sample in map(open_dataset(f"camvid:{tiny_camvid}").__getitem__, range(8))}
    assert chosen_by < trained_on
    assert not chosen_by & reported
    best, model = load_file(tmp_path / "run" / "best.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    last = load_training(tmp_path / "run" / "last.ckpt.safetensors")[0]["model"]
    assert all(torch.equal(best[key], model[key]) for key in best)
    assert any(not torch.equal(last[key], model[key]) for key in best)
    assert load_result(tmp_path / "run") == result


def test_selection_frames_are_not_trained_on(tiny_camvid: Path) -> None:
    training = open_dataset(f"camvid:{tiny_camvid}", "train")
    rest, selection = split_selection(training, 0.25)
    assert selection is not None
    assert not {pair.image for pair in rest.pairs} & {pair.image for pair in selection.pairs}
    assert len(rest) + len(selection) == len(training)
    assert split_selection(training, 0.0) == (training, None)
    with pytest.raises(BadInput, match="cannot give up"):
        split_selection(training.part(training.pairs[:1]), 0.5)


def test_training_stops_when_patience_ends(tiny_camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Trainer.scores
    monkeypatch.setattr(
        Trainer, "scores", lambda self, frames: dataclasses.replace(scores(self, frames), mean_iou=0.5 - self.iteration / 100)
    )
    plan = config(tiny_camvid, steps=40, selection=0.25, select_every=2, patience=3)
    result = fit(plan, tmp_path / "run")
    assert (result.steps, result.iterations) == (8, 8)
    assert result.selected == Selected(2, 2, 0.48, 3)
    assert fit(plan, tmp_path / "run", resume=True) == result
    (tmp_path / "run" / "metrics.json").unlink()  # killed between the last checkpoint and the end
    assert fit(plan, tmp_path / "run", resume=True).iterations == 8


def test_patience_needs_something_to_judge_by(tiny_camvid: Path) -> None:
    with pytest.raises(BadInput, match="patience is 3, expected used with a selection above 0"):
        config(tiny_camvid, patience=3)


def test_the_averaged_weights_are_kept(tiny_camvid: Path, tmp_path: Path) -> None:
    decay, steps = 0.7, 3
    shown = []
    for number in range(1, steps + 1):  # the same training, stopped after each update, shows its weights
        fit(config(tiny_camvid, steps=number, schedule="constant"), tmp_path / str(number))
        shown.append(load_file(tmp_path / str(number) / "model.safetensors")["classifier.weight"])
    fit(config(tiny_camvid, steps=steps, schedule="constant", ema=decay), tmp_path / "ema")
    expected = shown[0]
    for weights in shown[1:]:
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(load_file(tmp_path / "ema" / "model.safetensors")["classifier.weight"], expected)


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"), [("linear", 0.5, 0.0), ("poly", 0.5**0.9, 0.0), ("constant", 1.0, 1.0)]
)
def test_learning_rates_fall(schedule: str, halfway: float, end: float, tiny_camvid: Path) -> None:
    plan = config(tiny_camvid, schedule=schedule)
    assert [rate_factor(plan, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([1.0, halfway, end])


def test_sgd_is_torchs_sgd(tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, optimiser="sgd", momentum=0.8, weight_decay=0.01, schedule="constant", steps=2)
    taken: list[dict[str, torch.Tensor]] = []
    update = Trainer._update

    def watched(self, *arguments):  # type: ignore[no-untyped-def]
        taken.append({name: value.detach().clone() for name, value in self.players.segmenter.module.named_parameters()})
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_update", watched)
        fit(plan, tmp_path / "run")
    after = load_file(tmp_path / "run" / "model.safetensors")
    momentum = {
        key: value for key, value in load_file(tmp_path / "run" / "last.ckpt.safetensors").items() if "optimiser" in key
    }
    assert all(key.endswith("momentum_buffer") for key in momentum)
    for index, name in enumerate(taken[1]):
        buffer = momentum[f"optimiser/{index}.momentum_buffer"]
        torch.testing.assert_close(after[name], taken[1][name] - 1e-2 * buffer)


def test_epochs_count_passes_through_the_data(tiny_camvid: Path, tmp_path: Path) -> None:
    assert fit(config(tiny_camvid, epochs=1.5, batch_size=3), tmp_path / "run").steps == 4  # 1.5 x 8 / 3


def test_bf16_learns_what_fp32_learns(tiny_camvid: Path, tmp_path: Path) -> None:
    scores = [
        fit(config(tiny_camvid, steps=40, precision=precision), tmp_path / precision).validation.accuracy
        for precision in ("32-true", "bf16-mixed")
    ]
    assert min(scores) > 0.9
    weights = load_file(tmp_path / "bf16-mixed" / "model.safetensors")
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())


def test_crops_train_and_whole_frames_are_scored(tiny_camvid: Path, tmp_path: Path) -> None:
    result = fit(config(tiny_camvid, crop=(16, 32), steps=40), tmp_path / "run")
    assert result.validation.accuracy > 0.85
    assert load_run(result.run)[1].size == (32, 64)
    with pytest.raises(BadInput, match="crop is"):
        config(tiny_camvid, crop=(15, 32))


def test_bad_samples_are_skipped_when_asked(own_camvid: Path, tmp_path: Path) -> None:
    (own_camvid / "train" / "0000.png").write_bytes(b"no image")
    (own_camvid / "valannot" / "0001.png").unlink()
    with pytest.raises(BadInput, match="2 of 6 samples"):
        fit(config(own_camvid, steps=1), tmp_path / "run")
    result = fit(config(own_camvid, steps=1, skip_bad=True), tmp_path / "run")
    assert (result.skipped, result.validation.frames) == (2, 1)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["skipped"] == 2


def test_classes_of_ones_own_train_and_load(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "mine"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for index in range(10):
        labels = rng.integers(0, 2, (8, 16), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(labels).save(root / "labels" / f"{index}.png")
        Image.fromarray(np.stack([labels * 200] * 3, 2)).save(root / "images" / f"{index}.png")
    (root / "classes.yaml").write_text(
        "name: docks\nclasses:\n- {name: quay, colour: [1, 2, 3], group: 2}\n- {name: crane, colour: [4, 5, 6], group: 4}\n"
    )
    plan = dataclasses.replace(config(root, steps=30), data=f"folder:{root}")
    result = fit(plan, tmp_path / "run")
    assert result.validation.accuracy > 0.9
    taxonomy = load_run(result.run)[2]
    assert (taxonomy.name, taxonomy.classes, taxonomy.groups[4]) == ("docks", ("quay", "crane"), ("crane",))
    with pytest.raises(BadInput, match="no severity is known for quay, crane"):
        fit(dataclasses.replace(plan, objective="wasserstein"), tmp_path / "other")
    assert fit(dataclasses.replace(plan, objective="wasserstein", ground="importance", steps=1), tmp_path / "other").steps == 1


def test_tensorboard_shows_losses_and_pictures(tiny_camvid: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = config(
        tiny_camvid, objective="gambling(segmenter_steps=6, gambler_steps=6)", tensorboard=True, selection=0.25, select_every=6
    )
    fit(plan, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"loss/cross-entropy", "loss/gambling", "loss/gambler", "selection/mean_iou"} <= set(events.Tags()["scalars"])
    shown = events.Images("frame, truth, prediction/0000")
    assert (shown[-1].height, shown[-1].width) == (32, 4 * 64)  # frame, truth, prediction, bets
    picture = tmp_path / "shown.png"
    picture.write_bytes(shown[-1].encoded_image_string)
    columns = np.split(np.asarray(Image.open(picture)), 4, axis=1)
    sample = open_dataset(f"camvid:{tiny_camvid}", "val")[0]
    np.testing.assert_array_equal(columns[0], sample.image)
    np.testing.assert_array_equal(columns[1], open_dataset(f"camvid:{tiny_camvid}", "val").taxonomy.colourise(sample.labels))
    assert columns[3].max() == 255  # the highest bet is white


def test_pictures_change_nothing(tiny_camvid: Path, tmp_path: Path) -> None:
    for shown in (True, False):
        plan = config(tiny_camvid, model="enet", steps=3, checkpoint_every=1, batch_norm="frozen", tensorboard=shown)
        fit(plan, tmp_path / str(shown))
    with_pictures, without = (load_file(tmp_path / str(shown) / "model.safetensors") for shown in (True, False))
    assert all(torch.equal(with_pictures[key], without[key]) for key in without)


def test_memory_stays_flat(tiny_camvid: Path, tmp_path: Path) -> None:
    process, resident = psutil.Process(), list[int]()
    update = Trainer._update

    def watched(self, *arguments):  # type: ignore[no-untyped-def]
        if self.iteration % 50 == 0:
            gc.collect()
            resident.append(process.memory_info().rss)
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_update", watched)
        fit(config(tiny_camvid, steps=250, ema=0.9, selection=0.25, select_every=25, checkpoint_every=25), tmp_path / "run")
    # Per update a batch is 25 kB and its graph several times that: one that is kept would be 10 MB or more per 150 updates.
    assert max(resident[2:]) - resident[1] < 4e6, resident
