"""From a recording to the page with the real stages, as small as they go; the drives are made by hand (no simulator here)."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy

from roadworthy.agent.episodes import append_episode, read_episodes
from roadworthy.agent.witness import Look, Witness, sights, sights_folder
from roadworthy.eval import stages
from roadworthy.eval.compare import check_names, rebuild
from roadworthy.eval.entrants import entrants
from roadworthy.eval.evaluate import clusters_of, evaluate
from roadworthy.eval.figures import write_csv
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.image_scores import ImageScores, compare_scores
from roadworthy.eval.plan import make_jobs
from roadworthy.eval.report import write_report
from roadworthy.eval.results import collect, load_results
from roadworthy.eval.schedule import Job, order
from roadworthy.eval.sightings import SHOWN_EVENTS, load_sightings, predict_sights
from roadworthy.eval.study import PRESETS, ExistingData, ReadyModel, StudyConfig, save_study
from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.files import write_text
from roadworthy.runtime.scores import confusion
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.scripts.show_study import main as show_study
from roadworthy.train.data import open_dataset
from roadworthy.train.data.dataset import Dataset, Pair

from .conftest import episodes

QUICK = PRESETS["quick"]
assert QUICK.train is not None
assert QUICK.latency is not None
assert QUICK.drive is not None
TINY = replace(
    QUICK,
    name="tiny",
    height=64,
    width=128,
    train=replace(QUICK.train, objectives=("cross-entropy", "wasserstein"), pretrain_steps=20, finetune_steps=2, batch_size=2),
    latency=replace(QUICK.latency, rounds=10, warmup=1),
)


def write_recording(folder: Path, seed: int, drives: int = 3, frames: int = 3) -> None:
    """Write frames of coloured stripes with CARLA's tags, in the layout of a recording."""
    rng = np.random.default_rng(seed)
    (folder / "rgb").mkdir(parents=True)
    (folder / "semantic").mkdir()
    lines = []
    for i in range(drives * frames):
        tags = (
            np.repeat(rng.choice([1, 2, 3, 9, 11, 12, 14, 0], 8), 8)[:, None].repeat(128, axis=1).astype(np.uint8)
        )  # [64, 128]
        tags[20:40, 30 + i : 50 + i] = 14
        frame = np.stack([tags * 9, 200 - tags * 9, tags * 5], axis=-1) + rng.integers(0, 50, (64, 128, 3))
        Image.fromarray(frame.astype(np.uint8)).save(folder / "rgb" / f"{i:04d}.png")
        Image.fromarray(tags).save(folder / "semantic" / f"{i:04d}.png")
        lines.append(json.dumps({"name": f"{i:04d}", "episode": i // frames}))
    (folder / "meta.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_camvid(folder: Path) -> None:
    """Write a CamVid of one black image per split."""
    for part in ("train", "trainannot", "val", "valannot"):
        (folder / part).mkdir(parents=True)
        Image.fromarray(np.zeros((64, 128) if part.endswith("annot") else (64, 128, 3), np.uint8)).save(folder / part / "a.png")


def quiet(_text: str, _fraction: float) -> None:
    """Take progress and say nothing."""


def run_stage(folder: StudyFolder, job: Job) -> dict[str, Any]:
    """Run one job in this process and return its marker."""
    config = json.loads(json.dumps(job.config))  # as a worker gets it
    return {"seconds": 1.0, "result": getattr(stages, job.stage)(folder.root, config, quiet)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]]:
    """Run every stage of a tiny study but those that need a simulator."""
    folder = StudyFolder(tmp_path_factory.mktemp("study"))
    for split, seed in (("train", 0), ("test", 1)):
        write_recording(folder.recording(split), seed)
    first, second = entrants(TINY)
    jobs = [job for job in order(make_jobs(TINY, folder)).jobs if second.name not in job.name]
    markers: dict[str, Mapping[str, Any]] = {}
    for stage in ("train", "export"):
        markers |= {job.name: run_stage(folder, job) for job in jobs if job.stage == stage}
    # Exporting is slow: the second segmenter is a copy of the first.
    for path in (folder.model, folder.encoder):
        shutil.copy(path(first.name), path(second.name))
    markers[f"export-{second.name}"] = markers[f"export-{first.name}"]
    for job in make_jobs(TINY, folder):
        if job.stage in ("examples", "evaluate", "latency", "sketch"):
            markers[job.name] = run_stage(folder, job)
    rng = np.random.default_rng(0)
    for entrant in entrants(TINY):
        for episode in episodes(entrant.name, 1.2, rng):
            file = folder.episodes(entrant.name, 0, episode.town)
            append_episode(file, episode)
            witness = Witness(sights_folder(file, episode.id))
            for step in range(1, 31):
                frame = rng.integers(0, 255, (64, 128, 3), np.uint8)
                look = Look(frame, np.full((64, 128), 14, np.uint8), 4, 3.0)
                witness.see(step, look, len(episode.infractions) if step >= 25 else 0)
    return folder, TINY, markers


def test_what_was_seen_at_infractions_is_on_the_page(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]],
) -> None:
    folder, plan, markers = study
    name = entrants(plan)[0].name
    file = folder.episodes(name, 0, "Grid01")
    frames = sum(1 for episode in read_episodes(file) for _ in sights(sights_folder(file, episode.id)))
    assert frames > 0
    assert predict_sights(file, folder.model(name)) == frames
    assert predict_sights(file, folder.model(name)) == 0  # each frame once
    results = collect(folder, plan, markers, "the command")
    found = load_sightings(folder, results)
    drives = {drive["id"]: drive for drive in results["episodes"]}
    per_map = Counter((drives[name]["segmenter"], drives[name]["town"]) for name, _ in found)
    assert per_map
    assert max(per_map.values()) <= SHOWN_EVENTS
    for (episode, index), seen in found.items():
        assert 0 <= index < len(drives[episode]["infractions"])
        assert [view.offset for view in seen.views] == ["1.0 s before", "at the infraction", "0.5 s after"]
        predicted = drives[episode]["segmenter"] == name and drives[episode]["town"] == "Grid01"
        assert all(view.rgb and view.truth and bool(view.prediction) == predicted for view in seen.views)
    page = write_report(folder).read_text(encoding="utf-8")
    for seen in found.values():
        assert f'id="{seen.anchor}"' in page
        assert f'href="#{seen.anchor}"' in page


def test_a_finished_study_is_reported_from_its_files_alone(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    folder, plan, _ = study
    copy = StudyFolder(tmp_path / "copy")
    with pytest.raises(BadInput, match="holds no study"):
        rebuild(copy.root)
    shutil.copytree(folder.root, copy.root)
    save_study(plan, copy.study)
    jobs = make_jobs(plan, copy)
    for job in jobs[1:]:
        write_text(copy.stage(job.name), json.dumps({"fingerprint": "x", "seconds": 2.0, "result": {}}))
    with pytest.raises(BadInput, match=r"1 of \d+ jobs are not done \(record-train\); go on with: roadworthy compare"):
        rebuild(copy.root)
    write_text(copy.stage(jobs[0].name), json.dumps({"fingerprint": "x", "seconds": 2.0, "result": {"frames": 9}}))
    page = rebuild(copy.root)
    assert "cross-entropy" in page.read_text(encoding="utf-8")
    results = load_results(copy)
    tables = {path.stem: list(csv.DictReader(path.open())) for path in write_csv(results, tmp_path / "csv")}
    assert [row["label"] for row in tables["segmenters"]] == ["cross-entropy", "wasserstein"]
    assert float(tables["segmenters"][0]["miou"]) == pytest.approx(results["segmenters"][0]["metrics"]["miou"]["value"])
    assert len(tables["classes"]) == 2 * len(results["classes"])
    assert len(tables["episodes"]) == len(results["episodes"])
    assert sum(int(row["off_line"]) for row in tables["episodes"]) == sum(
        event["kind"] == "off_line" for drive in results["episodes"] for event in drive["infractions"]
    )
    assert {row["metric"] for row in tables["comparisons"]} == set(results["comparisons"])


def test_figures_and_page_come_from_the_files(study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]]) -> None:
    folder, plan, markers = study
    results = collect(folder, plan, markers, "roadworthy compare 'the command'")
    assert [segmenter["label"] for segmenter in results["segmenters"]] == ["cross-entropy", "wasserstein"]
    assert [segmenter["in_sample_severity"] for segmenter in results["segmenters"]] == [False, True]
    assert results["data"]["test_images"] == 9
    assert results["data"]["test_clusters"] == 3
    for segmenter in results["segmenters"]:
        assert segmenter["seeds"][0]["export"]["parity"]["agreement"] >= 0.999
        assert segmenter["drive"]["training"]["episodes"] == 4
        assert segmenter["updates"] == 22
        total = sum(map(sum, segmenter["severity_contributions"]))
        assert total == pytest.approx(segmenter["metrics"]["expected_severity"]["value"])
    assert not any(pair["distinguishable"] for pair in results["comparisons"]["miou"])  # one model twice
    assert results["towns"]["Crooked01"]["held_out"]
    routes = plan.drive.straight_routes + plan.drive.one_turn_routes + plan.drive.navigation_routes
    assert len(results["towns"]["Grid01"]["routes"]) == routes
    page = write_report(folder).read_text(encoding="utf-8")
    assert "roadworthy compare &#39;the command&#39;" in page
    assert page.split('id="severity"')[0].count("data:image/png;base64,") == stages.EXAMPLES * 3  # truth and two predictions


