"""A survey of three questions, runs of it, and answers to them, for the tests of this room."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Answer, AnswerState, Condition, Draws, Participant, Protocol, UsedDecoding
from defsurvey.storage.runs.store import NewCell, NewRun, add_run
from defsurvey.storage.surveys.as_json import fingerprint
from defsurvey.storage.surveys.survey import (
    Culture,
    Group,
    Option,
    Question,
    QuestionType,
    ReferenceDistribution,
    Survey,
)


def _question(id: str, type: QuestionType, codes: Sequence[int], *, max_choices: int = 1) -> Question:
    options = tuple(Option(code=code, label={"en": f"option {code}", "zh": f"选项{code}"}) for code in codes)
    text = {"en": f"What of {id}?", "zh": f"{id}如何？"}
    return Question(id=id, type=type, topic="Life", text=text, options=options, max_choices=max_choices)


#: The codes of B are out of order on purpose: bits follow the survey's order, not the codes'.
SURVEY = Survey(
    id="small",
    title="A small survey",
    version="1",
    citation="nobody",
    terms="none",
    languages=("en", "zh"),
    dimensions={"EVI": {"en": "Emancipative values", "zh": "解放价值观"}},
    questions=(
        _question("A", QuestionType.ORDINAL, (1, 2, 3, 4)),
        _question("B", QuestionType.SINGLE, (7, 2, 5)),
        _question("C", QuestionType.MULTIPLE, (1, 2, 3, 4, 5), max_choices=3),
    ),
    cultures=(Culture(code="us", name={"en": "United States", "zh": "美国"}, language="en"),),
    references=(
        ReferenceDistribution(
            question="A", culture="us", group=Group.ALL, shares={1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}, n=1000
        ),
    ),
)
SURVEY = replace(SURVEY, fingerprint=fingerprint(SURVEY))
DRAWS = Draws(region="US-OH", num_beams=3, do_sample=True, memory_capacity=2)
USED = UsedDecoding(num_beams=3, do_sample=True, temperature=1.0, top_p=None, max_new_tokens=64)


def new_cell(model: str = "model-a", *, participants: int = 2, culture: str = "us", condition: str = "def") -> NewCell:
    """A cell whose participants differ in the memory that they drew."""
    draws = tuple(replace(DRAWS, memory_capacity=number % 16) for number in range(participants))
    return NewCell(model=model, culture=culture, condition=Condition(name=condition), language="en", draws=draws)


def new_run(
    *cells: NewCell, id: str = "first", questions: Sequence[str] = ("A", "B", "C"), design: str = "design"
) -> NewRun:
    """A run to be; with no cell named it has one of two participants."""
    return NewRun(
        id=id,
        survey=SURVEY,
        questions=tuple(questions),
        protocol=Protocol(seed=11),
        design=design,
        study="name: first\n",
        cells=cells or (new_cell(),),
    )


def participant_ids(database: Database, *, run: str = "first") -> list[int]:
    """Ids of a run's participants in the order in which they were added."""
    p = tables.participant.c
    return [who for (who,) in database.rows(select(p.id).where(p.run == run).order_by(p.id))]


def answer(
    held: Participant,
    item: int,
    *,
    question: str | None = None,
    state: AnswerState = AnswerState.ANSWERED,
    choices: tuple[int, ...] = (2,),
    completion: str = "2: option 2",
    shown: tuple[int, ...] | None = None,
    memory: tuple[int, ...] = (),
    remembered: str | None = "2",
    reason: str = "",
    seconds: float = 0.5,
    slot: int = 0,
) -> Answer:
    """What a participant said to its question number ``item``; the options of A are shown in another order."""
    question = "ABC"[item % 3] if question is None else question
    return Answer(
        participant=held.id,
        item=item,
        slot=slot,
        question=question,
        state=state,
        choices=choices if state is AnswerState.ANSWERED else (),
        completion=completion,
        reason=reason,
        remembered=remembered,
        shown=((2, 1, 3, 4) if question == "A" else SURVEY.question(question).codes) if shown is None else shown,
        memory=memory,
        draws=held.draws,
        seed=2**62 + item,
        used=USED,
        prompt_tokens=100,
        completion_tokens=7,
        seconds=seconds,
    )


def claimed(ledger: Ledger, participant: int) -> Participant:
    held = ledger.claim(participant)
    assert held is not None
    return held


def finish(ledger: Ledger, participant: int, *, questions: int = 3) -> Participant:
    held = claimed(ledger, participant)
    for item in range(held.next_item, questions):
        ledger.checkpoint(held, answer(held, item), (item,))
    return held


def started(database: Database, *cells: NewCell, id: str = "first") -> list[int]:
    """Write a run and give the ids of its participants."""
    add_run(database, new_run(*cells, id=id))
    return participant_ids(database, run=id)


if __name__ == "__main__":  # a second process: URL, owner, number of questions, ids of participants
    with Database(sys.argv[1]) as opened:
        for who in map(int, sys.argv[4:]):
            finish(Ledger(opened, owner=sys.argv[2]), who, questions=int(sys.argv[3]))
