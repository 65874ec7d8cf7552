"""Adaptation studies: their plans, the figures against other code, the page, and a whole tiny study of the step to CamVid."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadworthy.agent.views import Scene, View, ViewsPlan, view_names
from roadworthy.eval.adaptation import adapt
from roadworthy.eval.adaptation_claims import CLAIMS, claimed_pairs, claims
from roadworthy.eval.adaptation_page import BEGIN, END, page, write_page
from roadworthy.eval.adaptation_pairs import ViewPair, view_pairs
from roadworthy.eval.adaptation_plan import (
    BOTH,
    METHODS,
    ORACLE,
    SOURCE_ONLY,
    STATISTICS,
    AdaptationStudy,
    RealPlan,
    ScenesPlan,
    load_adaptation,
    method_run,
    pair_run,
    real_trainings,
    save_adaptation,
    scene_trainings,
    study_trainings,
    views_plan,
)
from roadworthy.eval.adaptation_scores import SCENE_METHODS, class_accuracies, mean_accuracy, mean_iou, over_scenes, summarise
from roadworthy.eval.resampling import cluster_bootstrap
from roadworthy.eval.statistics import LEVEL, estimate
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.scores import confusion
from roadworthy.runtime.taxonomy import CAMVID, CARLA13


def named(pairs: list[ViewPair], kind: str) -> list[str]:
    return sorted(f"{pair.source}-{pair.target}" for pair in pairs if pair.kind == kind)


def views_of(*scenes: tuple[str, ...]) -> ViewsPlan:
    return ViewsPlan(scenes=tuple(Scene(place, {name: View() for name in views}) for place, views in enumerate(scenes)))


def test_the_pairs_are_the_papers() -> None:
    pairs = view_pairs(ViewsPlan())
    assert named(pairs, "points of view") == ["A1-B1", "A2-B2", "A3-B3", "B1-A1", "B2-A2", "B3-A3"]
    assert named(pairs, "scenes") == ["A1-A2", "A1-A3", "A2-A1", "A2-A3", "A3-A1", "A3-A2"]
    assert {pair.scenes for pair in pairs if pair.source == "A2"} == {(1, 1), (1, 0), (1, 2)}


def test_views_may_have_any_name() -> None:
    pairs = view_pairs(views_of(("north", "south"), ("north", "n2"), ("south",)))
    assert named(pairs, "points of view") == ["n22-north2", "north1-south1", "north2-n22", "south1-north1"]
    assert named(pairs, "scenes") == ["north1-north2", "north2-north1"]


@pytest.mark.parametrize(
    ("scenes", "message"),
    [
        ("[{spawn_point: 1, views: {A: {}}}, {spawn_point: 2, views: {B: {}}}]", "the views A1, B2 leave no pair"),
        (f"[{', '.join(['{spawn_point: 1, views: {A: {}, A1: {}}}'] * 11)}]", "two views would be recorded as A11"),
    ],
)
def test_views_without_pairs_are_refused(scenes: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "scenes.yaml").write_text(f"scenes: {scenes}\n")
    study = AdaptationStudy(scenes=ScenesPlan(views=str(tmp_path / "scenes.yaml")), real=None)
    with pytest.raises(BadInput, match=message):
        study.check("study")


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
        ("real: {rounds: 7}", "share the 360 adaptation_steps evenly"),
        ("{height: 190}", r"study.yaml: training option size is \(190, 192\), expected \(height, width\), both multiples of 8"),
        ("model: ennet", "training option model is 'ennet'"),
        ("threads: 0", "training option threads is 0"),
        ("scenes: {optimiser: adagrad}", "training option optimiser is 'adagrad'"),
        ("scenes: {schedule: cosine}", "training option schedule is 'cosine'"),
        ("scenes: {adaptation: scene-adaption}", "unknown objective 'scene-adaption'"),
        ("real: {learning_rate: 0.0}", "training option learning_rate is 0.0"),
        ("real: {discriminator_learning_rate: -1.0}", "training option critic_learning_rate is -1.0"),
        ("scenes: {frames: 0}", "frames is 0, expected at least 1"),
        ("scene: {}", "unknown key 'scene'; did you mean 'scenes'"),
        ("{", "not readable as YAML"),
    ],
)
def test_a_study_that_will_not_do_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(BadInput, match=message):
        load_adaptation(tmp_path / "study.yaml")


def test_the_shipped_study_fits_two_hours_of_two_cores() -> None:
    # CPU seconds per update at 192x256 (ENet, AMD EPYC): 8 labelled frames 0.51, AdvEnt with 4 + 4 0.73, others less; scene
    # adaptation with 1 + 1 0.74. Updates of self-training are of its rounds together.
    study, pixels = AdaptationStudy(), 144 * 192 / (192 * 256)
    assert study.height * study.width == 144 * 192
    assert BOTH not in RealPlan().methods
    seconds = 0.0
    for training in study_trainings(study, Path()):
        objective = training.config.objective
        rate = 0.74 if "scene-adaptation" in objective else 0.73 if "advent" in objective else 0.55
        rounds = 1 if training.rounds is None else training.rounds.rounds
        seconds += rate * pixels * training.config.steps * rounds
    assert seconds < 2 * 2 * 3600


def test_every_method_begins_with_one_network_and_makes_updates_of_one_size(tmp_path: Path) -> None:
    plan = RealPlan(seeds=(0, 1), methods=tuple(METHODS))
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
    assert len(trainings) == 6 + 2 * 12
    for training in trainings[6:]:
        source, target, *_ = training.name.split("-")
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


def test_ours_and_its_control_differ_in_what_they_learn_from_the_target_alone(tmp_path: Path) -> None:
    trainings = {each.name: each for each in scene_trainings(AdaptationStudy(), ScenesPlan(seeds=(0,)), tmp_path)}
    pair = view_pairs(ViewsPlan())[0]
    ours, control = (trainings[pair_run(method, pair, 0)].config for method in ("ours", STATISTICS))
    assert control.objective == "cross-entropy + minent(weight=0, auxiliary=0)"
    assert dataclasses.replace(control, objective=ours.objective) == ours


def difference(first: str, second: str, value: float, *, sure: bool = True, level: float = LEVEL) -> dict[str, object]:
    low, high = (value - 0.01, value + 0.01) if sure else (value - 0.05, value + 0.05)
    return {"first": first, "second": second, "value": value, "low": low, "high": high, "level": level, "distinguishable": sure}


@pytest.mark.parametrize(
    ("on_source", "on_statistics", "answer"),
    [
        ((0.02, True), (0.03, True), "Here: seen (against source only +2.0 points, 99 % interval +1.0 to +3.0; against target"),
        ((0.02, True), (0.01, False), "explained by batch statistics: better than source only, not than target statistics"),
        ((0.02, True), (-0.03, True), "explained by batch statistics: better than source only, not than target statistics"),
        ((-0.02, True), (0.03, True), "not seen: it is worse than source only (against source only -2.0 points"),
        ((0.02, False), (0.03, True), "not seen: cannot be told apart from source only (against source only +2.0 points"),
        ((0.02, False), (0.01, False), "cannot be told apart from source only and target statistics"),
        ((0.02, True), None, "not tested: the study does not compare MinEnt with target statistics"),
    ],
)
def test_claims_are_answered_by_intervals_against_both_controls(
    on_source: tuple[float, bool], on_statistics: tuple[float, bool] | None, answer: str
) -> None:
    found = [
        difference("MinEnt", control, each[0], sure=each[1], level=0.99)
        for control, each in ((SOURCE_ONLY, on_source), (STATISTICS, on_statistics))
        if each is not None
    ]
    sentences = claims({"differences": found})
    assert answer in sentences[0]
    assert all("not tested" in sentence for sentence in sentences[1:])


def test_both_together_must_be_better_than_each() -> None:
    place = next(index for index, claim in enumerate(CLAIMS) if claim.first == BOTH)
    on_advent = difference(BOTH, "AdvEnt", 0.02)
    for on_minent, answer in (
        (difference(BOTH, "MinEnt", 0.03), "Here: seen"),
        (difference(BOTH, "MinEnt", 0.03, sure=False), "cannot be told apart from MinEnt"),
        (difference(BOTH, "MinEnt", -0.03), "it is worse than MinEnt"),
    ):
        assert answer in claims({"differences": [on_advent, on_minent]})[place]
    assert (BOTH, "MinEnt") in claimed_pairs(tuple(METHODS))
    assert not any(BOTH in pair for pair in claimed_pairs(RealPlan().methods))


def write_scores(folder: Path, name: str, scores: dict[str, list[np.ndarray]]) -> None:
    told = {key: [matrix.tolist() for matrix in matrices] for key, matrices in scores.items()}
    path = folder / "scores" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"updates": 1, "seconds": 2.0, "scores": told}))


def matrix_of(accuracy: float, classes: int) -> np.ndarray:
    """Two classes of 1000 pixels each, that share of them right: the mean accuracy is `accuracy`."""
    right = round(1000 * accuracy)
    matrix = np.zeros((classes, classes), np.int64)
    matrix[:2, :2] = [[right, 1000 - right], [1000 - right, right]]
    return matrix


def overlap(accuracy: float) -> float:
    return accuracy / (2 - accuracy)


def write_scene_scores(plan: ScenesPlan, folder: Path, ours: dict[str, float]) -> None:
    """Everything is right in half of the pixels without adaptation and 0.6 of them with it, or as `ours` says by pair."""
    pairs = view_pairs(views_plan(plan))
    for seed in plan.seeds:
        for name in {pair.source for pair in pairs}:
            targets = [pair.target for pair in pairs if pair.source == name]
            found = {target: [matrix_of(0.5, len(CARLA13))] for target in targets} | {name: [matrix_of(0.9, len(CARLA13))]}
            write_scores(folder, f"{name}-s{seed}", found)
        for pair in pairs:
            share = ours.get(f"{pair.source}-{pair.target}", 0.6)
            for method, accuracy in ((STATISTICS, 0.55), ("ours", share)):
                write_scores(folder, pair_run(method, pair, seed), {pair.target: [matrix_of(accuracy, len(CARLA13))] * 2})


def test_three_scenes_are_too_few_to_tell_but_every_pair_is_shown(tmp_path: Path) -> None:
    plan = ScenesPlan()
    write_scene_scores(plan, tmp_path, {"B1-A1": 0.4})
    study = AdaptationStudy(scenes=plan, real=None)
    facts = summarise(study, tmp_path)
    for kind in ("points of view", "scenes"):
        found = facts["scenes"][kind]
        assert found["scenes"] == 3
        assert not any(each["distinguishable"] for each in found["differences"])
        assert list(found["methods"]) == list(SCENE_METHODS)
        assert all(figures["mean_iou"]["low"] is None for figures in found["methods"].values())
    points = facts["scenes"]["points of view"]
    expected = (5 * overlap(0.6) + overlap(0.4)) / 6
    assert points["methods"]["ours"]["mean_iou"]["value"] == pytest.approx(expected)
    assert points["methods"]["ours"]["mean_accuracy"]["value"] == pytest.approx((5 * 0.6 + 0.4) / 6)
    (first,) = (each for each in points["differences"] if each["second"] == "no adaptation")
    assert first["value"] == pytest.approx(expected - overlap(0.5))
    assert dict(zip(points["pairs"], first["of_pairs"], strict=True))["B1-A1"] == pytest.approx(-0.08333, abs=1e-5)
    text = page(study, facts)
    assert "| ours − target statistics | " in text
    assert "| 5 of 6 |" in text
    assert "ours against no adaptation: too few scenes to tell (3, at least 6 are needed); mIoU +6.5 points on average." in text
    assert "cannot be told apart" not in text


def test_many_scenes_can_be_told_apart(tmp_path: Path) -> None:
    views = tmp_path / "scenes.yaml"
    views.write_text(f"scenes: [{', '.join(['{spawn_point: 1, views: {A: {}, B: {}}}'] * 7)}]\n")
    plan = ScenesPlan(views=str(views), seeds=(0,))
    write_scene_scores(plan, tmp_path, {"B1-A1": 0.58, "A1-A2": 0.62})
    study = AdaptationStudy(scenes=plan, real=None)
    text = page(study, summarise(study, tmp_path))
    assert text.count("ours is better than target statistics: mIoU") == 2
    assert "95 % interval" in text
    assert "too few scenes" not in text


def test_intervals_over_scenes_cover_what_pairs_share() -> None:
    """Scene effects that all pairs of a scene share: the interval over scenes holds the truth, one over pairs would not."""
    rng = np.random.default_rng(0)
    pairs = [pair for pair in view_pairs(views_of(*[("A",)] * 8)) if pair.kind == "scenes"]
    held, narrow = 0, 0
    for repetition in range(60):
        effects = rng.normal(size=8)
        values = np.array([effects[pair.scenes[0]] + effects[pair.scenes[1]] for pair in pairs])
        resampling = cluster_bootstrap([str(place) for place in range(8)], seed=repetition)
        found = estimate(over_scenes(values, pairs), resampling)
        assert found.value == pytest.approx(values.mean())
        held += found.low <= 0 <= found.high
        narrow += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(len(values))
    assert held >= 54
    assert narrow <= 40


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


def test_a_study_of_cameras_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(plan: ViewsPlan, folder: Path, *_: object, **__: object) -> None:
        for name in view_names(plan):
            write_frames(folder / name, recording=True, count=8)

    monkeypatch.setattr("roadworthy.eval.adaptation.record_views", record)
    views = tmp_path / "scenes.yaml"
    views.write_text("scenes: [{spawn_point: 1, views: {near: {}, far: {}}}]\n")
    plan = ScenesPlan(
        views=str(views), seeds=(0,), steps=2, batch_size=2, adaptation_steps=2,
        adaptation="scene-adaptation(width=4, blocks=1)",
    )  # fmt: skip
    study = AdaptationStudy(height=32, width=64, threads=1, scenes=plan, real=None)
    facts = json.loads(adapt(study, tmp_path / "study").read_text())
    assert "#### Adaptation between points of view (near1-far1, far1-near1)" in page(study, facts)
    found = facts["scenes"]["points of view"]
    assert found["pairs"] == ["near1-far1", "far1-near1"]
    for method, run in (("no adaptation", "near1-s0"), (STATISTICS, "near1-far1-statistics-s0"), ("fine-tuning", "far1-s0")):
        scores = json.loads((tmp_path / "study" / "scores" / f"{run}.json").read_text())["scores"]
        matrix = np.array(scores["far1"]).sum(0)[None]
        other = {"near1-s0": "far1-s0", "far1-s0": "near1-s0"}.get(run, "far1-near1-statistics-s0")
        back = np.array(json.loads((tmp_path / "study" / "scores" / f"{other}.json").read_text())["scores"]["near1"]).sum(0)[
            None
        ]
        expected = (mean_iou(matrix)[0] + mean_iou(back)[0]) / 2
        assert found["methods"][method]["mean_iou"]["value"] == pytest.approx(expected)
    assert "scenes" not in facts["scenes"]  # no two scenes, no such pairs


def test_the_claims_alone_share_their_error(tmp_path: Path) -> None:
    plan = RealPlan(seeds=(0, 1))
    rng = np.random.default_rng(0)
    for method in plan.methods:
        for seed in plan.seeds:
            matrices = [matrix_of(rng.uniform(0.4, 0.6), len(CAMVID)) for _ in range(100)]
            write_scores(tmp_path, method_run(method, seed), {CAMVID.name: matrices})
    study = AdaptationStudy(scenes=None, real=plan)
    facts = summarise(study, tmp_path)
    claimed = claimed_pairs(plan.methods)
    assert len(claimed) == 8
    levels = {(each["first"], each["second"]): each["level"] for each in facts["real"]["differences"]}
    others = {pair: level for pair, level in levels.items() if pair not in claimed}
    assert [levels[pair] for pair in claimed] == pytest.approx([1 - 0.05 / 8] * 8)
    assert list(others.values()) == pytest.approx([LEVEL] * 4)
    assert set(others) == {
        (STATISTICS, SOURCE_ONLY), (ORACLE, SOURCE_ONLY), ("CRST-LRENT, Wasserstein", SOURCE_ONLY),
        ("CRST-LRENT, Wasserstein", STATISTICS),
    }  # fmt: skip
    lines = page(study, facts).splitlines()
    assert any(line.startswith("- oracle and source only") and "95 % interval" in line for line in lines)
    assert any(line.startswith("- MinEnt and source only") and "99.38 % interval" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real": RealPlan(camvid="TRAINLESS")}, "CamVid's split 'train'"),
        ({"real": RealPlan(camvid="GOOD", towns=("Grid01", "Atlantis"))}, "no town 'Atlantis'"),
        ({"real": RealPlan(camvid="GOOD", labels="minent")}, "add a term for the labelled ones"),
        (
            {"real": RealPlan(camvid="GOOD", labels="cross-entropy + minent")},
            "learns from a target's frames, expected one that",
        ),
        ({"real": RealPlan(camvid="GOOD"), "height": 24}, "AdvEnt's discriminator expects at least 32x32"),
        ({"scenes": ScenesPlan(adaptation="self-training")}, "learns from pseudo-labels, which only"),
        ({"scenes": ScenesPlan(adaptation="focal")}, "does not learn from a target's frames"),
        ({"scenes": ScenesPlan(adaptation="scene-adaptation(width=0)")}, "scene-adaptation's width is 0"),
    ],
)
def test_what_cannot_work_is_found_before_recording(
    changes: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "GOOD", recording=False, count=2)
    (tmp_path / "TRAINLESS").mkdir()
    for folder in ("val", "valannot"):
        (tmp_path / "GOOD" / folder).rename(tmp_path / "TRAINLESS" / folder)
        (tmp_path / "GOOD" / folder).symlink_to(tmp_path / "TRAINLESS" / folder)
    monkeypatch.chdir(tmp_path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("recording began")

    monkeypatch.setattr("roadworthy.eval.adaptation.record", never)
    monkeypatch.setattr("roadworthy.eval.adaptation.record_views", never)
    none: dict[str, object] = {"scenes": None, "real": None}
    with pytest.raises(BadInput, match=message):
        adapt(AdaptationStudy(**{"threads": 1, **none, **changes}), tmp_path / "study")  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()
