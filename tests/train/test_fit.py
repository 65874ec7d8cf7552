"""The training loop: one tester for every segmenter and objective that is registered, and what can go wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.checkpoint import load_run
from roadworthy.train.config import TrainConfig, load_config
from roadworthy.train.fit import FitResult, fit
from roadworthy.train.ground import severity
from roadworthy.train.models import build_model
from roadworthy.train.objectives import Schedule


def tiny(data: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        data=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, steps=60, learning_rate=1e-2, threads=1,
        workers=1, tensorboard=False,
    )  # fmt: skip
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tiny_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(tiny(tiny_camvid), tmp_path_factory.mktemp("runs") / "run")


def test_a_run_folder_holds_what_the_design_says(trained: FitResult) -> None:
    names = {path.name for path in trained.run.iterdir()}
    assert names == {"config.yaml", "config.json", "model.safetensors", "last.ckpt.safetensors", "metrics.json"}
    metrics = json.loads((trained.run / "metrics.json").read_text())
    assert metrics["validation"]["mean_iou"] == trained.validation.mean_iou
    assert metrics["steps"] == 60


def test_a_loaded_run_predicts_as_it_did(trained: FitResult, tiny_camvid: Path) -> None:
    model, config, taxonomy = load_run(trained.run)
    assert not model.training
    assert (taxonomy, config.data) == (CAMVID, f"camvid:{tiny_camvid}")
    assert config == load_config(trained.run / "config.yaml")
    from roadworthy.train.data import open_dataset
    from roadworthy.train.data.frames import Frames
    from roadworthy.train.validation import validate

    again = validate(model, Frames(open_dataset(config.data, "val"), config.size), torch.device("cpu"))
    assert again.iou == pytest.approx(trained.validation.iou, abs=1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tiny_camvid: Path, tmp_path: Path) -> None:
    weights = []
    for run, seed in enumerate((1, 1, 2)):
        fit(tiny(tiny_camvid, steps=2, seed=seed), tmp_path / str(run))
        weights.append(load_file(tmp_path / str(run) / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_torchs_random_state_and_threads_are_left_alone(tiny_camvid: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(tiny(tiny_camvid, steps=1), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_fine_tuning_starts_from_the_weights_of_another_run(trained: FitResult, tiny_camvid: Path, tmp_path: Path) -> None:
    config = tiny(tiny_camvid, init=str(trained.run), steps=1, learning_rate=1e-12)
    result = fit(config, tmp_path / "run")
    # One step of no length changes nothing but the running statistics of the normalisations.
    before, after = load_file(trained.run / "model.safetensors"), load_file(result.run / "model.safetensors")
    assert all(
        torch.allclose(before[key], after[key], atol=1e-9) for key in before if "running" not in key and "num" not in key
    )


def test_initial_weights_of_another_taxonomy_are_refused(tiny_camvid: Path, tmp_path: Path, trained: FitResult) -> None:
    facts = json.loads((trained.run / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    from roadworthy.runtime.taxonomy import CITYSCAPES
    from roadworthy.train.checkpoint import save_model

    save_model(other, build_model("plain", 19), tiny(tiny_camvid), CITYSCAPES)
    tiny(tiny_camvid).save(other / "config.yaml")
    assert facts["taxonomy"] == "camvid"
    with pytest.raises(BadInput, match="plain for 'cityscapes', expected a plain for 'camvid'"):
        fit(tiny(tiny_camvid, init=str(other)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_returned_on_resume_and_protected_otherwise(trained: FitResult) -> None:
    config = load_config(trained.run / "config.yaml")
    assert fit(config, trained.run, resume=True) == trained
    with pytest.raises(BadInput, match="holds a run already"):
        fit(config, trained.run)
    with pytest.raises(BadInput, match=r"another configuration \(seed: 0 -> 3\)"):
        fit(dataclasses.replace(config, seed=3), trained.run, resume=True)


def test_a_loss_that_is_no_number_stops_the_training_by_name(
    tiny_camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "roadworthy.train.objectives.wasserstein.wasserstein", lambda logits, target, cost: logits.sum() * float("nan")
    )
    with pytest.raises(RoadworthyError, match="iteration 0: the loss term 'wasserstein' is nan"):
        fit(tiny(tiny_camvid, objective="cross-entropy + wasserstein"), tmp_path / "run")


def test_bad_input_leaves_no_run_folder(own_camvid: Path, tmp_path: Path) -> None:
    label = own_camvid / "valannot" / "0001.png"
    label.write_bytes(label.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"0001\.png"):
        fit(tiny(own_camvid), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gambler_that_would_never_play_is_refused(tiny_camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the gambler would never have a turn"):
        fit(tiny(tiny_camvid, objective="gambling"), tmp_path / "run")


def test_a_ground_file_is_checked_against_the_data(tiny_camvid: Path, tmp_path: Path) -> None:
    path = tmp_path / "ground.yaml"
    severity(CAMVID).save(path)
    assert fit(tiny(tiny_camvid, objective="wasserstein", ground=str(path), steps=1), tmp_path / "run").steps == 1
    path.write_text(path.read_text().replace('"sky"', '"cloud"'))
    with pytest.raises(BadInput, match="class 0 is 'cloud', expected 'sky'"):
        fit(tiny(tiny_camvid, objective="wasserstein", ground=str(path), steps=1), tmp_path / "run2")


def test_progress_ends_at_one_and_names_the_losses(tiny_camvid: Path, tmp_path: Path) -> None:
    said: list[tuple[str, float]] = []
    fit(tiny(tiny_camvid, steps=2), tmp_path / "run", progress=lambda text, fraction: said.append((text, fraction)))
    fractions = [fraction for _, fraction in said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("cross-entropy" in text for text, _ in said)


def test_curves_are_written_for_tensorboard(tiny_camvid: Path, tmp_path: Path) -> None:
    fit(tiny(tiny_camvid, steps=1, tensorboard=True), tmp_path / "run")
    assert any((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"size": (30, 64)},
        {"learning_rate": 0.0},
        {"device": "tpu"},
        {"model": "hourglass"},
        {"objective": "luck"},
    ],
)
def test_a_configuration_that_will_not_do_is_refused(change: dict[str, object], tiny_camvid: Path) -> None:
    with pytest.raises(BadInput):
        tiny(tiny_camvid, **change)


def test_a_configuration_file_round_trips_and_names_unknown_fields(tiny_camvid: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    config = tiny(tiny_camvid, objective="gambling(weight=0.5)", init="somewhere")
    config.save(path)
    assert load_config(path) == config
    path.write_text(path.read_text() + "learning_rat: 1\n")
    with pytest.raises(BadInput, match="unknown field learning_rat"):
        load_config(path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network"])
def test_a_damaged_run_is_refused(trained: FitResult, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "config.json", "model.safetensors"):
        (run / name).write_bytes((trained.run / name).read_bytes())
    weights = run / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, weights)
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        load_run(run)


def test_turns_are_counted_by_both_players() -> None:
    schedule = Schedule(segmenter=3, critic=2)
    assert [schedule.is_critic(i) for i in range(7)] == [False, False, False, True, True, False, False]
    assert [schedule.iterations(steps) for steps in (1, 3, 4, 6, 7)] == [1, 3, 6, 8, 11]
    for steps in range(1, 12):
        turns = [schedule.is_critic(i) for i in range(schedule.iterations(steps))]
        assert turns.count(False) == steps
        assert turns[-1] is False
    assert Schedule().iterations(5) == 5
