"""Charts: coloured by the page, described mark by mark, the same bytes twice."""

from __future__ import annotations

import re

from reports.analysis import Analysis, analyse
from reports.charts.dimensions import mean_plots
from reports.charts.dots import dot_plots
from reports.charts.drawing import PALETTE, Chart
from reports.frameworks import ByDimension
from tests.reports.reading import read
from tests.reports.synthetic import human, last, results

BOTH = [("a", "us", "def", human), ("b", "us", "def", last), ("a", "cn", "def", human), ("b", "cn", "def", last)]


def dimension_plots(found: Analysis) -> tuple[Chart, ...]:
    """Figure 5 of an analysis that has it."""
    assert isinstance(found.parts.by_dimension, ByDimension)
    return mean_plots(found, found.parts.by_dimension)


def test_one_chart_per_culture_and_one_per_model() -> None:
    """Two cultures and two models give two charts of each kind."""
    found = analyse(results(BOTH))
    assert [chart.title for chart in dot_plots(found)] == [
        "Distance from people: United States",
        "Distance from people: China",
    ]
    assert [chart.title for chart in dimension_plots(found)] == ["a", "b"]


def test_colours_and_type_are_the_pages() -> None:
    """No colour of its own, no font, no placeholder left."""
    for chart in dot_plots(analyse(results(BOTH))):
        assert not set(PALETTE) & set(re.findall(r"#[0-9a-f]{6}", chart.svg))
        assert "font-family" not in chart.svg
        assert "var(--series-" in chart.svg
        assert "var(--floor)" in chart.svg


def test_marks_say_their_figures() -> None:
    """Every model's mark carries name, figure, interval and floor."""
    found = analyse(results(BOTH))
    titles = [title.text for title in read(dot_plots(found)[0].svg).find("title")]
    for cell in found.cultures[0].cells:
        assert any(
            title.startswith(f"{cell.name}: {cell.sound.headline:.{2 if cell.sound.headline >= 0.1 else 3}f} (")
            and "as many people" in title
            for title in titles
        )
    assert any(title.startswith("answers at random: ") for title in titles)


def test_names_are_escaped() -> None:
    """A model's name cannot open an element within a drawing."""
    chart = dot_plots(analyse(results([("<b onload=x>&\x00", "us", "def", human)])))[0]
    assert "<b " not in chart.svg
    assert "\x00" not in chart.svg
    assert "&lt;b onload=x&gt;&amp;" in chart.svg


def test_nothing_measured_draws_nothing() -> None:
    """Without a value there is no empty chart."""
    found = analyse(results(states=(0, 1, 0, 0)))
    assert dot_plots(found) == ()
    assert dimension_plots(found) == ()


def test_drawing_twice_gives_the_same_bytes() -> None:
    """Counters within the drawing library do not show."""
    found = analyse(results(BOTH))
    assert dot_plots(found) == dot_plots(found)
    assert dimension_plots(found) == dimension_plots(found)
