"""Sample answers as they were shown, and one card per question with people beside models.

Knows how an answer came about from what is stored beside it. Deliberately escapes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from reports.figures import NONE, fixed, percent
from reports.page import Column, Entry, OptionLine, QuestionCard, SampleCard, Table, TableRow
from reports.untrusted import cut
from storage.results import Sample
from storage.run import AnswerState, Draws, UsedDecoding
from storage.survey import Question, QuestionType, Wording

#: Sample answers shown.
SAMPLES = 10


def _worded(wording: Wording, language: str) -> tuple[str, str]:
    """The wording in that language, else in the first there is; and which language it is."""
    if language in wording:
        return wording[language], language
    first = next(iter(wording), "")
    return wording.get(first, ""), first


def sample_cards(analysis: Analysis) -> tuple[SampleCard, ...]:
    """The first ten samples that the results bring."""
    return tuple(_sample(analysis, sample) for sample in analysis.results.samples[:SAMPLES])


def _sample(analysis: Analysis, sample: Sample) -> SampleCard:
    results, answer = analysis.results, sample.answer
    cell = results.run.cells[sample.cell]
    question = results.survey.question(answer.question)
    text, language = _worded(question.text, cell.language)
    name = next(known.name for known in analysis.cells if known.cell == cell)
    completion, left_out = cut(answer.completion)
    return SampleCard(
        heading=f"{question.id} · {name}",
        question=text,
        lang=language,
        options=tuple(
            OptionLine(
                code=code,
                label=_worded(question.option(code).label, cell.language)[0],
                chosen=code in answer.choices,
            )
            for code in answer.shown
        ),
        chips=(
            f"participant {sample.participant}",
            _place(analysis, cell.culture, answer.draws),
            _decoding(answer.draws, answer.used),
            _memory(sample),
        ),
        state=answer.state.value,
        reason=answer.reason if answer.state is not AnswerState.ANSWERED else "",
        completion=completion,
        left_out=left_out,
    )


def _place(analysis: Analysis, code: str, draws: Draws) -> str:
    culture = analysis.results.survey.culture(code)
    country = culture.name.get("en", code)
    if draws.region is None:
        return country
    region = culture.region(draws.region)
    return f"{region.name.get('en', region.code)}, {country}"


def _decoding(draws: Draws, used: UsedDecoding) -> str:
    if used.num_beams is None and used.do_sample is None:
        return "provider's own decoding"
    beams = draws.num_beams if used.num_beams is None else used.num_beams
    sampled = draws.do_sample if used.do_sample is None else used.do_sample
    return f"{beams} beam{'' if beams == 1 else 's'}, {'sampled' if sampled else 'not sampled'}"


def _memory(sample: Sample) -> str:
    remembered = sample.remembered_questions
    if not remembered:
        return "remembers nothing"
    noun = "question" if len(remembered) == 1 else "questions"
    return f"remembers {len(remembered)} {noun}: {', '.join(remembered)}"


_TYPES = {
    QuestionType.SINGLE: "one of several",
    QuestionType.ORDINAL: "ordered",
    QuestionType.SCALE: "scale",
    QuestionType.MULTIPLE: "several of a list",
}


def question_cards(analysis: Analysis) -> tuple[QuestionCard, ...]:
    """Every question of the run, none left out."""
    return tuple(_question(analysis, place) for place in range(len(analysis.items.questions)))


def _question(analysis: Analysis, place: int) -> QuestionCard:
    question = analysis.items.questions[place]
    return QuestionCard(
        anchor=f"question-{place + 1}",
        id=question.id,
        text=_worded(question.text, "en")[0],
        chips=(_TYPES[question.type], *question.dimensions),
        tables=tuple(_answers(analysis, culture, place) for culture in analysis.cultures),
    )


def _answers(analysis: Analysis, culture: CultureAnalysis, place: int) -> Table:
    question, items = analysis.items.questions[place], analysis.items.of_question(place)
    people = _shares(question, culture.reference.shares[items])
    models = [_shares(question, cell.counts[items]) for cell in culture.cells]
    rows = [
        TableRow(
            head=Entry(text=_option(question, number)),
            entries=tuple(_share(float(shares[number])) for shares in (people, *models)),
        )
        for number in range(len(question.options))
    ]
    rows += _measures(culture, question, place, items)
    known = float(culture.reference.n[items[0]])
    note = "too few people for anything but a demonstration" if culture.reference.low_n[items[0]] else ""
    return Table(
        anchor=f"question-{place + 1}-{culture.culture.code}",
        caption=f"{question.id}, {culture.name}",
        columns=(
            Column(text="Option", words=True),
            Column(text="People", meaning=note or "share of people who answered so"),
            *(Column(text=cell.name) for cell in culture.cells),
        ),
        rows=(
            *rows[: len(question.options)],
            TableRow(
                head=Entry(text="n"),
                entries=(
                    Entry(text=NONE if np.isnan(known) else f"{known:,.0f}"),
                    *(Entry(text=str(cell.n_valid[place])) for cell in culture.cells),
                ),
                quiet=True,
            ),
            *rows[len(question.options) :],
        ),
        notes=("No reference: not asked here, or not known.",) if np.isnan(known) else (),
    )


def _option(question: Question, number: int) -> str:
    option = question.options[number]
    label = _worded(option.label, "en")[0]
    value = f" ({option.value.dimension})" if option.value is not None else ""
    return f"{label}{value}" if label == str(option.code) else f"{option.code}: {label}{value}"


def _shares(question: Question, weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float]:
    """Share of each option: of one item, or of every item of a list."""
    totals = weights.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        if question.type is QuestionType.MULTIPLE:
            return (weights[:, 1] / totals).tolist()  # type: ignore[no-any-return]
        return (weights[0] / totals[0]).tolist()  # type: ignore[no-any-return]


def _share(share: float) -> Entry:
    return Entry(text=percent(share), bar=None if np.isnan(share) else min(share, 1.0))


def _measures(
    culture: CultureAnalysis, question: Question, place: int, items: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> Iterable[TableRow]:
    def row(name: str, entries: list[Entry]) -> TableRow:
        return TableRow(head=Entry(text=name), entries=(Entry(text=""), *entries), quiet=True)

    def measured(cell: CellAnalysis, value: float, floor: float) -> Entry:
        reason = cell.divergences.reasons[items[0]]
        return Entry(text=fixed(value), beneath=fixed(floor), why=reason)

    yield row(
        "Smoothed KL",
        [
            measured(cell, float(cell.sound.by_question[place]), float(cell.sound_floor.by_question[place]))
            for cell in culture.cells
        ],
    )
    item = int(items[0])
    if question.type.ordered:
        yield row(
            "Wasserstein, scaled",
            [
                measured(cell, float(cell.divergences.wasserstein[item]), float(cell.floor.wasserstein[item]))
                for cell in culture.cells
            ],
        )
    elif question.type is QuestionType.SINGLE:
        yield row(
            "Jensen-Shannon distance",
            [
                measured(
                    cell,
                    float(cell.divergences.js_distance[item]),
                    culture.floor.js_distance(item, int(cell.n_valid[place])),
                )
                for cell in culture.cells
            ],
        )
