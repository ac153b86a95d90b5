"""Appendix G in both ways: by the group's share, and by how many of its people chose the option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.profiles import Profiles, heatmap_section, profiles
from defsurvey.reports.page import Fold
from tests.reports.planted import planted
from tests.reports.wide import wide_survey

FOUND = analyse(planted(wide_survey(60), models=("men", "random")).results)


def folds(analysis: Analysis) -> tuple[Fold, ...]:
    """One for each culture."""
    return heatmap_section(analysis).folds


def profiles_of(analysis: Analysis) -> Profiles:
    """The tensors behind them."""
    assert isinstance(analysis.figure(profiles), Profiles)
    return analysis.figure(profiles)


def test_the_papers_way_stands_beside_the_sound_one() -> None:
    """A table of its own per culture, with the figures of raw counts: they name other groups."""
    for fold, code in zip(folds(FOUND), ("us", "cn"), strict=True):
        sound, paper = fold.tables
        assert (sound.anchor, paper.anchor) == (f"appendix-g-table-{code}", f"appendix-g-paper-table-{code}")
        assert paper.caption.startswith("The paper's way: mismatching items, ")
        for table, rows in ((sound, profiles_of(FOUND).sound), (paper, profiles_of(FOUND).paper)):
            shown = [float(entry.text or 0) for row in table.rows for entry in row.entries]
            tensors = np.concatenate([row.tensor.ravel() for row in rows if row.culture == code])
            assert shown == [round(value, 1) for value in tensors.tolist()]
        assert sound.rows != paper.rows


def test_the_papers_way_is_left_out_where_it_is_the_same() -> None:
    """Groups of equal size have the same figures both ways."""
    part = profiles_of(FOUND)
    same = replace(FOUND, figures={profiles: replace(part, paper=part.sound)})
    assert [len(fold.tables) for fold in folds(same)] == [1, 1]
