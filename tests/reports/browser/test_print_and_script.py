"""Print and scripts in headless Chromium: what paper keeps, and which way a text runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.reports.build import build_report
from tests.reports.browser.chromium import Chromium
from tests.reports.synthetic import human, results, sample, uniform

pytestmark = pytest.mark.browser

#: Colours that the page has a name for.
COLOURS = ("shade-rgb", "bar-rgb", "good", "bad", "accent", "caution", *(f"series-{n}" for n in range(1, 7)))
#: As long as a name of a checkpoint may be.
LONG = "organisation-with-a-long-name/Some-Very-Long-Model-Name-Instruct-2507-FP8-dynamic-checkpoint-000123-merged-dpo"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cultures, a name of 110 characters, a reply from right to left."""
    cells = [(m, c, "def", r) for m, r in ((LONG, human), ("b", uniform)) for c in ("us", "cn")]
    samples = (sample("می‌خواهم بگویم: 1. خیلی مهم است!"), sample("1. Very important!"))
    return build_report(replace(results(cells), samples=samples), tmp_path_factory.mktemp("small")).html


def colours(browser: Chromium) -> list[str]:
    """What the page's names for colours stand for."""
    style = "getComputedStyle(document.documentElement)"
    return [str(browser.run(f"{style}.getPropertyValue('--{name}')")).strip() for name in COLOURS]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_paper_has_the_colours_of_the_light_page(browser: Chromium, report: Path, dark: bool) -> None:
    """Pale ones for a dark screen would hardly be seen on it."""
    browser.look(1280)
    browser.open(report)
    light = colours(browser)
    browser.look(1280, dark=dark, printed=True)
    browser.open(report)
    assert colours(browser) == light


def test_paper_keeps_marks_and_shades(browser: Chromium, report: Path) -> None:
    """They carry what is said: a printer that leaves out backgrounds prints them all the same."""
    browser.look(1280, printed=True)
    browser.open(report)
    for part in (".legend .mark", "#table-smoothed td[class^=s]", "#figure-8-dimensions td[class^=s]", ".chart"):
        assert browser.run(f"getComputedStyle(document.querySelector('{part}')).printColorAdjust") == "exact"


def test_a_reply_runs_from_right_to_left_where_its_letters_do(browser: Chromium, report: Path) -> None:
    """The first sample begins at the right, the second at the left."""
    browser.look(1280)
    browser.open(report)
    replies = "[...document.querySelectorAll('#appendix-e pre.reply')]"
    assert browser.run(f"{replies}.map((reply) => getComputedStyle(reply).direction)") == ["rtl", "ltr"]
    assert browser.run(f"{replies}.map((reply) => getComputedStyle(reply).unicodeBidi)") == ["plaintext"] * 2


def test_labels_beside_a_long_name_can_be_read(browser: Chromium, report: Path) -> None:
    """The drawing keeps its scale, so that its text is as tall as with short names."""
    browser.look(1280)
    browser.open(report)
    drawing = "document.querySelector('#dots-0 svg')"
    scale = browser.run(f"{drawing}.getBoundingClientRect().width / {drawing}.viewBox.baseVal.width")
    assert 13 * float(str(scale)) > 11.5
