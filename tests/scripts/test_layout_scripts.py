"""The scripts behind docs/layouts.md, on tiny trainings: they write their tables and pictures, and go on where they stopped."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from roadworthy.eval.layouts import score_layouts
from roadworthy.eval.structural_similarity import mean_similarity
from roadworthy.runtime.errors import BadInput
from roadworthy.scripts import make_layout_figures, measure_dreams
from roadworthy.train.data.colored_shapes import draw_colored_shapes
from roadworthy.train.layouts import LayoutConfig, load_layouts, train_layouts


def test_the_comparison_writes_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "layouts.md"
    page.write_text("Before.\n<!-- colored shapes: begin -->\nold\n<!-- colored shapes: end -->\nAfter.\n")
    monkeypatch.setattr(make_layout_figures, "PAGE", page)
    few = draw_colored_shapes(0)[::80]
    for module in ("roadworthy.train.layouts", "roadworthy.scripts.make_layout_figures"):
        monkeypatch.setattr(f"{module}.draw_colored_shapes", lambda seed: few if seed == 0 else few[:, ::-1])

    def train(folder: Path, options: list[str]) -> None:
        assert "--steps=2" in options
        for name, own in make_layout_figures.KINDS.items():
            config = LayoutConfig(rgb="--rgb" in own, width=2, kernel=3, latent=4, steps=2, keep_every=1, tensorboard=False)
            train_layouts(config, folder / name.lower(), resume=True)

    monkeypatch.setattr(make_layout_figures, "_train", train)
    monkeypatch.setattr("roadworthy.eval.layouts.mean_similarity", partial(mean_similarity, pairs=16))
    arguments = ["--folder", str(tmp_path / "runs"), "--steps", "2", "--width", "2"]
    first = CliRunner().invoke(make_layout_figures.main, arguments, catch_exceptions=False)
    assert first.output.count("scoring") == 4
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")] == [
        "", "another draw of the set", "SemGAN, best", "SemGAN, last", "GAN, best", "GAN, last",
    ]  # fmt: skip
    scores = json.loads((tmp_path / "layouts.json").read_text())["scores"]
    best = min(scores[f"GAN {update}"]["swd_mean"] for update in (1, 2))
    assert f"the GAN's {best:.1f};" in text
    assert Image.open(tmp_path / "layouts.png").width == 3 * (8 * 66 + 2) + 2 * 12
    again = CliRunner().invoke(make_layout_figures.main, arguments, catch_exceptions=False)
    assert "scoring" not in again.output  # what was measured is not measured again
    assert page.read_text() == text


def test_the_last_generator_is_scored_and_other_data_have_a_block_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "layouts.md"
    page.write_text("Before.\n<!-- layouts of recording: begin -->\nold\n<!-- layouts of recording: end -->\nAfter.\n")
    monkeypatch.setattr(make_layout_figures, "PAGE", page)
    data = f"recording:{_write_recording(tmp_path / 'recording')}"

    def train(folder: Path, options: list[str]) -> None:
        assert folder == Path("studies/layouts-recording")
        assert {f"--data={data}", "--size=32x16", "--kernel=7", "--latent=128", "--learning-rate=2e-4"} < set(options)
        for name, own in make_layout_figures.KINDS.items():
            config = LayoutConfig(
                data, "--rgb" in own, (16, 32), width=2, kernel=3, latent=4, batch_size=2, steps=3, keep_every=2,
                tensorboard=False,
            )  # fmt: skip
            train_layouts(config, folder / name.lower(), resume=True)

    monkeypatch.setattr(make_layout_figures, "_train", train)
    monkeypatch.setattr("roadworthy.eval.layouts.mean_similarity", partial(mean_similarity, pairs=16))
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(make_layout_figures.main, ["--data", data, "--size", "32x16"], catch_exceptions=False)
    scores = json.loads((tmp_path / "layouts-recording.json").read_text())["scores"]
    assert sorted(scores) == ["GAN 2", "GAN 3", "SemGAN 2", "SemGAN 3"]
    model = load_layouts(tmp_path / "studies" / "layouts-recording" / "semgan")
    assert scores["SemGAN 3"]["swd_mean"] == pytest.approx(score_layouts(model).swd_mean)
    text = page.read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row[0].endswith("last")] == [["SemGAN, last", "3"], ["GAN, last", "3"]]
    assert f"`{data}`: 3 updates" in text
    assert "old" not in text
    assert (tmp_path / "layouts-recording.png").is_file()


def _write_recording(root: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for folder in ("rgb", "semantic"):
        (root / folder).mkdir(parents=True)
    for index in range(6):
        tags = np.full((32, 64), 11, np.uint8)  # sky
        tags[16:] = 1  # road
        tags[10:20, 5 * index : 5 * index + 9] = 14  # a car
        Image.fromarray(tags).save(root / "semantic" / f"{index}.png")
        Image.fromarray((tags[..., None] * 15 + rng.integers(0, 20, (32, 64, 3))).astype(np.uint8)).save(
            root / "rgb" / f"{index}.png"
        )
        lines.append(json.dumps({"name": str(index), "episode": index // 3}) + "\n")
    (root / "meta.jsonl").write_text("".join(lines))
    return root


def test_dreams_are_measured_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_dreams, "PAGE", tmp_path / "layouts.md")
    monkeypatch.setattr(measure_dreams, "LAYOUT_SIZE", (16, 32))
    monkeypatch.setattr(measure_dreams, "FRAME_SIZE", (32, 64))
    arguments = ["--recording", str(_write_recording(tmp_path / "recording")), "--folder", str(tmp_path / "dreams")]
    for option in ("layout-steps", "layout-width", "translator-steps", "translator-width", "count", "steps", "seeds"):
        arguments += [f"--{option}", "2" if option.endswith(("width", "count")) else "1"]
    arguments += ["--mix", "0.5"]
    first = CliRunner().invoke(measure_dreams.main, arguments, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    found = json.loads((tmp_path / "dreams" / "dreams.json").read_text())["mean_iou"]
    assert {share: len(values) for share, values in found.items()} == {"0": 1, "0.5": 1}
    page = (tmp_path / "layouts.md").read_text()
    assert f"{100 * (found['0.5'][0] - found['0'][0]):+.1f} |" in page
    assert (tmp_path / "dreams" / "pairs" / "pairs.png").is_file()
    again = CliRunner().invoke(measure_dreams.main, arguments, catch_exceptions=False)
    assert "training" not in again.output
    assert (tmp_path / "layouts.md").read_text() == page


@pytest.mark.parametrize(
    ("mixes", "message"),
    [
        (["0.2", "0.2"], "--mix is 0.2, 0.2, expected different shares"),
        (["0"], "--mix is 0, expected different shares above 0"),
        (["0.2", "1.5"], "mix is 1.5, expected from 0.001 to 0.999"),
        (["nan"], "mix is nan, expected from 0.001"),
    ],
)
def test_shares_of_dreams_are_checked_before_any_training(mixes: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["--recording", str(tmp_path), "--folder", str(tmp_path / "dreams")]
    for mix in mixes:
        arguments += ["--mix", mix]
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(measure_dreams.main, arguments, catch_exceptions=False)
    assert not (tmp_path / "dreams").exists()