def test_an_evaluation_is_the_same_on_any_number_of_threads(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    folder, plan, _ = study
    data = f"recording:{folder.recording('test')}"
    model = folder.model(entrants(plan)[0].name)
    one, three = (evaluate(model, data, tmp_path / f"{threads}.json", threads=threads, batch=4) for threads in (1, 3))
    assert one["per_image"]["names"] == three["per_image"]["names"]
    assert one["per_image"]["bf"] == three["per_image"]["bf"]
    assert one["metrics"]["miou"] == pytest.approx(three["metrics"]["miou"])


def test_the_example_frames_in_one_picture(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    folder, plan, markers = study
    collect(folder, plan, markers, "the command")
    picture = tmp_path / "frames.png"
    result = CliRunner().invoke(show_study, [str(folder.root), str(picture)], catch_exceptions=False)
    assert result.exit_code == 0
    with Image.open(picture) as image:
        assert image.size[0] == 4 * (128 + 2)  # camera, truth and two segmenters
        assert image.size[1] > stages.EXAMPLES * 64


def test_an_evaluation_says_what_scores_of_each_image_add_up_to(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]],
) -> None:
    folder, plan, _ = study
    result = json.loads(folder.evaluation(entrants(plan)[0].name).read_text(encoding="utf-8"))
    scores = ImageScores.from_dict(result["per_image"], len(result["classes"]))
    assert scores.confusions.sum(axis=0).tolist() == result["confusion"]
    assert scores.confusions.sum() == 9 * 64 * 128 - _void_pixels(folder)
    kept = result["examples"][0]
    labels = np.asarray(Image.open(folder.frames(entrants(plan)[0].name) / f"{kept['index']:05d}.png"))
    truth = np.asarray(Image.open(folder.recording("test") / "semantic" / f"{kept['name']}.png")).astype(np.int64) - 1
    truth[truth < 0] = 255
    assert confusion(labels, truth, len(result["classes"])).tolist() == scores.confusions[kept["index"]].tolist()


