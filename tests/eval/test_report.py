"""The page: what it says, that names cannot break it, and that it needs nothing from outside."""

from __future__ import annotations

import html.parser
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from roadworthy.eval import charts
from roadworthy.eval.report import render
from roadworthy.eval.results import _latency_of
from roadworthy.eval.verdict import standing, verdict

from .conftest import HOSTILE, make_examples, make_results


class Page(html.parser.HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def make_page(results: dict[str, Any]) -> Page:
    return Page(render(results, make_examples([segmenter["name"] for segmenter in results["segmenters"]])))


def test_hostile_names_stay_text(results: dict[str, Any]) -> None:
    page = make_page(results)
    assert page.stack == []  # every tag is closed
    assert [tag for tag, _ in page.tags].count("script") == 1  # ours
    assert HOSTILE in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_page_asks_for_nothing_from_outside(results: dict[str, Any]) -> None:
    page = make_page(results)
    sources = page.attributes("src") + [value for value in page.attributes("href") if not value.startswith("#")]
    assert sources
    assert all(value.startswith("data:") for value in sources)
    assert not re.search(r"url\(|@import|https?://", " ".join(page.attributes("style")))
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy is not None
    assert "default-src 'none'" in policy


def test_links_inside_the_page_lead_somewhere(results: dict[str, Any]) -> None:
    page = make_page(results)
    anchors = [value[1:] for value in page.attributes("href") if value.startswith("#")]
    assert anchors
    assert set(anchors) <= set(page.attributes("id"))
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)


def test_every_image_and_drawing_has_words(results: dict[str, Any]) -> None:
    page = make_page(results)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in drawings)


def test_drivers_that_cannot_finish_grey_the_driving_out() -> None:
    fit, unfit = make_page(make_results(completion=1.5)), make_page(make_results(completion=0.1))
    sentence = "a policy that cannot finish the training routes judges nobody"
    assert sentence in unfit.text
    assert "not judged" in unfit.text
    assert sentence not in fit.text
    muted = [a for tag, a in unfit.tags if tag == "td" and "mute" in (a.get("class") or "")]
    assert len(muted) == 3 * 6 + 2  # completion and five kinds for three segmenters; the effect of two on infractions
    assert not [a for tag, a in fit.tags if tag == "td" and "mute" in (a.get("class") or "")]


def test_the_page_names_what_one_needs_to_repeat_it(results: dict[str, Any]) -> None:
    text = make_page(results).text
    for fact in (results["command"], results["machine"]["cpu"], results["revision"], "recordings 0, 7", "routes 100"):
        assert fact in text
    assert "in-sample severity" in text


def test_nothing_measured_is_a_dash_not_a_crash() -> None:
    results = make_results()
    for segmenter in results["segmenters"]:
        segmenter["drive"] = dict.fromkeys(segmenter["drive"])
        segmenter["training_finished"], segmenter["fit_to_judge"] = None, False
        segmenter["metrics"]["bf"] = {"value": None, "low": None, "high": None, "level": 0.95}
    results["comparisons"]["completion"] = results["comparisons"]["infractions_per_km"] = []
    results["episodes"] = []
    text = make_page(results).text
    assert "did not drive" in text
    assert "–" in text


def test_a_judge_that_cannot_drive_on_the_truth_judges_nobody() -> None:
    results = make_results(completion=0.1)
    results["judge_finished"] = 0.25
    assert any("on true labels the judge itself finishes only 25%" in sentence for sentence in verdict(results)[1])
    text = make_page(results).text
    assert "sees each segmenter's labels in turn" in text
    assert "on true labels it finished 25% of the routes" in text


def test_a_study_without_driving_and_latency_says_nothing_of_them() -> None:
    results = make_results()
    results["study"]["drive"] = results["study"]["latency"] = results["latency"] = None
    results["episodes"], results["towns"] = [], {}
    results["machine"]["load_1min"] = None
    for segmenter in results["segmenters"]:
        segmenter["drive"], segmenter["latency"] = dict.fromkeys(segmenter["drive"]), None
        segmenter["training_finished"], segmenter["fit_to_judge"] = None, False
    results["comparisons"] = {key: pairs for key, pairs in results["comparisons"].items() if "miou" in key}
    page = make_page(results)
    for word in ("Closed-loop", "Latency", "Driving", "km between", "p50", "policy"):
        assert word not in page.text.split("The whole configuration")[0]
    assert "mean IoU" in page.text
    anchors = [value[1:] for value in page.attributes("href") if value.startswith("#")]
    assert set(anchors) <= set(page.attributes("id"))


