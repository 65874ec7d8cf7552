"""What every registered objective owes, whatever the network: void counts for nothing, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.ground import severity
from roadworthy.train.losses import (
    betting_map,
    cross_entropy,
    gambling,
    importance_aware,
    pixel_cross_entropy,
    sinkhorn_wasserstein,
    wasserstein,
)
from roadworthy.train.models import Prediction
from roadworthy.train.models.prediction import AUXILIARY_WEIGHT
from roadworthy.train.objectives import OBJECTIVES, Batch, Objective, Setting, build_objective

SHORT = {
    "gambling": "gambling(segmenter_steps=3, gambler_steps=2)",
    "minent": "cross-entropy + minent",
    "advent": "cross-entropy + advent",
    "scene-adaptation": "cross-entropy + scene-adaptation(width=4, blocks=1)",
    "self-training": "cross-entropy + self-training",
}
SPECS = [
    *(SHORT.get(name, name) for name in OBJECTIVES),
    "wasserstein(smoothing=0.1)",
    "wasserstein(smoothing=0.1, metric=step)",
    "cross-entropy + 0.5*wasserstein(metric=huber)",
    "focal + 0.1*el-gan",
    "wasserstein + minent + advent",
]
UNSUPERVISED = ("reconstruction", "realness")
CLASSES = len(CAMVID)
HEIGHT, WIDTH = 32, 64  # [pixels]
ZERO = {"nothing": torch.zeros(())}


class Fixed(nn.Module):
    """A segmenter whose logits are its parameters: those of the labelled frames, then those of the unlabelled ones."""

    def __init__(self, logits: Tensor, auxiliary: Tensor | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.unlabelled = nn.Parameter(torch.randn(logits.shape, generator=torch.Generator().manual_seed(7)))
        self.auxiliary = None if auxiliary is None else torch.cat((auxiliary, auxiliary.flip(1)))

    def forward(self, frames: Tensor) -> Prediction:
        logits = torch.cat((self.logits, self.unlabelled))[: len(frames)]
        return Prediction(logits, logits, logits, None if self.auxiliary is None else self.auxiliary[: len(frames)])


def example() -> tuple[Tensor, Batch]:
    """Logits and a batch with unlabelled pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, HEIGHT, WIDTH, generator=generator)
    target = torch.randint(0, CLASSES, (2, HEIGHT, WIDTH), generator=generator)
    target[0, :8] = 255
    target[1, :, 40:] = 255
    frames = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)
    unlabelled = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)
    pseudo = torch.softmax(3 * torch.randn(2, CLASSES, HEIGHT, WIDTH, generator=generator), 1)
    pseudo[:, :, 10:20] = 0  # no pseudo-label
    return logits, Batch(frames, target, unlabelled, pseudo)


def build(spec: str, logits: Tensor, **changes: object) -> Objective:
    torch.manual_seed(3)
    facts: dict[str, object] = {
        "model": "enet",
        "taxonomy": CAMVID,
        "class_pixels": np.arange(1, CLASSES + 1),
        "ground": severity(CAMVID),
        "steps": 100,
    }
    objective = build_objective(spec, Setting(**(facts | changes)))  # type: ignore[arg-type]
    if objective.critic is not None:
        for module in objective.critic.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
    objective.attach(Fixed(logits), objective.critic)
    return objective


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def from_labels(objective: Objective, batch: Batch) -> Tensor:
    """The sum of the terms that learn from labels: scene adaptation also wants pixels without one to be painted again."""
    return total({name: term for name, term in objective.segmenter_loss(batch).items() if name not in UNSUPERVISED})


