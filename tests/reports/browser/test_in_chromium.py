"""The report in headless Chromium: it loads nothing, complains of nothing, and everything on it works.

`make browser` fetches axe-core and runs these; without Chromium or axe-core they fail.
"""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from defsurvey.reports.build import build_report
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import AnswerState
from tests.reports.browser.chromium import Chromium
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import human, last, results, sample, uniform
from tests.reports.test_build import HOSTILE

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[3] / "build" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
#: Violations of these kinds are none that a reader can live with.
GRAVE = ("serious", "critical")


def small() -> Results:
    """Two models in two cultures, with answers as a hostile model would give them, and a study to match."""
    made = results(
        [("=evil", "us", "def", uniform), ("=evil", "cn", "def", last), ("b", "us", "def", human)],
        states=(0.85, 0.05, 0.05, 0.05),
        samples=(
            sample(HOSTILE + "x" * 10_000),
            sample("回答：3：物价", cell=1, question="Q2", region="CN-GD"),
            sample("<script>document.title = 'taken'</script>", state=AnswerState.REFUSED, region=None),
        ),
        study="name: '</pre></style><script>document.title = \"taken\"</script>'\n",
    )
    again = replace(made.samples[1], answer=replace(made.samples[1].answer, out_of_sequence=True))
    return replace(made, samples=(made.samples[0], again, made.samples[2]))


@pytest.fixture(scope="module")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(small(), tmp_path_factory.mktemp("small")).html


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = planted(wide_survey(40))
    return build_report(made.results, tmp_path_factory.mktemp("wide"), draws=made.draws).html


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", ["small", "wide"])
def test_it_asks_for_nothing_and_complains_of_nothing(
    browser: Chromium, request: pytest.FixtureRequest, kind: str, dark: bool, width: int
) -> None:
    """The file is the one request, the console is empty, and the page is as wide as the window."""
    path: Path = request.getfixturevalue(f"{kind}_report")
    browser.look(width, dark=dark)
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_hostile_answers_are_text(browser: Chromium, small_report: Path) -> None:
    """No script of an answer ran, no tag of one closed the page, and its text can be read."""
    browser.look(1280)
    browser.open(small_report)
    assert browser.run("document.title").startswith("run-1")
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('main > section').length") > 20
    assert browser.run("[...document.querySelectorAll('section')].every((part) => part.closest('main'))")
    shown = browser.run("document.querySelector('#appendix-e pre').textContent")
    assert "<script>alert(1)</script>" in shown
    assert "U+0000" in shown
    assert browser.run("document.querySelectorAll('.reply *:not(.control)').length") == 0


def test_every_entry_of_the_contents_leads_to_its_section(browser: Chromium, wide_report: Path) -> None:
    """A click brings the section to the top and marks the entry."""
    browser.look(1280)
    browser.open(wide_report)
    entries = browser.run("[...document.querySelectorAll('nav a')].map((link) => link.hash)")
    assert len(entries) > 25
    for place, target in enumerate(entries):
        browser.run(f"document.querySelectorAll('nav a')[{place}].click()")
        browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        top, height = browser.run(
            f"(({{top}}) => [top, innerHeight])(document.querySelector({json.dumps(target)}).getBoundingClientRect())"
        )
        assert -5 <= top < height, f"{target} is at {top}"


def test_the_contents_stay_in_sight(browser: Chromium, wide_report: Path) -> None:
    """However far one reads, they stand at the side, and on a phone at the top."""
    for width in (1280, 390):
        browser.look(width)
        browser.open(wide_report)
        browser.run("scrollTo(0, document.body.scrollHeight / 2)")
        browser.run("new Promise((done) => setTimeout(done, 200))")
        assert abs(browser.run("document.querySelector('nav').getBoundingClientRect().top")) < 1
        assert browser.run("document.querySelectorAll('nav a[aria-current]').length") == 1


def column(browser: Chromium, table: str, place: int) -> list[str]:
    rows = f"[...document.querySelectorAll('#{table} tbody tr:not(.group)')]"
    return list(browser.run(f"{rows}.map((row) => row.cells[{place}].firstChild.textContent)"))


def press(browser: Chromium, table: str, place: int) -> str | None:
    """Press the head of a column; how it says that it is sorted."""
    head = f"document.querySelectorAll('#{table} thead th')[{place}]"
    browser.run(f"{head}.querySelector('button').click()")
    said: str | None = browser.run(f"{head}.getAttribute('aria-sort')")
    return said


