"""Sample answers as they were shown, and one card per question with people beside models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Floats, Ints
from defsurvey.reports.figures.distinguishing import LEVEL, DistinguishedCell, distinguish
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.number_format import NONE, chance, counted, fixed, percent
from defsurvey.reports.page import Column, Entry, OptionLine, QuestionCard, SampleCard, Table, TableRow
from defsurvey.reports.untrusted import cut
from defsurvey.storage.runs.results import Sample
from defsurvey.storage.runs.run import AnswerState, Draws, UsedDecoding
from defsurvey.storage.surveys.survey import Question, QuestionType, Wording

#: Sample answers shown in the open.
SAMPLES = 10


def worded(wording: Wording, language: str) -> tuple[str, str]:
    """The wording in that language, else in the first there is; and which language it is."""
    if language in wording:
        return wording[language], language
    first = next(iter(wording), "")
    return wording.get(first, ""), first


def sample_cards(analysis: Analysis, places: Sequence[int]) -> tuple[SampleCard, ...]:
    """Samples of the results, by their positions."""
    return tuple(_sample(analysis, analysis.results.samples[place]) for place in places)


def _sample(analysis: Analysis, sample: Sample) -> SampleCard:
    results, answer = analysis.results, sample.answer
    cell = results.run.cells[sample.cell]
    question = results.survey.worded(answer.question, answer.draws.paraphrase)
    text, language = worded(question.text, cell.language)
    paraphrased = (f"paraphrase {answer.draws.paraphrase}",) if answer.draws.paraphrase else ()
    name = next(known.name for known in analysis.cells if known.cell == cell)
    completion, left_out = cut(answer.completion)
    return SampleCard(
        heading=f"{question.id} · {name}",
        question=text,
        lang=language,
        options=tuple(
            OptionLine(
                code=code,
                label=worded(question.option(code).label, cell.language)[0],
                chosen=code in answer.choices,
            )
            for code in answer.shown
        ),
        chips=(
            f"participant {sample.participant}",
            _place(analysis, cell.culture, answer.draws),
            _decoding(answer.used),
            _memory(sample),
            *paraphrased,
        ),
        warnings=("asked again out of sequence",) if answer.out_of_sequence else (),
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


def _decoding(used: UsedDecoding) -> str:
    if used.num_beams is None and used.do_sample is None:
        return "provider's own decoding"
    beams = "provider's own beams" if used.num_beams is None else counted(used.num_beams, "beam")
    sampling = {None: "provider's own sampling", True: "sampled", False: "not sampled"}[used.do_sample]
    return f"{beams}, {sampling}"


def _memory(sample: Sample) -> str:
    remembered = sample.remembered_questions
    if not remembered:
        return "remembers nothing"
    return f"remembers {counted(len(remembered), 'question')}: {', '.join(remembered)}"


_TYPES = {
    QuestionType.SINGLE: "one of several",
    QuestionType.ORDINAL: "ordered",
    QuestionType.SCALE: "scale",
    QuestionType.MULTIPLE: "several of a list",
}


def question_cards(analysis: Analysis) -> tuple[QuestionCard, ...]:
    """Every question of the run, none left out."""
    samples: dict[str, list[int]] = {}
    for place, sample in enumerate(analysis.results.samples):
        samples.setdefault(sample.answer.question, []).append(place)
    tests = {(cell.culture, cell.name): cell for cell in analysis.figure(distinguish).cells}
    return tuple(
        _question(analysis, place, tests, samples.get(question.id, []))
        for place, question in enumerate(analysis.items.questions)
    )


def _question(
    analysis: Analysis, place: int, tests: dict[tuple[str, str], DistinguishedCell], samples: Sequence[int]
) -> QuestionCard:
    question = analysis.items.questions[place]
    adjusted = np.array([test.adjusted[place] for test in tests.values()])
    tested, told = int((~np.isnan(adjusted)).sum()), int((adjusted < LEVEL).sum())
    verdict = f"{told} of {tested} told from people" if tested else "not compared"
    return QuestionCard(
        anchor=f"question-{place + 1}",
        id=question.id,
        text=worded(question.text, "en")[0],
        chips=(_TYPES[question.type], *question.dimensions, verdict),
        table=_table(analysis, question, place, tests),
        samples=sample_cards(analysis, samples),
    )


_BENEATH = "; beneath: what as many people would score"
_DISTANCES = {
    QuestionType.SINGLE: Column(text="JS", meaning=f"Jensen-Shannon distance, base 2{_BENEATH}"),
    QuestionType.ORDINAL: Column(text="W₁", meaning=f"Wasserstein distance, 0 to 1{_BENEATH}"),
    QuestionType.SCALE: Column(text="W₁", meaning=f"Wasserstein distance, 0 to 1{_BENEATH}"),
    QuestionType.MULTIPLE: Column(text="TV", meaning=f"total variation, mean over options{_BENEATH}"),
}


def _table(
    analysis: Analysis, question: Question, place: int, tests: dict[tuple[str, str], DistinguishedCell]
) -> Table:
    items = analysis.items.of_question(place)
    rows: list[TableRow] = []
    notes: list[str] = []
    asked = run_of_cells(analysis.results.run)
    for culture in analysis.cultures:
        if not any(question.id in asked[cell.place].questions for cell in culture.cells):
            continue
        known = ~np.isnan(culture.reference.n[items])
        rows.append(_people(question, culture, items))
        rows += [
            _respondent(question, culture, cell, place, items, tests[culture.culture.code, cell.name])
            for cell in culture.cells
        ]
        if not known.any():
            notes.append(f"{culture.name}: no reference, not asked there or not known.")
            continue
        if not known.all():
            notes.append(f"{culture.name}: not published for every option; KL, floor and p are of those that were.")
        if culture.reference.low_n[items].any():
            notes.append(f"{culture.name}: too few people for anything but a demonstration.")
    return Table(
        anchor=f"question-{place + 1}-answers",
        caption=f"{question.id}: share of answers",
        grouped_by="Culture",
        columns=(
            Column(text="Respondent", words=True),
            *(Column(text=option_label(question, number)) for number in range(len(question.options))),
            Column(text="n", meaning="valid answers; beneath: how many people weighted ones count as"),
            Column(text="KL", meaning="smoothed KL divergence, nats"),
            Column(text="Floor", meaning="what as many people would score"),
            _DISTANCES[question.type],
            Column(text="p", meaning="could these be as many people? Benjamini-Hochberg over the cell's questions"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def option_label(question: Question, number: int) -> str:
    """An option with its code, and its value dimension where it has one of its own."""
    option = question.options[number]
    label = worded(option.label, "en")[0]
    value = f" ({option.value.dimension})" if option.value is not None else ""
    return f"{label}{value}" if label == str(option.code) else f"{option.code}: {label}{value}"


def _people(question: Question, culture: CultureAnalysis, items: Ints) -> TableRow:
    known = items[~np.isnan(culture.reference.n[items])]
    first = int(known[0] if known.size else items[0])
    asked, effective = float(culture.reference.asked[first]), float(culture.reference.n[first])
    counted = f"as {effective:,.0f}" if effective < asked - 0.5 else ""
    return TableRow(
        head=Entry(text="People"),
        group=culture.name,
        quiet=True,
        entries=(
            *(
                _share(share, percent(share), why="no reference")
                for share in _shares(question, culture.reference.shares[items])
            ),
            _figure(asked, f"{asked:,.0f}", beneath=counted, why="no reference"),
            *(Entry(text="") for _ in range(4)),
        ),
    )


def _respondent(
    question: Question,
    culture: CultureAnalysis,
    cell: CellAnalysis,
    place: int,
    items: Ints,
    test: DistinguishedCell,
) -> TableRow:
    valid = int(cell.n_valid[place])
    # a model's shares rest on few answers: whole per cents say all there is
    shares = _shares(question, cell.counts[items]) if valid else [float("nan")] * len(question.options)
    p, why = float(test.adjusted[place]), _why(cell, items)
    untested = "one participant lists several answers: they are no independent people" if cell.panel else why
    return TableRow(
        head=Entry(text=cell.name),
        group=culture.name,
        entries=(
            *(_share(share, f"{100 * share:.0f}%", why="no valid answer") for share in shares),
            Entry(text=str(valid)),
            _short(float(cell.sound.by_question[place]), why=why),
            _short(float(cell.sound_floor.by_question[place]), why=why),
            _distance(question, culture, cell, place, items, why=why),
            _figure(p, chance(p), why=untested),
        ),
    )


def _why(cell: CellAnalysis, items: Ints) -> str:
    """Why a question has no divergence: what the first of its items lacks; empty where none lacks anything."""
    return next((reason for item in items.tolist() if (reason := cell.divergences.reasons[item])), "")


def _figure(value: float, text: str, *, beneath: str = "", why: str) -> Entry:
    """A figure, or a dash and why there is none."""
    return Entry(text=NONE, why=why) if np.isnan(value) else Entry(text=text, beneath=beneath)


def _short(value: float, *, beneath: str = "", why: str) -> Entry:
    return _figure(value, fixed(value, 2), beneath=beneath, why=why)


def _distance(
    question: Question, culture: CultureAnalysis, cell: CellAnalysis, place: int, items: Ints, *, why: str
) -> Entry:
    """The distance that fits the question's type, its floor beneath."""
    if question.type is QuestionType.MULTIPLE:
        found, floor = cell.divergences.total_variation[items], cell.floor.total_variation[items]
    elif question.type.ordered:
        found, floor = cell.divergences.wasserstein[items], cell.floor.wasserstein[items]
    else:
        found = cell.divergences.js_distance[items]
        floor = np.array([culture.floor.js_distance(int(items[0]), int(cell.n_valid[place]))])
    value, noise = float(mean_known(found)), float(mean_known(floor))
    # answers without a place on the scale have a divergence and no distance along it
    return _short(value, beneath="" if np.isnan(noise) else fixed(noise, 2), why=why or "no answer on the scale")


def _shares(question: Question, weights: Floats) -> list[float]:
    """Share of each option: of one item, or of every item of a list."""
    totals = weights.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        if question.type is QuestionType.MULTIPLE:
            return (weights[:, 1] / totals).tolist()  # type: ignore[no-any-return]
        return (weights[0] / totals[0])[: len(question.options)].tolist()  # type: ignore[no-any-return]


def _share(share: float, text: str, *, why: str) -> Entry:
    return Entry(text=NONE, why=why) if np.isnan(share) else Entry(text=text, shade=min(share, 1.0))
