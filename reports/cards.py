"""Sample answers as they were shown."""

from __future__ import annotations

from collections.abc import Sequence

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.number_format import counted
from defsurvey.reports.page import OptionLine, SampleCard
from defsurvey.reports.untrusted import cut
from defsurvey.storage.runs.results import Sample
from defsurvey.storage.runs.run import AnswerState, Draws, UsedDecoding
from defsurvey.storage.surveys.survey import Question, Wording

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
                code=code, label=worded(question.option(code).label, cell.language)[0], chosen=code in answer.choices
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


def option_label(question: Question, number: int) -> str:
    """An option with its code, and its value dimension where it has one of its own."""
    option = question.options[number]
    label = worded(option.label, "en")[0]
    value = f" ({option.value.dimension})" if option.value is not None else ""
    return f"{label}{value}" if label == str(option.code) else f"{option.code}: {label}{value}"
