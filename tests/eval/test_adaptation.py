"""Adaptation studies: their plans, the figures against other code, the page, and a whole tiny study of the step to CamVid."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadworthy.eval.adaptation import adapt
from roadworthy.eval.adaptation_page import BEGIN, END, claims, page, write_page
from roadworthy.eval.adaptation_plan import (
    CLAIMS,
    METHODS,
    ORACLE,
    SOURCE_ONLY,
    AdaptationStudy,
    RealPlan,
    ScenesPlan,
    load_adaptation,
    real_trainings,
    save_adaptation,
    scene_trainings,
    view_pairs,
)
from roadworthy.eval.adaptation_scores import class_accuracies, mean_accuracy, mean_iou
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import confusion

VIEWS = ["A1", "B1", "A2", "B2", "A3", "B3"]


def test_the_pairs_are_the_papers() -> None:
    pairs = view_pairs(VIEWS)
    points = [f"{source}-{target}" for kind, source, target in pairs if kind == "points of view"]
    scenes = [f"{source}-{target}" for kind, source, target in pairs if kind == "scenes"]
    assert sorted(points) == ["A1-B1", "A2-B2", "A3-B3", "B1-A1", "B2-A2", "B3-A3"]
    assert sorted(scenes) == ["A1-A2", "A1-A3", "A2-A1", "A2-A3", "A3-A1", "A3-A2"]


def test_a_study_survives_its_file(tmp_path: Path) -> None:
    study = AdaptationStudy(scenes=ScenesPlan(optimiser="sgd"), real=RealPlan(seeds=(4,)))
    save_adaptation(study, tmp_path / "study.yaml")
    assert load_adaptation(tmp_path / "study.yaml") == study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenes: null\nreal: null", "at least one experiment"),
        ("real: {seeds: [1, 1]}", "different whole numbers"),
        ("real: {methods: [MinEnt]}", "expected 'source only' and any of"),
        ("real: {rounds: 0}", "rounds is 0"),
        ("scenes: {frames: 0}", "frames is 0, expected at least 1"),
        ("scene: {}", "unknown key 'scene'; did you mean 'scenes'"),
        ("{", "not readable as YAML"),
    ],
)
def test_a_study_that_will_not_do_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(BadInput, match=message):
        load_adaptation(tmp_path / "study.yaml")


def test_every_method_begins_with_one_network_and_makes_updates_of_one_size(tmp_path: Path) -> None:
    plan = RealPlan(seeds=(0, 1))
    trainings = real_trainings(AdaptationStudy(), plan, tmp_path)
    assert len({training.name for training in trainings}) == 2 * (1 + len(METHODS))
    for training in trainings:
        config = training.config
        if config.init is None:
            continue
        assert config.init == str(tmp_path / "runs" / f"town-s{config.seed}")
        assert config.batch_size * (1 if config.target is None else 2) == 2 * plan.adaptation_batch_size
        assert config.steps * (1 if training.rounds is None else training.rounds.rounds) == plan.adaptation_steps
        assert config.data.startswith("camvid" if training.name.startswith(ORACLE) else "recording")
        assert config.classes == "camvid"


def test_the_cameras_labels_are_learnt_where_they_are_known_alone(tmp_path: Path) -> None:
    trainings = scene_trainings(AdaptationStudy(), ScenesPlan(seeds=(0,)), tmp_path)
    assert len(trainings) == 6 + 12
    for training in trainings[6:]:
        source, target, _ = training.name.split("-")
        assert training.config.data.endswith(source)
        assert training.config.target is not None
        assert training.config.target.endswith(target)
        assert list(training.scored_on) == [target]
    assert set(trainings[0].scored_on) == {"A1", "B1", "A2", "A3"}  # its own (fine-tuning) and as a source (no adaptation)


def test_figures_are_those_of_another_library() -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 3], (4, 20, 20))
    guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice([0, 1, 3], truth.shape))
    matrices = confusion(guess, truth, 4)[None]
    pair = torch.from_numpy(guess), torch.from_numpy(truth)
    accuracies = MulticlassAccuracy(4, average="none")(*pair).numpy()
    np.testing.assert_allclose(class_accuracies(matrices)[0, [0, 1, 3]], accuracies[[0, 1, 3]], atol=1e-6)
    assert np.isnan(class_accuracies(matrices)[0, 2])
    overlaps = MulticlassJaccardIndex(4, average="none")(*pair).numpy()
    assert mean_iou(matrices)[0] == pytest.approx(overlaps[[0, 1, 3]].mean(), abs=1e-6)
    assert mean_accuracy(matrices)[0] == pytest.approx(accuracies[[0, 1, 3]].mean(), abs=1e-6)


def test_claims_are_answered_by_intervals() -> None:
    def difference(value: float, low: float, high: float, sure: bool) -> dict[str, object]:
        return {"value": value, "low": low, "high": high, "distinguishable": sure}

    first, second, _ = CLAIMS[0]
    for found, answer in (
        (difference(0.02, 0.01, 0.03, True), "seen (+2.0 points, +1.0 to +3.0)"),
        (difference(-0.02, -0.03, -0.01, True), "not seen: the opposite was found"),
        (difference(0.02, -0.01, 0.05, False), "not seen: cannot be told apart"),
    ):
        sentences = claims({"differences": [{"first": first, "second": second, **found}]})
        assert answer in sentences[0]
        assert all("not tested" in sentence for sentence in sentences[1:])


def write_frames(root: Path, recording: bool, count: int) -> None:
    """Sky over road with a car, as CARLA tags or CamVid ids; the two look different."""
    rng = np.random.default_rng(int(recording))
    sky, road, car = (11, 1, 14) if recording else (0, 3, 8)
    colours = {sky: (120, 160, 220), road: (90, 90, 90), car: (200, 40, 30)}
    splits = ("",) if recording else ("train", "val")
    lines = []
    for split in splits:
        images, labels = (root / "rgb", root / "semantic") if recording else (root / split, root / f"{split}annot")
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            ids = np.full((32, 64), sky, np.uint8)
            ids[16:] = road
            left = int(rng.integers(4, 40))
            ids[12:22, left : left + 16] = car
            table = np.zeros((256, 3))
            for each, colour in colours.items():
                table[each] = colour
            image = table[ids] * (1.0 if recording else 0.6) + rng.normal(0, 12, (32, 64, 3))
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(images / f"{index:04d}.png")
            Image.fromarray(ids).save(labels / f"{index:04d}.png")
            lines.append(json.dumps({"name": f"{index:04d}", "episode": index // 4}) + "\n")
    if recording:
        (root / "meta.jsonl").write_text("".join(lines))


def test_a_whole_study_runs_goes_on_and_writes_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "camvid", recording=False, count=12)
    monkeypatch.setattr(
        "roadworthy.eval.adaptation.record", lambda plan, folder, progress: write_frames(folder, recording=True, count=8)
    )
    plan = RealPlan(
        camvid=str(tmp_path / "camvid"), methods=(SOURCE_ONLY, "MinEnt", "CRST-LRENT, Wasserstein"), seeds=(0, 1),
        steps=4, batch_size=4, adaptation_steps=2, adaptation_batch_size=2, rounds=1,
    )  # fmt: skip
    study = AdaptationStudy(height=32, width=64, threads=1, scenes=None, real=plan)
    folder = tmp_path / "study"
    results = adapt(study, folder)
    facts = json.loads(results.read_text())["real"]
    assert facts["images"] == 12
    for method, figures in facts["methods"].items():
        matrices = [
            np.array(json.loads((folder / "scores" / f"{name}.json").read_text())["scores"]["camvid"]).sum(0)
            for name in (path.stem for path in sorted((folder / "scores").glob(f"{method.split(',')[0].split(' ')[0]}*.json")))
        ]
        expected = np.mean([mean_iou(each[None])[0] for each in matrices])
        assert figures["mean_iou"]["value"] == pytest.approx(expected)
        assert figures["updates"] == 2
    before = results.stat().st_mtime_ns, (folder / "runs" / "MinEnt-s0" / "metrics.json").stat().st_mtime_ns
    (folder / "scores" / "MinEnt-s1.json").unlink()  # interrupted there
    assert json.loads(adapt(study, folder).read_text())["real"]["methods"]["MinEnt"] == facts["methods"]["MinEnt"]
    assert (folder / "runs" / "MinEnt-s0" / "metrics.json").stat().st_mtime_ns == before[1]
    with pytest.raises(BadInput, match="holds another study"):
        adapt(dataclasses.replace(study, width=96), folder)
    path = tmp_path / "page.md"
    path.write_text(f"# Before\n{BEGIN}\nformer tables\n{END}\nafter\n")
    write_page(path, study, {"real": facts})
    text = path.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("after\n")
    assert "former tables" not in text
    assert "| CRST-LRENT, Wasserstein |" in text
    assert page(study, {"real": facts}) in text
    with pytest.raises(BadInput, match="expected a Markdown file with the lines"):
        write_page(tmp_path / "other.md", study, {"real": facts})
