"""The page in a real browser: it sorts, opens an infraction, follows the reader's colours, prints, and logs no error."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from roadworthy.eval.pictures import label_uri, photo_uri
from roadworthy.eval.report import render
from roadworthy.eval.sightings import Sighting, View
from roadworthy.runtime.taxonomy import TOWN

from .conftest import make_examples, make_results

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)


def sightings(results: dict[str, Any]) -> dict[tuple[str, int], Sighting]:
    rng = np.random.default_rng(0)
    views = tuple(
        View(
            when,
            photo_uri(rng.integers(0, 255, (64, 128, 3), np.uint8)),
            label_uri(rng.integers(0, 19, (64, 128)).astype(np.uint8), TOWN.palette),
            "",
        )
        for when in ("1.0 s before", "at the infraction")
    )
    events = [(drive["id"], index) for drive in results["episodes"] for index in range(len(drive["infractions"]))]
    return {event: Sighting(f"seen-{number}", event[1], views) for number, event in enumerate(events[:3])}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    results = make_results()
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(render(results, make_examples([s["name"] for s in results["segmenters"]]), sightings(results)), "utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
                   "disable-component-update", "disable-sync", "window-size=1300,1000"):  # fmt: skip
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    try:
        driver.get(Path(page).as_uri())
        yield driver
    finally:
        driver.quit()


def column(browser: webdriver.Chrome, number: int) -> list[float]:
    cells = browser.find_elements(By.CSS_SELECTOR, f'[aria-label="Ranking table"] tbody tr td:nth-of-type({number})')
    return [float(str(cell.get_attribute("data-sort"))) for cell in cells]


def test_a_press_on_a_title_sorts(browser: webdriver.Chrome) -> None:
    button = browser.find_element(By.XPATH, '//*[@aria-label="Ranking table"]//button[text()="BF-score"]')
    head = button.find_element(By.XPATH, "./ancestor::th")
    button.click()
    down = column(browser, 2)
    assert head.get_attribute("aria-sort") == "descending"
    assert down == sorted(down, reverse=True)
    button.send_keys(Keys.ENTER)  # the keyboard does the same
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(browser, 2) == sorted(down)
    assert len(set(down)) == 3


def test_an_infraction_opens_and_closes(browser: webdriver.Chrome) -> None:
    seen = browser.find_element(By.ID, "seen-0")
    assert not seen.is_displayed()
    link = browser.find_element(By.CSS_SELECTOR, 'a[href="#seen-0"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.find_element(By.TAG_NAME, "path").click()
    WebDriverWait(browser, 5).until(lambda _: seen.is_displayed())
    pictures = seen.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 4
    assert all(picture.size["width"] > 100 and picture.get_property("naturalWidth") == 128 for picture in pictures)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    WebDriverWait(browser, 5).until(lambda _: not seen.is_displayed())


def test_an_infraction_can_be_reached_by_keyboard(browser: webdriver.Chrome) -> None:
    link = browser.find_element(By.CSS_SELECTOR, 'a[href="#seen-1"]')
    browser.execute_script("arguments[0].focus()", link)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    WebDriverWait(browser, 5).until(lambda _: browser.find_element(By.ID, "seen-1").is_displayed())
    assert browser.switch_to.active_element.text == "close"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    WebDriverWait(browser, 5).until(lambda _: not browser.find_element(By.ID, "seen-1").is_displayed())


def test_light_and_dark(browser: webdriver.Chrome) -> None:
    papers = []
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        papers.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]


def test_nothing_hangs_over_the_edge(browser: webdriver.Chrome) -> None:
    for width in (1300, 420):
        browser.set_window_size(width, 900)
        inside, outside = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert inside <= outside


def test_it_prints(browser: webdriver.Chrome) -> None:
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type/Page/") <= 24


def test_no_error_in_the_console(browser: webdriver.Chrome) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