def test_tables_sort(browser: Chromium, wide_report: Path) -> None:
    """Up, down, and as they were; groups keep their rows; figures by size and names by letter."""
    browser.look(1280)
    browser.open(wide_report)
    given = column(browser, "table-2-smoothed", 1)
    assert press(browser, "table-2-smoothed", 1) == "ascending"
    assert column(browser, "table-2-smoothed", 1) == sorted(given, key=float)
    assert press(browser, "table-2-smoothed", 1) == "descending"
    assert column(browser, "table-2-smoothed", 1) == sorted(given, key=float, reverse=True)
    assert press(browser, "table-2-smoothed", 1) is None
    assert column(browser, "table-2-smoothed", 1) == given
    press(browser, "table-smoothed", 0)
    press(browser, "table-smoothed", 0)
    names = column(browser, "table-smoothed", 0)
    half = len(names) // 2
    assert names[:half] == names[half:] == sorted(names[:half], reverse=True)


def test_sorting_knows_signs_shares_and_gaps(browser: Chromium, small_report: Path) -> None:
    """A minus, a per cent, a thousand and a figure that is missing find their places."""
    browser.look(1280)
    browser.open(small_report)
    cells = ["−0.5", "12.5%", "1,234", "–", "<0.1%", "+0.25", "$20.00", "$1,235.50", "$0.0123", ">−0.1%", "<−99.9%"]
    browser.run(
        "(() => { const body = document.querySelector('#table-quality tbody'); const row = body.rows[1];"
        f"for (const text of {json.dumps(cells)}) {{ const made = row.cloneNode(true);"
        "made.cells[1].textContent = text; body.append(made); } row.remove();"
        "body.given = null; })()"
    )
    press(browser, "table-quality", 1)
    found = [cell for cell in column(browser, "table-quality", 1) if cell in cells]
    assert found == [
        "<−99.9%", "−0.5", ">−0.1%", "$0.0123", "<0.1%", "+0.25", "12.5%", "$20.00", "1,234", "$1,235.50", "–",
    ]  # fmt: skip


def test_people_keep_their_place_among_sorted_models(browser: Chromium, wide_report: Path) -> None:
    """Rows to compare with stay on top of their group."""
    browser.look(1280)
    browser.open(wide_report)
    browser.run("document.querySelector('#question-1 summary').click()")
    browser.run("new Promise((done) => setTimeout(done, 50))")
    press(browser, "question-1-answers", 1)
    names = column(browser, "question-1-answers", 0)
    assert [place for place, name in enumerate(names) if name == "People"] == [0, 12]


def test_the_explorer_opens_and_finds(browser: Chromium, wide_report: Path) -> None:
    """Every question is there; a click shows its figures; words narrow the list; all open at once."""
    browser.look(1280)
    browser.open(wide_report)
    assert browser.run("document.querySelectorAll('.explorer > details').length") == 40
    browser.run("document.querySelector('#question-3 summary').click()")
    assert browser.run("document.querySelector('#question-3 table').getBoundingClientRect().height") > 100
    browser.run(
        "(() => { const field = document.querySelector('.tools input'); field.value = 'question 17';"
        "field.dispatchEvent(new Event('input')); })()"
    )
    visible = (
        "[...document.querySelectorAll('.explorer > details')].filter((part) => part.offsetHeight).map((p) => p.id)"
    )
    assert browser.run(visible) == ["question-17"]
    assert browser.run("document.querySelector('.tools output').textContent") == "1 of 40"
    browser.run("document.querySelector('.tools .plain').click()")
    assert browser.run("document.querySelector('#question-17').open") is True


def test_a_link_to_a_question_opens_it(browser: Chromium, wide_report: Path) -> None:
    """An address that ends in a closed question shows it open."""
    browser.look(1280)
    browser.open(wide_report)
    browser.run("location.hash = '#question-30'; new Promise((done) => setTimeout(done, 200))")
    assert browser.run("document.querySelector('#question-30').open") is True
    top = browser.run("document.querySelector('#question-30').getBoundingClientRect().top")
    assert 0 <= top < 900


def had(browser: Chromium, table: str) -> list[list[str]]:
    """The lines of a table's CSV, as a reader of CSV finds them."""
    browser.run("HTMLAnchorElement.prototype.click = function () { globalThis.had = [this.download, this.href]; }")
    browser.run(f"document.querySelector('#{table} button.csv').click()")
    name, address = browser.run("globalThis.had")
    assert name == f"{table}.csv"
    text = unquote(address.removeprefix("data:text/csv;charset=utf-8,")).removeprefix("\ufeff")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_table_can_be_had_as_csv(browser: Chromium, small_report: Path) -> None:
    """With its groups, in the order seen, and with nothing that a spreadsheet would run."""
    browser.look(1280)
    browser.open(small_report)
    head, *rows = had(browser, "table-quality")
    assert head[:3] == ["group", "Model", "Planned"]
    assert [row[:3] for row in rows] == [
        ["United States", "'=evil", "80"],
        ["United States", "b", "80"],
        ["China", "'=evil", "80"],
    ]


