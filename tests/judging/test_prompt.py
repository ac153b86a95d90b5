"""What a judge, and the people of an audit, are told that the model had been asked: what it was asked."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.jobs.judging.judge import judge_run
from defsurvey.jobs.judging.people import write_template
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.database import Database
from defsurvey.storage.runs.judgement import AnswerKey, GivenAnswer
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Participant, Protocol
from defsurvey.workers.engines.base import Request
from defsurvey.workers.judging.prompt import asked_text, judge_request, subject_of
from defsurvey.workers.simulation.methods import questionnaire
from tests.judging.conftest import nowhere
from tests.judging.provider import JudgeServer
from tests.storage.small_run import SURVEY as STORED
from tests.storage.small_run import answer, claimed, new_cell, started
from tests.workers.citizens import SURVEY, citizen

PROTOCOL = Protocol(seed=7)
QUESTIONS = ("family", "divorce")


def asked(who: Participant, item: int) -> Request:
    """What a participant is asked with."""
    return questionnaire(who, survey=SURVEY, questions=QUESTIONS, protocol=PROTOCOL).request(item)


def given(who: Participant, item: int, shown: tuple[int, ...], slot: int = 0) -> GivenAnswer:
    """An answer of a participant as a judge gets it from the ledger."""
    return GivenAnswer(
        key=AnswerKey(participant=who.id, item=item, slot=slot, attempt=0, digest=1),
        cell=who.cell,
        number=who.index,
        answer=answer(who, item, question=QUESTIONS[item], choices=(1,), shown=shown, slot=slot),
    )


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("condition", ["def", "none", "cao2023", "ccsv-single", "ccsv-list"])
def test_a_judge_is_told_what_the_model_was_asked(condition: str, index: int, language: str) -> None:
    """To the letter, by the condition's method; of several steps, the first."""
    who = citizen(PROTOCOL, index, condition=BUILT_IN_CONDITIONS[condition], language=language)
    for item in range(len(QUESTIONS)):
        request = asked(who, item)
        assert request.asked is not None
        subject = subject_of(given(who, item, request.asked.shown), SURVEY)
        prompt = request.messages[-1].content
        assert asked_text(subject).startswith(prompt)
        assert f"The instructions that the model was given:\n{prompt}\n" in judge_request(subject).messages[1].content
        if condition != "ccsv-list":
            assert asked_text(subject) == prompt


def test_an_answer_of_a_list_is_told_to_be_one_of_it() -> None:
    """Who sees one line of a list that was asked for must know whose it is."""
    who = citizen(PROTOCOL, condition=BUILT_IN_CONDITIONS["ccsv-list"])
    request = asked(who, 0)
    assert request.asked is not None
    told = asked_text(subject_of(given(who, 0, request.asked.shown, slot=2), SURVEY))
    assert told == f"{request.messages[-1].content}\n\n(The response is what it wrote for person 3 of that list.)"


def test_people_are_told_what_a_judge_is(
    settings: Settings, database: Database, server: JudgeServer, tmp_path: Path
) -> None:
    """In a run of the average person alone: both of its wordings, and no citizen to be played."""
    cell = replace(nowhere(new_cell(participants=2)), condition=BUILT_IN_CONDITIONS["cao2023"])
    ledger = Ledger(database, owner="host:1:here")
    for who in started(database, cell):
        held = claimed(ledger, who)
        for item in range(3):
            shown, said = STORED.question("ABC"[item]).codes, f"Answer: 2\nExplanation: So says person {who}."
            ledger.checkpoint(held, answer(held, item, shown=shown, completion=said), ())
    judge_run(settings, database, "first", model="judge", share=1.0)
    write_template(database, "first", tmp_path / "people.csv")
    with (tmp_path / "people.csv").open(encoding="utf-8-sig", newline="") as table:
        told = {(row["participant"], row["question"]): row["asked"] for row in csv.DictReader(table)}
    assert len(told) == 6
    for (participant, question), text in told.items():
        wording = "I want you to act as an average person" if participant == "1" else "Think of the average person"
        assert text.startswith(f"{wording} ")
        assert f"Request: What of {question}?" in text
    heard = [prompt for prompt in server.asked if "So says person" in prompt]
    assert len(heard) == 6
    assert {text for text in told.values() if not any(text in prompt for prompt in heard)} == set()