def test_accuracy_of_classes_and_spread_of_confidence(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]],
) -> None:
    folder, plan, _ = study
    model, result_file = folder.model(entrants(plan)[0].name), folder.evaluation(entrants(plan)[0].name)
    result = json.loads(result_file.read_text(encoding="utf-8"))
    truth, total = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    means, of_squares = [], []
    segmenter = load(model, device="cpu")
    dataset = open_dataset(f"recording:{folder.recording('test')}")
    for index in range(len(dataset)):
        sample = dataset[index]
        found = segmenter(sample.image[None])
        valid = sample.labels != 255
        truth = torch.cat([truth, torch.from_numpy(sample.labels[valid].astype(np.int64))])
        total = torch.cat([total, torch.from_numpy(found.labels[0][valid].astype(np.int64))])
        means.append(found.confidence[0][valid].mean(dtype=np.float64))
        of_squares.append(np.square(found.confidence[0][valid], dtype=np.float64).mean())
    expected = MulticlassAccuracy(len(result["classes"]), average="none")(total, truth)
    for own, theirs in zip(result["per_class"]["accuracy"], expected.tolist(), strict=True):
        assert own is None or own == pytest.approx(theirs, abs=1e-6)
    spread = np.sqrt(np.mean(of_squares) - np.mean(means) ** 2)
    assert result["metrics"]["std_max_probability"]["value"] == pytest.approx(spread, abs=1e-6)