def test_the_csv_of_a_table_has_all_that_stands_in_it(browser: Chromium, small_report: Path) -> None:
    """What is small beneath a figure has a column of its own, which a column without any has not."""
    browser.look(1280)
    browser.open(small_report)
    head, *rows = had(browser, "table-smoothed")
    assert head[-7:] == [
        "Mean", "Mean, beneath", "95% interval", "95% interval, beneath", "Excess",
        "By question", "By question, beneath",
    ]  # fmt: skip
    shown = browser.run(
        "[...document.querySelectorAll('#table-smoothed tbody tr:not(.group)')].map((row) => "
        "[...row.cells].slice(1).flatMap((cell) => [...cell.childNodes].map((part) => part.textContent)))"
    )
    assert len(shown) == len(rows) == 3
    plain = {ord("−"): "-", ord("+"): None}
    for cells, row in zip(shown, rows, strict=True):
        assert [cell for cell in row[2:] if cell] == [cell.translate(plain) for cell in cells]
        mean, floor, excess = (float(row[head.index(name)]) for name in ("Mean", "Mean, beneath", "Excess"))
        assert excess == pytest.approx(mean - floor, abs=0.002)


def test_figures_in_a_csv_are_numbers(browser: Chromium, small_report: Path) -> None:
    """Signs and thousands as a program reads them; whatever is text keeps its apostrophe, in heads of rows too."""
    browser.look(1280)
    browser.open(small_report)
    cells = {
        "+1.388": "1.388", "−0.011": "-0.011", "1,280": "1280", "$1,234.50": "$1234.50", "−12.5%": "-12.5%",
        "<0.001": "<0.001", "1–3": "1–3", "0.02 to 0.30": "0.02 to 0.30", "−0.02 to 0.30": "−0.02 to 0.30",
        "-2+3": "'-2+3", "+1,38": "'+1,38", "-": "'-", "@x": "'@x",
    }  # fmt: skip
    browser.run(
        "(() => { const body = document.querySelector('#table-quality tbody'); const row = body.rows[1];"
        f"for (const text of {json.dumps(list(cells))}) {{ const made = row.cloneNode(true);"
        "made.cells[0].textContent = '+1'; made.cells[1].textContent = text; body.append(made); } row.remove(); })()"
    )
    _, *rows = had(browser, "table-quality")
    assert [row[2] for row in rows if row[1] == "'+1"] == list(cells.values())


def test_without_script_everything_can_be_read(browser: Chromium, wide_report: Path) -> None:
    """No button promises what would not work; tables and questions are there."""
    browser.look(1280)
    browser.open(Path(__file__))
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(wide_report)
        assert browser.run("document.querySelectorAll('button, input').length") == 0
        assert browser.run("document.querySelectorAll('.explorer table').length") == 40
        browser.run("document.querySelector('#question-2').open = true")
        assert browser.run("document.querySelector('#question-2 table').getBoundingClientRect().height") > 100
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_dark_is_dark(browser: Chromium, wide_report: Path) -> None:
    """Paper and ink change places, in drawings too."""
    brightness = {}
    for dark in (False, True):
        browser.look(1280, dark=dark)
        browser.open(wide_report)
        shades = browser.run(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            "getComputedStyle(document.querySelector('.chart text')).fill]"
        )
        brightness[dark] = [sum(map(int, re.findall(r"\d+", shade)[:3])) for shade in shades]
    assert brightness[False][0] > 600 > brightness[False][1]
    assert brightness[True][0] < 150 < brightness[True][1]
    assert brightness[True][2] > 400 > brightness[False][2]


def test_it_prints(browser: Chromium, wide_report: Path) -> None:
    """Contents and tools are left out, and there are pages."""
    browser.look(1280, printed=True)
    browser.open(wide_report)
    for part in ("nav", ".tools", "button.csv"):
        assert browser.run(f"getComputedStyle(document.querySelector('{part}')).display") == "none"
    made = browser.pdf()
    assert made.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", made)) > 5


@pytest.mark.parametrize("kind", ["small", "wide"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_grave(browser: Chromium, request: pytest.FixtureRequest, kind: str, dark: bool) -> None:
    """No serious or critical violation, with everything that can be opened open."""
    assert AXE.is_file(), f"{AXE} is not there: `make browser` fetches it"
    browser.look(1280, dark=dark)
    browser.open(request.getfixturevalue(f"{kind}_report"))
    browser.run(
        "[...document.querySelectorAll('details')].slice(0, 30).forEach((part) => { part.open = true; });"
        "new Promise((done) => setTimeout(done, 100))"
    )
    browser.run(AXE.read_text(encoding="utf-8") + "; 0")
    found = browser.run("axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)")
    grave = {
        each["id"]: [each["help"], len(each["nodes"]), [node["html"][:200] for node in each["nodes"][:3]]]
        for each in found
        if each["impact"] in GRAVE
    }
    assert grave == {}


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