def test_seeds_stand_one_by_one_below_the_row_that_pools_them() -> None:
    results = make_results()
    for segmenter in results["segmenters"]:
        segmenter["seeds"] = [{**segmenter["seeds"][0], "seed": seed, "name": f"s{seed}"} for seed in (0, 1)]
    results["seeds"]["training"] = [0, 1]
    page = make_page(results)
    assert "The training seeds one by one" in page.text
    assert "A row pools the training seeds" in page.text


def test_latency_is_that_of_the_fewest_frames_a_call() -> None:
    rows = [{"models": ["net"], "batch": batch, "p50_ms": 10.0 * batch} for batch in (8, 1, 2)]
    assert _latency_of({"rows": rows}, "net") == rows[1]
    assert _latency_of(None, "net") is None


def pair(first: str, second: str, value: float, *, apart: bool) -> dict[str, Any]:
    return {"first": first, "second": second, "value": value, "distinguishable": apart}


def test_the_verdict_names_who_beats_the_same_ones_together_and_what_is_in_sample() -> None:
    results = make_results()
    names = [str(segmenter["name"]) for segmenter in results["segmenters"]]
    first, second, last = names
    results["comparisons"] = {
        "expected_severity": [pair(first, second, 0.0, apart=False), pair(first, last, 0.1, apart=True),
                              pair(second, last, 0.1, apart=True)],
        "bf": [pair(first, second, 0.0, apart=False), pair(first, last, 0.1, apart=True), pair(second, last, 0.1, apart=True)],
    }  # fmt: skip
    headline, sentences = verdict(results)
    assert headline.startswith("wasserstein leads on expected severity (on the matrix it learnt with)")
    assert any(f"On BF-score {first} and {second} are better than {last}; the study cannot tell" in each for each in sentences)


def test_a_leader_must_beat_everyone_beyond_doubt() -> None:
    names = ["a", "b", "c"]
    clear = [pair("a", "b", 0.1, apart=True), pair("a", "c", 0.2, apart=True), pair("b", "c", 0.1, apart=False)]
    assert standing("miou", clear, names).leader == "a"
    assert standing("expected_severity", clear, names).leader is None  # smaller is better: b and c beat a, neither leads
    tied = [pair("a", "b", 0.1, apart=False), *clear[1:]]
    assert standing("miou", tied, names).leader is None


@pytest.mark.parametrize("apart", [True, False])
def test_the_verdict_never_calls_what_the_data_do_not_support(apart: bool) -> None:
    results = make_results(completion=0.1)
    for pairs in results["comparisons"].values():
        for one in pairs:
            one["distinguishable"] = apart
    headline, sentences = verdict(results)
    if apart:
        assert "leads on" in headline
    else:
        assert "cannot name a winner" in headline
        assert not any("better" in sentence for sentence in sentences)
    assert not any("route completion" in sentence and "better" in sentence for sentence in sentences)  # driving judges nobody
    assert any("trained once" in sentence for sentence in sentences)


def test_drawings_are_well_formed_with_any_name() -> None:
    dots = [charts.Dot(HOSTILE, index, 0.1 * index, None, None, HOSTILE) for index in range(7)]
    drawings = [
        charts.interval_chart(dots, HOSTILE),
        charts.class_chart([HOSTILE, "road"], {HOSTILE: [0.5, None]}, {HOSTILE: [[0.4, 0.6], None]}, HOSTILE),
        charts.heat_map([[0.0, 1.0], [0.5, 0.0]], [HOSTILE, "road"], HOSTILE),
        charts.town_map([[(0, 0), (1, 2)]], [], [[(0, 0), (1, 1)]], [charts.MapEvent("off_line", 1, 1, HOSTILE, "x")], HOSTILE),
    ]
    for drawing in drawings:
        root = ElementTree.fromstring(str(drawing))
        assert root.get("aria-label") == HOSTILE


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.412, 0.4193), (-3, 1700), (1e-5, 3e-5), (2, 2)])
def test_ticks_cover_the_values(low: float, high: float) -> None:
    ticks = charts.nice_ticks(low, high)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert len(ticks) <= 8
