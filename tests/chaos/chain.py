"""Whether a run's answers are the unbroken chain: each is what the engine says to the prompt that its memory makes.

Reads the ledger alone and asks no engine: a prompt is made anew from the memory that an answer was shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import noun
from defsurvey.storage.runs.run import Participant
from defsurvey.workers.simulation.methods import questionnaire
from tests.chaos.engines import link, reply_to
from tests.storage.what_is_there import answers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    kept: int  #: answers in the ledger
    breaks: tuple[str, ...]  #: answers that are not what the chain says, and answers missing or out of place
    linked: int  #: answers whose prompt holds the hash of an earlier answer


def participants(database: Database, run_id: str) -> list[Participant]:
    cells = {cell.id: cell for cell in store.load_run(database, run_id).cells}
    query = select(tables.participant).where(tables.participant.c.run == run_id).order_by(tables.participant.c.id)
    with database.read() as connection:
        return [
            noun(Participant, row, index=row.number, epoch=row.lease_epoch, cell=cells[row.cell])
            for row in connection.execute(query)
        ]


def follow(database: Database, run_id: str) -> Chained:
    run = store.load_run(database, run_id)
    survey = store.load_survey(database, run.survey)
    kept, linked, breaks = 0, 0, []
    for participant in participants(database, run_id):
        answers = answers_of(database, participant.id)
        where = f"participant {participant.id}"
        if [answer.item for answer in answers] != list(range(participant.next_item)):
            breaks.append(f"{where}: answers {[answer.item for answer in answers]} at item {participant.next_item}")
        recall = {answer.item: answer.remembered or "" for answer in answers}
        hashes: dict[int, str] = {}
        for answer in answers:
            request = questionnaire(participant, survey=survey, questions=run.questions, protocol=run.protocol).request(
                answer.item, answer.memory, recall=recall, attempt=answer.attempt
            )
            if answer.completion != reply_to(request):
                breaks.append(f"{where}, item {answer.item}: {answer.completion!r}")
            prompt = " ".join(message.content for message in request.messages)
            linked += any(earlier in prompt for earlier in hashes.values())
            hashes[answer.item] = link(request)
            kept += 1
    return Chained(kept=kept, breaks=tuple(breaks), linked=linked)
