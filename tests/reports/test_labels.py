"""Long names in drawings: cut where they would leave no room, whole where a mark says its figure."""

from __future__ import annotations

import re
from dataclasses import replace

from defsurvey.reports.analysis import analyse
from defsurvey.reports.charts.drawing import LONGEST, room_for, shortened, width_of
from defsurvey.reports.figures.closeness import dot_plots
from defsurvey.reports.figures.cultural_map import culture_map
from defsurvey.reports.figures.landscape import near_section
from defsurvey.reports.figures.shared import cultural_map
from defsurvey.storage.runs.results import Results
from tests.reports.reading import read
from tests.reports.synthetic import human, one_question, results, uniform

LONG = "organisation-with-a-long-name/Some-Very-Long-Model-Name-Instruct-2507-FP8-dynamic-checkpoint-000123-merged-dpo"


def test_long_names_lose_their_middle() -> None:
    """Their beginning and end stay, short ones are whole, and wide characters count twice."""
    short, long, wide = shortened(["m", LONG, "长" * 40])
    assert short == "m"
    assert long.startswith("organisation-wi")
    assert long.endswith("-merged-dpo")
    assert "…" in long
    assert width_of(long) == width_of(wide) + 1 == LONGEST
    assert shortened(["n" * LONGEST]) == ["n" * LONGEST]


def test_names_that_would_look_alike_are_numbered() -> None:
    """Two that differ in the middle alone stay two."""
    names = [f"{'a' * 40}{middle}{'z' * 40}" for middle in "xyx"]
    first, second, again = shortened(names)
    assert first == again != second
    assert (first[-2:], second[-2:]) == (" 1", " 2")
    assert {width_of(first), width_of(second)} == {LONGEST}


def long_names() -> Results:
    """Two models of 110 characters in two cultures."""
    cells = [(m, c, "def", r) for m, r in ((LONG, human), (f"{LONG}-b", uniform)) for c in ("us", "cn")]
    return results(cells)


def test_a_long_name_leaves_room_for_the_drawing() -> None:
    """Text stays readable: the drawing is hardly wider than with short names, and the mark says the whole name."""
    chart = dot_plots(analyse(long_names()))[0]
    width = float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0])
    assert width < 520
    drawn = read(chart.svg)
    assert not any(LONG in text.text for text in drawn.find("text"))
    assert any(title.text.startswith(f"{LONG}: ") for title in drawn.find("title"))
    assert room_for([LONG]) == room_for(["n" * LONGEST])


def test_long_options_leave_room_too() -> None:
    """A long option is cut on its row, and whole in its title."""
    known = one_question()
    first = known.questions[0]
    tail = "because this option has a really long label that goes on"
    options = tuple(replace(each, label={"en": f"{each.label['en']} {tail}"}) for each in first.options)
    tiny = replace(known, questions=(replace(first, options=options),))
    (chart,) = near_section(analyse(results(tiny=tiny))).charts
    assert float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0]) < 520


def test_names_on_the_map_are_cut_and_keep_their_letters() -> None:
    """Only people are written with a capital letter; a model is called as it is called."""
    found = analyse(long_names())
    part = found.figure(cultural_map)
    drawn = read(culture_map("m", "M", part.sound, {"us": "United States", "cn": "China"}).svg)
    titles = [title.text for title in drawn.find("title")]
    assert any(title.startswith("People, China: ") for title in titles)
    assert any(title.startswith(f"{LONG}, China: ") for title in titles)
    assert not any("-" in title.rpartition(": ")[2] for title in titles)
    assert max(len(text.text) for text in drawn.find("text")) <= LONGEST
