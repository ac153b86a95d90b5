"""What waits, by model, on either database."""

from __future__ import annotations

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.outbox import ahead_of, remaining, waiting_by_model
from tests.storage.small_run import answer, claimed, new_cell, new_run, participant_ids


def test_what_nobody_holds_is_counted_with_the_answers_still_to_be_given(database: Database) -> None:
    """Held participants and given answers do not wait; a model without any is not listed."""
    assert waiting_by_model(database) == []
    store.add_run(database, new_run())
    first, _second = participant_ids(database)
    (all_,) = waiting_by_model(database)
    assert (all_.participants, all_.answers, all_.seconds) == (2, 6, 0.0)
    ledger = Ledger(database, owner="here:1:a")
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0), ())
    (other,) = waiting_by_model(database)
    assert (other.model, other.participants, other.answers) == (all_.model, 1, 3)
    ledger.release(held)
    (both,) = waiting_by_model(database)
    assert (both.participants, both.answers) == (2, 5)


def test_what_is_still_to_come_counts_who_is_held_too(database: Database) -> None:
    """Nobody waits any more near the end, and much is still to be answered; what is not to be asked is not."""
    assert remaining(database) == {}
    store.add_run(database, new_run(new_cell("b"), new_cell("a")))
    ledger = Ledger(database, owner="here:1:a")
    held = [claimed(ledger, who) for who in participant_ids(database)]
    assert (waiting_by_model(database), remaining(database)) == ([], {"a": 6, "b": 6})
    ledger.checkpoint(held[0], answer(held[0], 0), ())
    assert remaining(database) == {"a": 6, "b": 5}
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE cell SET halted = true WHERE model = 'b'")
    assert remaining(database) == {"a": 6}
    store.cancel(database, "first")
    assert remaining(database) == {}


def test_models_are_told_apart(database: Database) -> None:
    """By name, in their order."""
    store.add_run(database, new_run(new_cell("b"), new_cell("a")))
    assert [(model.model, model.participants) for model in waiting_by_model(database)] == [("a", 2), ("b", 2)]


def test_a_message_waits_from_when_it_was_sent(database: Database) -> None:
    """By the database's clock; the oldest counts."""
    store.add_run(database, new_run())
    outbox.mark_published(database, participant_ids(database)[:1])
    (found,) = waiting_by_model(database)
    assert 0 <= found.seconds < 60
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE participant SET published_at = published_at - 3600")
    (found,) = waiting_by_model(database)
    assert 3600 <= found.seconds < 3660


def test_a_run_waits_behind_what_was_sent_before_it(database: Database) -> None:
    """By model and in the order of sending; what is held, cancelled, unsent or sent later is not before it."""
    for name, model in (("first", "a"), ("second", "a"), ("third", "a"), ("elsewhere", "b")):
        store.add_run(database, new_run(new_cell(model), id=name))
    assert ahead_of(database, "second") == {}  # nothing was sent yet
    for name in ("elsewhere", "first", "second", "third"):
        outbox.mark_published(database, participant_ids(database, run=name))
    assert ahead_of(database, "first") == {}
    assert ahead_of(database, "second") == {"first": 2}
    assert ahead_of(database, "third") == {"first": 2, "second": 2}
    assert ahead_of(database, "elsewhere") == {}
    claimed(Ledger(database, owner="here:1:a"), participant_ids(database, run="first")[0])
    store.cancel(database, "second")
    assert ahead_of(database, "third") == {"first": 1}
    outbox.publish_again(database, run="third")
    assert ahead_of(database, "third") == {"first": 1}  # its messages come behind whatever is in the queue