@pytest.mark.parametrize("spec", SPECS)
def test_pixels_without_a_label_contribute_nothing(spec: str) -> None:
    logits, batch = example()
    ignored = (batch.target == 255).unsqueeze(1)
    values, gradients = [], []
    for shown in (logits, torch.where(ignored, 9 * torch.randn(logits.shape), logits)):
        objective = build(spec, shown)
        loss = from_labels(objective, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        values.append(loss.item())
        gradients.append(objective.segmenter.logits.grad)
        if objective.critic is not None and not objective.adapts:  # telling domains apart needs no labels
            values.append(total(objective.critic_loss(batch)).item())
    half = len(values) // 2
    assert values[:half] == values[half:]
    assert gradients[0].abs().max() > 0
    assert (gradients[0][ignored.expand_as(logits)] == 0).all()
    assert torch.equal(gradients[0], gradients[1])


@pytest.mark.parametrize("spec", SPECS)
def test_a_batch_without_labels_moves_no_segmenter(spec: str) -> None:
    logits, batch = example()
    objective = build(spec, logits)
    loss = from_labels(objective, batch._replace(target=torch.full_like(batch.target, 255)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert (objective.segmenter.logits.grad == 0).all()


@pytest.mark.parametrize("spec", SPECS)
def test_losses_are_the_same_every_time(spec: str) -> None:
    logits, batch = example()
    first, second = (build(spec, logits).segmenter_loss(batch) for _ in range(2))
    assert {name: value.item() for name, value in first.items()} == {name: value.item() for name, value in second.items()}


@pytest.mark.parametrize("spec", SPECS)
def test_pictures_are_maps_from_0_to_1_and_leave_the_networks_alone(spec: str) -> None:
    logits, batch = example()
    objective = build(spec, logits)
    before = {} if objective.critic is None else {key: value.clone() for key, value in objective.critic.state_dict().items()}
    for name, picture in objective.pictures(batch).items():
        assert picture.shape[0] == 2, name
        assert picture.dtype == torch.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        assert not picture.requires_grad
    if objective.critic is not None:
        assert objective.critic.training
        assert objective.pictures(batch)
        assert all(torch.equal(before[key], value) for key, value in objective.critic.state_dict().items())


@pytest.mark.parametrize("spec", SPECS)
def test_an_auxiliary_head_adds_its_cross_entropy_once(spec: str) -> None:
    logits, batch = example()
    plain, helped = build(spec, logits), build(spec, logits)
    auxiliary = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    helped.attach(Fixed(logits, auxiliary), helped.critic)
    before, after = plain.segmenter_loss(batch), helped.segmenter_loss(batch)
    added = {name: value for name, value in after.items() if name not in before}
    difference = total(after) - total(before) - total({name: added[name] for name in added if name != "auxiliary"} or ZERO)
    expected = AUXILIARY_WEIGHT * cross_entropy(auxiliary, batch.target)
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(added["auxiliary"], expected)
    assert {"auxiliary"} <= added.keys() <= {"auxiliary", "auxiliary entropy"}


def bce(scores: np.ndarray, real: bool) -> float:
    probability = 1 / (1 + np.exp(-scores.astype(np.float64)))
    return float(-np.log(probability if real else 1 - probability).mean())


def critic_scores(objective: Objective, batch: Batch, maps: Tensor, *, embed: bool = False) -> np.ndarray:
    assert objective.critic is not None
    valid = (batch.target != 255).unsqueeze(1)
    with torch.no_grad():
        return objective.critic(torch.cat((batch.frames, maps * valid), 1), embed=embed).numpy()


def labels_as_maps(target: Tensor) -> Tensor:
    return (target.unsqueeze(1) == torch.arange(CLASSES).view(1, -1, 1, 1)).float()


def test_adversarial_is_equations_1_and_2() -> None:
    logits, batch = example()
    objective = build("adversarial(weight=0.3)", logits)
    fake = critic_scores(objective, batch, torch.softmax(logits, 1))
    real = critic_scores(objective, batch, labels_as_maps(batch.target))
    terms = objective.segmenter_loss(batch)
    assert terms["adversarial"].item() == pytest.approx(0.3 * bce(fake, real=True), rel=1e-5)
    assert terms["cross-entropy"].item() == pytest.approx(cross_entropy(logits, batch.target).item())
    expected = bce(fake, real=False) + bce(real, real=True)
    assert objective.critic_loss(batch)["discriminator"].item() == pytest.approx(expected, rel=1e-5)


def test_el_gan_is_equation_3() -> None:
    logits, batch = example()
    objective = build("el-gan(weight=0.3)", logits)
    fake = critic_scores(objective, batch, torch.softmax(logits, 1), embed=True).astype(np.float64)
    real = critic_scores(objective, batch, labels_as_maps(batch.target), embed=True).astype(np.float64)
    distance = np.sqrt(((fake - real) ** 2).sum(1)).mean()
    assert objective.segmenter_loss(batch)["embedding"].item() == pytest.approx(0.3 * distance, rel=1e-5)


def test_the_discriminator_learns_to_tell_and_the_segmenter_to_fool_it() -> None:
    logits, batch = example()
    objective = build("adversarial", logits)
    assert objective.critic is not None
    optimiser = torch.optim.Adam(objective.critic.parameters(), 2e-4)
    first = total(objective.critic_loss(batch)).item()
    for _ in range(12):
        optimiser.zero_grad()
        total(objective.critic_loss(batch)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert total(objective.critic_loss(batch)).item() < 0.7 * first
    before = objective.segmenter_loss(batch)["adversarial"]
    (slope,) = torch.autograd.grad(before, objective.segmenter.logits)
    with torch.no_grad():
        objective.segmenter.logits -= 0.5 * slope / slope.abs().max()
    assert objective.segmenter_loss(batch)["adversarial"] < before


def test_gambling_is_equations_5_and_6_and_its_flows_add_up() -> None:
    logits, batch = example()
    objective = build("gambling(weight=0.5, segmenter_steps=3, gambler_steps=2)", logits)
    critic = objective.critic
    assert critic is not None
    valid = (batch.target != 255).unsqueeze(1)

    def bets(x: Tensor) -> Tensor:
        return betting_map(critic(batch.frames, torch.softmax(x, 1) * valid), 0.02)

    def slope(of_losses: Tensor, of_bets: Tensor) -> Tensor:
        return torch.autograd.grad(0.5 * gambling(of_losses, batch.target, bets(of_bets)), x)[0]

    x = logits.clone().requires_grad_()
    flow_a, flow_b = slope(x, x.detach()), slope(x.detach(), x)
    terms = objective.segmenter_loss(batch)
    assert terms["gambling"].item() == pytest.approx(0.5 * gambling(logits, batch.target, bets(logits)).item(), rel=1e-5)
    (both,) = torch.autograd.grad(terms["gambling"], objective.segmenter.logits)
    assert flow_a.abs().max() > 0
    assert flow_b.abs().max() > 0
    torch.testing.assert_close(both, flow_a + flow_b, rtol=1e-4, atol=1e-8)
    opposite = objective.critic_loss(batch)["gambler"].item()
    assert opposite == pytest.approx(-terms["gambling"].item() / 0.5, rel=1e-4)


def test_conservative_targets_go_through_sinkhorn_and_certain_ones_do_not() -> None:
    logits, batch = example()
    cost = torch.tensor(severity(CAMVID).cost).float()
    exact = build("wasserstein", logits).segmenter_loss(batch)["wasserstein"]
    torch.testing.assert_close(exact, wasserstein(logits, batch.target, cost))
    spread = build("wasserstein(smoothing=0.2, epsilon=0.2, iterations=9)", logits).segmenter_loss(batch)["wasserstein"]
    valid = (batch.target != 255).unsqueeze(1)
    soft = (0.8 * labels_as_maps(batch.target) + 0.2 / CLASSES) * valid
    torch.testing.assert_close(spread, sinkhorn_wasserstein(logits, soft, cost, 0.2, 9))


GROUPS = "8: [car, pedestrian, bicyclist]\n1.5: [road, pavement, sign, building, pole, tree, fence]\n0.5: [sky]\n"


def test_importance_groups_come_from_a_users_file(tmp_path: Path) -> None:
    logits, batch = example()
    path = tmp_path / "groups.yaml"
    path.write_text(GROUPS)
    weights = torch.full((CLASSES,), 1.5)
    weights[[CAMVID.index(name) for name in ("car", "pedestrian", "bicyclist")]] = 8.0
    weights[CAMVID.index("sky")] = 0.5
    found = build(f"importance-aware(groups={path})", logits).segmenter_loss(batch)["importance-aware"]
    mean = float((np.arange(1, CLASSES + 1) * weights.numpy()).sum() / np.arange(1, CLASSES + 1).sum())
    expected = (weights[batch.target.where(batch.target != 255, 0)] / mean * pixel_cross_entropy(logits, batch.target)).sum()
    torch.testing.assert_close(found, expected / (batch.target != 255).sum())


@pytest.mark.parametrize("spec", ["importance-aware", "cross-entropy(weights=enet)", "cross-entropy(weights=median)", "focal"])
def test_the_parts_of_a_batch_add_up_to_the_whole(spec: str) -> None:
    logits, batch = example()
    whole = total(build(spec, logits).segmenter_loss(batch))
    labelled = (batch.target != 255).sum((1, 2))
    batches = [Batch(batch.frames[i : i + 1], batch.target[i : i + 1]) for i in range(2)]
    parts = [total(build(spec, logits[i : i + 1]).segmenter_loss(batches[i])) for i in range(2)]
    torch.testing.assert_close(sum(p * n for p, n in zip(parts, labelled, strict=True)) / labelled.sum(), whole)


@pytest.mark.parametrize("spec", ["importance-aware", "cross-entropy(weights=enet)"])
def test_weights_have_a_mean_of_one_over_the_data(spec: str) -> None:
    # Data whose classes are as frequent as in this batch: there both ways to normalise are the same.
    logits, batch = example()
    pixels = np.bincount(batch.target[batch.target != 255].numpy(), minlength=CLASSES)
    objective = build(spec, logits, class_pixels=pixels)
    weights = objective.weights  # type: ignore[attr-defined]
    (loss,) = objective.segmenter_loss(batch).values()
    torch.testing.assert_close(loss, importance_aware(logits, batch.target, weights))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GROUPS.replace("sky", "heaven"), r"class 'heaven' is not in taxonomy 'camvid'; it has: sky"),
        (GROUPS.replace("0.5: [sky]\n", ""), "no group for sky of taxonomy 'camvid'"),
        (GROUPS.replace("[sky]", "[sky, car]"), "class 'car' is named twice"),
        (GROUPS.replace("0.5:", "-0.5:"), "weight of a group is -0.5, expected a number above 0"),
        (GROUPS.replace("0.5:", ".nan:"), "weight of a group is nan"),
        (GROUPS.replace("0.5:", "least:"), "weight of a group is 'least'"),
        (GROUPS.replace("[sky]", "sky"), "expected importance groups"),
        ("4: [car", "not a YAML file"),
        ("", "expected importance groups"),
    ],
)
def test_groups_that_will_not_do_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        build(f"importance-aware(groups={path})", example()[0])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("importance-aware(groups=nowhere.yaml)", "nowhere.yaml: no such file"),
        ("wasserstein(smoothing=1)", "smoothing of objective 'wasserstein' is 1.0"),
        ("wasserstein(epsilon=0)", "expected a number above 0"),
        ("wasserstein(metric=cubic)", "unknown ground metric 'cubic'"),
        ("adversarial(discriminator_steps=0)", "discriminator_steps of at least 1"),
        ("el-gan(segmenter_steps=100)", "would never have a turn"),
        ("gambling", "would never have a turn"),
        ("adversarial + gambling(segmenter_steps=3)", "can have one critic"),
    ],
)
def test_options_that_make_no_sense_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build(spec, example()[0])