def test_images_that_look_alike_are_drawn_together() -> None:
    drive = [Pair(f"{clip}_{i:03d}", Path(), None, clip) for clip in ("0016E5", "Seq05VD") for i in range(15)]
    dataset = Dataset("here", CAMVID, drive)
    assert len(set(clusters_of(dataset, drives=True))) == 2
    blocks = clusters_of(dataset, drives=False)
    assert [blocks.count(name) for name in dict.fromkeys(blocks)] == [10, 5, 10, 5]
    loose = dataset.part([Pair(f"{i}", Path(), None) for i in range(4)])
    assert clusters_of(loose, drives=False) == ["0", "1", "2", "3"]


def _void_pixels(folder: StudyFolder) -> int:
    return sum(int((np.asarray(Image.open(path)) == 0).sum()) for path in (folder.recording("test") / "semantic").glob("*.png"))


def test_models_are_compared_on_the_same_images_only(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]],
) -> None:
    folder, plan, _ = study
    first, second = (json.loads(folder.evaluation(entrant.name).read_text(encoding="utf-8")) for entrant in entrants(plan))
    assert compare_scores({"a": [first], "b": [first]})["miou"][0].estimate.value == 0
    # Two seeds of one model, and a model without seeds: it stands beside both.
    (pair,) = compare_scores({"a": [first, first], "b": [first]})["miou"]
    assert pair.estimate.value == 0
    with pytest.raises(BadInput, match="has 2 seeds, expected 3"):
        compare_scores({"a": [first] * 2, "b": [first] * 3})
    second["per_image"]["names"][0] = "another"
    with pytest.raises(BadInput, match="other images"):
        compare_scores({"a": [first], "b": [second]})


def test_a_model_of_another_taxonomy_is_refused(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    folder, plan, _ = study
    write_camvid(tmp_path / "camvid")
    output = tmp_path / "out.json"
    with pytest.raises(BadInput, match=r"predicts the classes of 'town'.* labelled in 'camvid'"):
        evaluate(folder.model(entrants(plan)[0].name), f"camvid:{tmp_path / 'camvid'}", output, split="val")
    assert not output.exists()
    with pytest.raises(BadInput, match="outputs latent"):
        evaluate(folder.encoder(entrants(plan)[0].name), f"recording:{folder.recording('test')}", output)


def test_a_pretraining_below_the_floor_stops_the_study(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]],
) -> None:
    folder, _, _ = study
    reached = stages.floor(folder.root, {"names": ["pretrain-s0"], "floor_miou": 0.0}, quiet)["miou"]
    with pytest.raises(RoadworthyError, match=rf"reached a mean IoU of {reached:.3f}.*Raise train.pretrain_steps"):
        stages.floor(folder.root, {"names": ["pretrain-s0"], "floor_miou": 0.99}, quiet)
    better = json.loads((folder.run("pretrain-s0") / "metrics.json").read_text(encoding="utf-8"))
    better["validation"]["mean_iou"] = reached + 0.2
    folder.run("pretrain-s1").mkdir()
    (folder.run("pretrain-s1") / "metrics.json").write_text(json.dumps(better), encoding="utf-8")
    both = stages.floor(folder.root, {"names": ["pretrain-s0", "pretrain-s1"], "floor_miou": reached + 0.1 - 1e-9}, quiet)
    assert both["miou"] == pytest.approx(reached + 0.1)  # the mean of the seeds counts


def test_ready_models_that_do_not_fit_are_refused(
    study: tuple[StudyFolder, StudyConfig, Mapping[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    folder, plan, _ = study
    name = entrants(plan)[0].name
    whole, encoder = folder.model(name), folder.encoder(name)

    def check(path: Path, **change: Any) -> None:
        check_names(replace(plan, models=(ReadyModel("theirs", str(path)),), **change))

    check(whole)
    with pytest.raises(BadInput, match=r"is no \.onnx file; make one with roadworthy adopt"):
        check(tmp_path / "absent.onnx")
    with pytest.raises(BadInput, match="has no output confidence, labels"):
        check(encoder)
    with pytest.raises(BadInput, match="takes frames of 128x64, the drivers see 256x128"):
        check(whole, height=128, width=256)
    write_camvid(tmp_path / "camvid")
    data = ExistingData(f"camvid:{tmp_path / 'camvid'}")
    with pytest.raises(BadInput, match="predicts the classes of 'town', the test data are labelled in 'camvid'"):
        check(whole, train=None, train_data=data, test_data=data, drive=None)
    with pytest.raises(BadInput, match="train_data has the classes of 'town', test_data those of 'camvid'"):
        check_names(replace(plan, test_data=data))
