"""What is still to be published: messages and reports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select, update

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.outbox import (
    BuiltReport,
    Outgoing,
    latest_report,
    mark_published,
    outgoing,
    publish_again,
    put_back,
    record_report,
    reports_due,
    revision,
    unfinished,
    unfinished_beside,
    unfinished_models,
    waiting,
)
from defsurvey.storage.runs.recovery import free_expired
from tests.storage.small_run import answer, claimed, finish, new_cell, started


def sent(database: Database, participants: list[int], *, seconds_ago: float) -> None:
    """Note messages as sent so long ago."""
    mark_published(database, participants)
    p = tables.participant.c
    earlier = update(tables.participant).where(p.id.in_(participants)).values(published_at=p.published_at - seconds_ago)
    database.write(lambda connection: connection.execute(earlier))


def built(run: str = "first", revision: int = 6, folder: str = "a") -> BuiltReport:
    """A report at a path."""
    return BuiltReport(run=run, revision=revision, html=f"{folder}/r.html", markdown=f"{folder}/r.md")


def test_messages_are_to_be_sent_in_the_order_of_their_participants(database: Database) -> None:
    """All participants of a new run wait, oldest first, with their model; a limit cuts the list."""
    first = started(database, new_cell("model-b"), new_cell("model-a"))
    second = started(database, new_cell("model-a", participants=1), id="second")
    models = ["model-b", "model-b", "model-a", "model-a", "model-a"]
    expected = [Outgoing(participant=p, model=m) for p, m in zip(first + second, models, strict=True)]
    assert outgoing(database) == expected
    assert outgoing(database, limit=3) == expected[:3]
    assert outgoing(database, run="second") == expected[4:]
    assert (waiting(database, "first"), waiting(database, "second"), waiting(database, "none")) == (4, 1, 0)


def test_a_message_of_another_run_is_put_back(database: Database) -> None:
    """It is to be sent again; one of the run itself stays sent, and one of nobody is nothing."""
    (mine,), (other,) = started(database, new_cell(participants=1)), started(database, new_cell(participants=1), id="b")
    sent(database, [mine, other], seconds_ago=0)
    assert [put_back(database, who, unless_of="first") for who in (mine, other, 999)] == [False, True, False]
    assert [message.participant for message in outgoing(database)] == [other]


def test_who_else_is_unfinished_with_the_same_models(database: Database, ledger: Ledger) -> None:
    """Neither other models nor runs that are finished or cancelled."""
    started(database, new_cell("model-a"), new_cell("model-b"))
    started(database, new_cell("model-b"), new_cell("model-c"), id="beside")
    started(database, new_cell("model-c"), id="elsewhere")
    (done,) = started(database, new_cell("model-a", participants=1), id="finished")
    finish(ledger, done)
    started(database, new_cell("model-a"), id="cancelled")
    store.cancel(database, "cancelled")
    assert unfinished_beside(database, "first") == ["beside"]
    assert unfinished_beside(database, "finished") == ["first"]


def test_models_that_are_still_needed(database: Database, ledger: Ledger) -> None:
    """Those of participants with questions left."""
    first, *_ = started(database, new_cell("model-b", participants=1), new_cell("model-a"))
    assert unfinished_models(database, "first") == ["model-a", "model-b"]
    finish(ledger, first)
    assert unfinished_models(database, "first") == ["model-a"]


def test_only_what_can_be_worked_on_is_sent(database: Database, ledger: Ledger) -> None:
    """Sent, held, finished and cancelled participants have no message to send."""
    done, held, published, open_one = started(database, new_cell(participants=4))
    started(database, id="second")
    finish(ledger, done)
    claimed(ledger, held)
    mark_published(database, [published])
    mark_published(database, [])
    store.cancel(database, "second")
    assert [message.participant for message in outgoing(database)] == [open_one]
    assert (waiting(database, "first"), waiting(database, "second")) == (1, 0)


def test_messages_are_sent_again_by_run_and_model(database: Database, ledger: Ledger) -> None:
    """Only the free participants of the run or model named come back, and only those that had been sent."""
    of_a, of_b = started(database, new_cell("model-a", participants=1), new_cell("model-b", participants=1))
    other_a, held_a = started(database, new_cell("model-a", participants=2), id="second")
    everyone = [of_a, of_b, other_a, held_a]
    claimed(ledger, held_a)
    mark_published(database, everyone)
    assert publish_again(database, run="first") == 2
    assert [message.participant for message in outgoing(database)] == [of_a, of_b]
    mark_published(database, everyone)
    assert publish_again(database, model="model-a") == 2
    assert [message.participant for message in outgoing(database)] == [of_a, other_a]
    mark_published(database, everyone)
    assert publish_again(database, run="second", model="model-b") == 0
    assert publish_again(database) == 3
    assert publish_again(database) == 0


def test_messages_are_sent_again_by_age(database: Database) -> None:
    """A message that was sent lately is not sent again."""
    old, young = started(database)
    sent(database, [old], seconds_ago=100.0)
    sent(database, [young], seconds_ago=10.0)
    assert publish_again(database, older_than=50.0) == 1
    assert [message.participant for message in outgoing(database)] == [old]


def test_an_expired_lease_comes_back(database: Database, ledger: Ledger) -> None:
    """Participants whose worker was not heard of any more are to be sent again, but not those that are held."""
    expired, held, cancelled = started(database, new_cell(participants=3))[:2] + started(database, id="second")[:1]
    everyone = [expired, held, cancelled]
    mark_published(database, everyone)
    silent = Ledger(database, owner="host:2:silent", ttl=-1.0)
    for who, by in ((expired, silent), (held, ledger), (cancelled, silent)):
        claimed(by, who)
    store.cancel(database, "second")
    assert free_expired(database).participants == 2
    assert free_expired(database).participants == 0
    assert cancelled not in [message.participant for message in outgoing(database)]
    assert expired in [message.participant for message in outgoing(database)]
    assert ledger.claim(held) is None
    assert claimed(ledger, expired).epoch == 2


def test_a_run_counts_what_is_unfinished_and_committed(database: Database, ledger: Ledger) -> None:
    """The revision grows with every answer, and the unfinished participants become fewer."""
    first, second = started(database)
    assert (unfinished(database, "first"), revision(database, "first"), revision(database, "none")) == (2, 0, 0)
    finish(ledger, first)
    held = claimed(ledger, second)
    ledger.checkpoint(held, answer(held, 0), ())
    assert (unfinished(database, "first"), revision(database, "first")) == (1, 4)


def test_a_report_is_due_when_a_run_is_finished_and_until_it_is_recorded(database: Database, ledger: Ledger) -> None:
    """Not before the last participant has finished, not again once it was built, and not for what is cancelled."""
    first, second = started(database)
    (other,) = started(database, new_cell(participants=1), id="second")
    finish(ledger, first)
    assert reports_due(database) == []
    finish(ledger, second)
    finish(ledger, other)
    assert sorted(reports_due(database)) == [("first", 6, 0), ("second", 3, 0)]
    record_report(database, built(revision=5))
    store.cancel(database, "second")
    assert reports_due(database) == [("first", 6, 0)]
    record_report(database, built(revision=6))
    assert reports_due(database) == []


def test_participants_that_were_set_aside_do_not_keep_a_report_waiting(database: Database, ledger: Ledger) -> None:
    """A run ends when nothing of it is open, though something may be in quarantine."""
    first, second = started(database)
    finish(ledger, first)
    p = tables.participant.c
    aside = update(tables.participant).where(p.id == second).values(status="quarantined")
    database.write(lambda connection: connection.execute(aside))
    assert reports_due(database) == [("first", 3, 0)]
    assert unfinished(database, "first") == 0


def test_a_report_is_recorded_once_per_revision(database: Database) -> None:
    """The same revision again changes the paths alone; the highest revision is the latest."""
    started(database)
    assert latest_report(database, "first") is None
    for report in (built(revision=6), built(revision=3), built(revision=6, folder="b")):
        record_report(database, report)
    assert latest_report(database, "first") == built(revision=6, folder="b")
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.report)).scalar_one() == 2
    assert latest_report(database, "second") is None


@pytest.mark.parametrize("attempt", range(3))
def test_a_report_recorded_by_several_at_once_is_there_once(database: Database, attempt: int) -> None:
    """Building is idempotent and may happen twice at once: no one fails."""
    started(database)
    start = Barrier(8)

    def record(number: int) -> None:
        start.wait()
        record_report(database, built(folder=str(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(8)))
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.report)).scalar_one() == 1
