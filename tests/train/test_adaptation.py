"""Learning from frames that nobody labelled: formulas, networks, gradients, data, and the loop that runs them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, CARLA13, TOWN
from roadworthy.train.config import TrainConfig
from roadworthy.train.data.augment import Augmentation, augment
from roadworthy.train.data.dataset import Dataset, Pair, Sample
from roadworthy.train.data.folding import FOLDINGS, TOWN_TO_CAMVID, fold_classes
from roadworthy.train.data.pseudo import load_facts
from roadworthy.train.data.target import open_target
from roadworthy.train.fit import FitResult, fit
from roadworthy.train.ground import severity
from roadworthy.train.losses import entropy, logit_entropy, logit_self_information, self_information
from roadworthy.train.models import build_model, patchgan
from roadworthy.train.models.domain import DomainDiscriminator
from roadworthy.train.models.johnson import JohnsonGenerator
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Setting, build_objective
from roadworthy.train.rounds import RoundsPlan, default_objective, self_train

CLASSES = len(CAMVID)
OBJECTIVES = [
    "cross-entropy + minent",
    "cross-entropy + minent + advent",
    "cross-entropy + scene-adaptation(width=4, blocks=1)",
    "gambling(segmenter_steps=2, gambler_steps=1) + minent",
]


@pytest.fixture(autouse=True)
def narrow_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchgan, "WIDTHS", (8, 16, 32, 64))


def config(data: Path, **changes: object) -> TrainConfig:
    base = TrainConfig(
        data=f"camvid:{data}", target=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, steps=6, learning_rate=1e-2,
        threads=1, workers=1, tensorboard=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def setting(model: str = "plain") -> Setting:
    return Setting(model, CAMVID, np.ones(CLASSES, np.int64), severity(CAMVID), 100)


def example() -> Batch:
    generator = torch.Generator().manual_seed(0)
    frames, unlabelled = torch.randn(2, 2, 3, 64, 64, generator=generator)
    return Batch(frames, torch.randint(0, CLASSES, (2, 64, 64), generator=generator), unlabelled)


def test_entropy_is_0_where_certain_and_1_where_uniform() -> None:
    logits = torch.zeros(1, CLASSES, 1, 2, dtype=torch.float64)
    logits[0, 3, 0, 1] = 200.0
    assert logit_entropy(logits).flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-12)


def test_entropy_of_logits_is_that_of_their_probabilities() -> None:
    logits = 3 * torch.randn(2, CLASSES, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probs = torch.softmax(logits, 1)
    expected = -(probs * probs.log()).numpy() / np.log(CLASSES)
    np.testing.assert_allclose(logit_self_information(logits).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(logit_self_information(logits), self_information(probs))
    torch.testing.assert_close(logit_entropy(logits), entropy(probs))
    assert torch.autograd.gradcheck(logit_entropy, logits[:1, :, :2, :2].clone().requires_grad_())


def test_advent_is_equations_6_and_7() -> None:
    batch, model = example(), build_model("plain", CLASSES)
    objective = build_objective("cross-entropy + advent(weight=0.3)", setting())
    objective.attach(model, objective.critic)
    terms = objective.segmenter_loss(batch)
    discriminator = objective.critic_loss(batch)["discriminator"].item()
    with torch.no_grad():
        logits = model(torch.cat((batch.frames, batch.unlabelled))).logits.double()  # type: ignore[arg-type]
        probs = torch.softmax(logits, 1)
        maps = (-probs * probs.log() / np.log(CLASSES)).float()
        assert objective.critic is not None
        scores = objective.critic([maps])[0].double()
    source, target = scores[:2], scores[2:]
    assert terms["domain"].item() == pytest.approx(-0.3 * F.logsigmoid(target).mean().item(), rel=1e-3)
    expected = -0.5 * (F.logsigmoid(source).mean() + F.logsigmoid(-target).mean()).item()
    assert discriminator == pytest.approx(expected, rel=1e-3)


def test_the_discriminator_learns_from_what_the_segmenter_made_and_runs_it_once() -> None:
    batch, calls = example(), list[int]()
    model = build_model("plain", CLASSES).eval()
    objective = build_objective("cross-entropy + advent", setting())
    objective.attach(model, objective.critic)
    model.register_forward_hook(lambda *_: calls.append(1))
    objective.segmenter_loss(batch)
    kept = objective.critic_loss(batch)["discriminator"]
    assert len(calls) == 1
    again = objective.critic_loss(batch)["discriminator"]  # nothing is kept now
    assert len(calls) == 2
    torch.testing.assert_close(kept, again)


def test_two_levels_have_two_discriminators() -> None:
    batch, model = example(), build_model("deeplabv2-two-level-resnet18", CLASSES)
    objective = build_objective("cross-entropy + minent + advent", setting("deeplabv2-two-level-resnet18"))
    objective.attach(model, objective.critic)
    terms = objective.segmenter_loss(batch)
    assert {"domain", "auxiliary domain", "entropy", "auxiliary entropy", "auxiliary"} < terms.keys()
    terms["auxiliary domain"].backward()  # type: ignore[no-untyped-call]
    assert model.second_branches[0].weight.grad.abs().max() > 0  # type: ignore[union-attr, index]
    assert model.branches[0].weight.grad is None  # type: ignore[union-attr, index]
    assert model.eval()(batch.frames).auxiliary is None


def test_advents_discriminator_has_the_size_of_the_published_one() -> None:
    # Five 4x4 convolutions, 19 -> 64 -> 128 -> 256 -> 512 -> 1, each halving the map.
    network = DomainDiscriminator(19, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_781_121
    assert network([torch.randn(2, 19, 128, 256)])[0].shape == (2, 4, 8)
    with pytest.raises(BadInput, match="at least 32x32"):
        network([torch.zeros(1, 19, 31, 64)])


def test_the_generator_has_the_size_of_cyclegans() -> None:
    # 11.378 M is what the authors' implementation prints for nine blocks, three channels in and three out.
    assert sum(parameter.numel() for parameter in JohnsonGenerator(3).parameters()) == 11_378_179
    pictures = JohnsonGenerator(5, width=4, blocks=1)(torch.randn(2, 5, 30, 41))
    assert pictures.shape == (2, 3, 30, 41)
    assert pictures.abs().max() <= 1


def test_reconstruction_teaches_the_segmenter_through_generator_and_discriminator() -> None:
    batch, model = example(), build_model("plain", CLASSES)
    objective = build_objective("cross-entropy + scene-adaptation(width=4, blocks=1)", setting())
    objective.attach(model, objective.critic)
    terms = objective.segmenter_loss(batch)
    assert objective.generator is not None
    assert objective.critic is not None
    for name in ("reconstruction", "realness"):
        for network in (model, objective.generator, objective.critic):
            network.zero_grad()
        terms[name].backward(retain_graph=True)  # type: ignore[no-untyped-call]
        for network in (model, objective.generator):
            assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in network.parameters()), (
                name
            )
    objective.critic.zero_grad()
    model.zero_grad()
    objective.critic_loss(batch)["discriminator"].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in objective.critic.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reconstruction_is_the_mean_error_of_pictures_from_minus_1_to_1() -> None:
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    frames = normalise(images)
    batch = example()._replace(frames=frames[:2], unlabelled=frames[2:])
    objective = build_objective("cross-entropy + scene-adaptation(width=4, blocks=1)", setting())
    objective.attach(build_model("plain", CLASSES), objective.critic)
    found = objective.segmenter_loss(batch)["reconstruction"].item()
    assert objective.generator is not None
    with torch.no_grad():
        made = objective.generator(objective.segmenter(frames).logits).double()
    truth = images.permute(0, 3, 1, 2).double() / 127.5 - 1
    assert found == pytest.approx((made - truth).abs().mean().item(), rel=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupted_adaptation_goes_on_to_the_same_bits(
    objective: str, tiny_camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = config(tiny_camvid, objective=objective, checkpoint_every=2)
    fit(plan, tmp_path / "whole")
    from roadworthy.train.loop import Trainer

    update = Trainer._update

    def interrupted(self: Trainer, critic_turn: bool, drawn: object, request: object) -> bool:
        if self.iteration == 3:
            raise KeyboardInterrupt
        return update(self, critic_turn, drawn, request)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_update", interrupted)
        fit(plan, tmp_path / "parts")
    fit(plan, tmp_path / "parts", resume=True)
    for name in ("model.safetensors", "last.ckpt.safetensors"):
        whole, parts = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    if "scene" in objective:
        assert any(key.startswith("generator/") for key in whole)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tiny_camvid: Path, tmp_path: Path) -> None:
    weights = []
    for parts in (1, 2):
        plan = config(
            tiny_camvid, objective="cross-entropy + minent(weight=1)", steps=1, accumulate=parts, optimiser="sgd",
            batch_norm="frozen", schedule="constant",
        )  # fmt: skip
        fit(plan, tmp_path / str(parts))
        weights.append(load_file(tmp_path / str(parts) / "model.safetensors"))
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=1e-4, atol=1e-6)


def test_the_targets_labels_are_never_opened(own_camvid: Path, tmp_path: Path) -> None:
    whole = fit(config(own_camvid, objective="cross-entropy + minent"), tmp_path / "whole")
    other = tmp_path / "other"
    shutil.copytree(own_camvid, other)
    for path in (other / "trainannot").iterdir():
        path.write_bytes(b"not to be read")
    plan = config(own_camvid, objective="cross-entropy + minent", target=f"camvid:{other}")
    assert fit(plan, tmp_path / "blind").validation == whole.validation
    bare = open_target(f"images:{other / 'train'}", CAMVID)
    assert [pair.labels for pair in bare.pairs] == [None] * 4
    assert (bare[0].labels == 255).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "minent"}, "learns from unlabelled frames alone"),
        ({"objective": "cross-entropy + minent", "target": None}, "say which: --target"),
        ({"objective": "cross-entropy"}, "does not adapt to it"),
        ({"objective": "cross-entropy + self-training"}, "--pseudo-labels lrent"),
        ({"objective": "cross-entropy + self-training(loss=luck)"}, "expected one of cross-entropy, divergence"),
        ({"objective": "adversarial + advent"}, "can have one critic"),
        ({"objective": "cross-entropy + minent", "target": "moon:x"}, "not KIND:PATH"),
        ({"objective": "cross-entropy + minent", "target": "images:nowhere"}, "nowhere: no such folder"),
    ],
)
def test_adaptations_that_make_no_sense_are_refused(
    changes: dict[str, object], message: str, tiny_camvid: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        fit(config(tiny_camvid, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_critic_may_have_an_optimiser_of_its_own(tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, objective="cross-entropy + advent", optimiser="sgd", critic_optimiser="adam", steps=1)
    fit(plan, tmp_path / "run")
    keys = load_file(tmp_path / "run" / "last.ckpt.safetensors").keys()
    assert any(key.startswith("optimiser/") and key.endswith("momentum_buffer") for key in keys)
    assert any(key.startswith("critic_optimiser/") and key.endswith("exp_avg") for key in keys)


@pytest.fixture(scope="module")
def source(tiny_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(config(tiny_camvid, target=None, steps=40), tmp_path_factory.mktemp("source") / "run")


@pytest.mark.parametrize(
    ("kind", "loss"), [("cbst", None), ("mrkld", None), ("lrent", "cross-entropy"), ("lrent", "wasserstein"), ("lrent", "l1")]
)
def test_rounds_of_self_training(kind: str, loss: str | None, source: FitResult, tiny_camvid: Path, tmp_path: Path) -> None:
    goal = default_objective(kind) if loss is None else f"cross-entropy + self-training(loss={loss})"
    plan = config(tiny_camvid, objective=goal, init=str(source.run), steps=4)
    results = self_train(plan, RoundsPlan(kind, rounds=2), tmp_path / "out")
    assert all(result.validation.accuracy > 0.9 for result in results)
    told = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert [entry["portion"] for entry in told["results"]] == [0.2, 0.25]
    for index, entry in enumerate(told["results"]):
        assert entry["labelled"] == pytest.approx(0.2 + 0.05 * index, abs=0.02)
        folder = tmp_path / "out" / f"round-{index}" / "pseudo"
        labels = np.asarray(Image.open(folder / "labels" / "0000.png"))
        soft = np.asarray(Image.open(folder / "soft" / "0000.png")).reshape(CLASSES, 32, 64)
        assert ((labels == 255) == (soft == 0).all(0)).all()
        assert (soft.argmax(0)[labels != 255] == labels[labels != 255]).all()
        confidence = np.asarray(Image.open(folder / "confidence" / "0000.png"))
        assert confidence[labels != 255].min() > confidence[labels == 255].min()
        assert np.asarray(Image.open(folder / "entropy" / "0000.png")).shape == (32, 64)
    assert load_facts(folder).run == str(tmp_path / "out" / "round-0" / "run")
    if kind != "lrent":
        assert set(np.unique(soft)) == {0, 255}


def test_interrupted_rounds_go_on(source: FitResult, tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, objective="cross-entropy + self-training", init=str(source.run), steps=4)
    whole = self_train(plan, RoundsPlan(rounds=2), tmp_path / "whole")
    self_train(plan, RoundsPlan(rounds=1), tmp_path / "parts")
    (tmp_path / "parts" / "round-0" / "run" / "metrics.json").unlink()  # killed at the end of the first round
    with pytest.raises(BadInput, match="holds a run already"):
        self_train(plan, RoundsPlan(rounds=2), tmp_path / "parts")
    parts = self_train(plan, RoundsPlan(rounds=2), tmp_path / "parts", resume=True)
    assert [result.validation for result in parts] == [result.validation for result in whole]
    last = [load_file(tmp_path / name / "round-1" / "run" / "model.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    with pytest.raises(BadInput, match="give it: --init"):
        self_train(dataclasses.replace(plan, init=None), RoundsPlan(), tmp_path / "none")
    with pytest.raises(BadInput, match="does not learn from pseudo-labels"):
        self_train(dataclasses.replace(plan, objective="cross-entropy"), RoundsPlan(), tmp_path / "none")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            RoundsPlan("cbst", rounds=1),
            "round-0/pseudo: cannot go on from other pseudo-labels .kind: lrent -> cbst; alpha: 0.25",
        ),
        (RoundsPlan(rounds=1, alpha=0.5), "alpha: 0.25 -> 0.5"),
        ("elsewhere", "target: camvid:"),
        ("taught by another", "run: "),
    ],
)
def test_rounds_do_not_go_on_from_other_pseudo_labels(
    other: RoundsPlan | str, message: str, source: FitResult, tiny_camvid: Path, tmp_path: Path
) -> None:
    plan = config(tiny_camvid, objective="cross-entropy + self-training", init=str(source.run), steps=1)
    self_train(plan, RoundsPlan(rounds=1), tmp_path / "out")
    told = (tmp_path / "out" / "rounds.json").read_text()
    assert load_facts(tmp_path / "out" / "round-0" / "pseudo").alpha == 0.25
    rounds = other if isinstance(other, RoundsPlan) else RoundsPlan(rounds=1)
    if other == "elsewhere":
        plan = dataclasses.replace(plan, target=f"images:{tiny_camvid / 'train'}")
    if other == "taught by another":
        shutil.copytree(source.run, tmp_path / "copy")
        plan = dataclasses.replace(plan, init=str(tmp_path / "copy"))
    (tmp_path / "out" / "round-0" / "run" / "config.yaml").unlink()  # killed before the network began to learn
    with pytest.raises(BadInput, match=message):
        self_train(plan, rounds, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "rounds.json").read_text() == told


def test_soft_labels_move_with_their_frame() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (8, 16), np.uint8).repeat(4, 0).repeat(4, 1)
    soft = np.stack([np.where(ids == index, 255, 0).astype(np.uint8) for index in range(4)])
    image = np.stack([ids * 60] * 3, 2)
    options = Augmentation(flip=0.5, scale_min=0.6, scale_max=1.6, jitter=0.0)
    for seed in range(6):
        hard = augment(Sample(image, ids, "a"), options, np.random.default_rng(seed), (24, 40))
        moved = augment(Sample(image, soft, "a"), options, np.random.default_rng(seed), (24, 40))
        assert np.array_equal(hard.image, moved.image)
        assert np.array_equal(np.where(moved.labels.any(0), moved.labels.argmax(0), 255), hard.labels)


def test_every_class_of_the_town_has_its_place_among_camvids() -> None:
    assert TOWN_TO_CAMVID.keys() == set(TOWN.classes)
    assert set(TOWN_TO_CAMVID.values()) == set(CAMVID.classes)
    for (before, after), table in FOLDINGS.items():
        assert table, (before, after)


# Raw CARLA tags, and what they are among CamVid's classes and those of CARLA before 0.9.
TAGS = {
    1: ("road", "roads"), 2: ("pavement", "sidewalks"), 3: ("building", "buildings"), 4: ("building", "walls"),
    5: ("fence", "fences"), 6: ("pole", "poles"), 7: ("sign", "traffic signs"), 8: ("sign", "traffic signs"),
    9: ("tree", "vegetation"), 10: ("tree", "vegetation"), 11: ("sky", "none"), 12: ("pedestrian", "pedestrians"),
    13: ("bicyclist", "vehicles"), 14: ("car", "vehicles"), 15: ("car", "vehicles"), 16: ("car", "vehicles"),
    17: ("car", "vehicles"), 18: ("bicyclist", "vehicles"), 19: ("bicyclist", "vehicles"), 24: ("road", "road lines"),
    28: ("fence", "fences"), 0: (None, "none"), 20: (None, "other"), 21: (None, "other"), 22: (None, "other"),
    23: (None, "other"), 25: (None, "other"), 26: (None, "other"), 27: (None, "other"),
}  # fmt: skip


def test_a_recordings_tags_become_the_classes_asked_for(tmp_path: Path) -> None:
    tags = np.array(sorted(TAGS), np.uint8)[None]  # [1, tags]
    Image.fromarray(tags).save(tmp_path / "tags.png")
    Image.fromarray(np.zeros((*tags.shape, 3), np.uint8)).save(tmp_path / "rgb.png")
    recording = Dataset("here", TOWN, [Pair("a", tmp_path / "rgb.png", tmp_path / "tags.png")])
    for place, taxonomy in enumerate((CAMVID, CARLA13)):
        labels = fold_classes(recording, taxonomy.name)[0].labels[0]
        for tag, label in zip(tags[0], labels, strict=True):
            name = TAGS[int(tag)][place]
            assert label == (255 if name is None else taxonomy.index(name)), int(tag)
    assert fold_classes(recording, None) is recording
    with pytest.raises(BadInput, match="no table to 'town'"):
        fold_classes(dataclasses.replace(recording, taxonomy=CAMVID), "town")


def test_tensorboard_shows_the_target_and_its_pseudo_labels(source: FitResult, tiny_camvid: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = config(tiny_camvid, objective="cross-entropy + self-training", init=str(source.run), steps=1, tensorboard=True)
    self_train(plan, RoundsPlan(rounds=1), tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "round-0" / "run" / "tensorboard"))
    events.Reload()
    (shown,) = (tag for tag in events.Tags()["images"] if tag.startswith("target") and tag.endswith("0000"))
    picture = tmp_path / "shown.png"
    picture.write_bytes(events.Images(shown)[-1].encoded_image_string)
    frame, _, unsure, label, sure = np.split(np.asarray(Image.open(picture)), 5, axis=1)
    folder = tmp_path / "out" / "round-0" / "pseudo"
    np.testing.assert_array_equal(frame, np.asarray(Image.open(tiny_camvid / "train" / "0000.png")))
    np.testing.assert_array_equal(label, np.asarray(Image.open(folder / "labels" / "0000.png").convert("RGB")) * (sure > 0))
    assert unsure.std() > 0


def test_a_mixed_batch_sees_both_domains_in_one_pass() -> None:
    batch, model = example(), build_model("plain", CLASSES)
    objective = build_objective("cross-entropy + minent", setting())
    objective.attach(model, None)
    seen: list[Tensor] = []
    model.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    objective.segmenter_loss(batch)
    assert [frames.shape[0] for frames in seen] == [4]
