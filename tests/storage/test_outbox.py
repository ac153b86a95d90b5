"""What is still to be published, what waits, and how fast it went."""

import pytest
from sqlalchemy import func, select, update

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.ledger import Ledger, backlogs
from defsurvey.storage.runs.pilot import FEWEST, PAUSE_SECONDS, TokensSeen, paces, tokens_seen
from tests.jobs.small_study import change
from tests.storage.small_run import SURVEY, answer, claimed, finish, new_cell, new_run, participant_ids, started


def sent(database: Database, participants: list[int], *, seconds_ago: float) -> None:
    outbox.mark_published(database, participants)
    p = tables.participant.c
    earlier = update(tables.participant).where(p.id.in_(participants)).values(published_at=p.published_at - seconds_ago)
    database.change(earlier)


def built(run: str = "first", revision: int = 6, folder: str = "a") -> outbox.BuiltReport:
    return outbox.BuiltReport(run=run, revision=revision, html=f"{folder}/r.html", markdown=f"{folder}/r.md")


def test_messages_are_to_be_sent_in_the_order_of_their_participants(database: Database) -> None:
    first = started(database, new_cell("model-b"), new_cell("model-a"))
    second = started(database, new_cell("model-a", participants=1), id="second")
    models = ["model-b", "model-b", "model-a", "model-a", "model-a"]
    expected = [outbox.Outgoing(participant=p, model=m) for p, m in zip(first + second, models, strict=True)]
    assert outbox.outgoing(database) == expected
    assert outbox.outgoing(database, limit=3) == expected[:3]
    assert outbox.outgoing(database, run="second") == expected[4:]
    assert (
        outbox.waiting(database, "first"),
        outbox.waiting(database, "second"),
        outbox.waiting(database, "none"),
    ) == (4, 1, 0)


def test_a_message_of_another_run_is_put_back(database: Database) -> None:
    (mine,), (other,) = started(database, new_cell(participants=1)), started(database, new_cell(participants=1), id="b")
    sent(database, [mine, other], seconds_ago=0)
    assert [outbox.put_back(database, who, unless_of="first") for who in (mine, other, 999)] == [False, True, False]
    assert [message.participant for message in outbox.outgoing(database)] == [other]


def test_who_else_is_unfinished_with_the_same_models(database: Database, ledger: Ledger) -> None:
    started(database, new_cell("model-a"), new_cell("model-b"))
    started(database, new_cell("model-b"), new_cell("model-c"), id="beside")
    started(database, new_cell("model-c"), id="elsewhere")
    (done,) = started(database, new_cell("model-a", participants=1), id="finished")
    finish(ledger, done)
    started(database, new_cell("model-a"), id="cancelled")
    store.cancel(database, "cancelled")
    assert outbox.unfinished_beside(database, "first") == ["beside"]
    assert outbox.unfinished_beside(database, "finished") == ["first"]


def test_only_what_can_be_worked_on_is_sent(database: Database, ledger: Ledger) -> None:
    done, held, published, open_one = started(database, new_cell(participants=4))
    started(database, id="second")
    finish(ledger, done)
    claimed(ledger, held)
    outbox.mark_published(database, [published])
    outbox.mark_published(database, [])
    store.cancel(database, "second")
    assert [message.participant for message in outbox.outgoing(database)] == [open_one]
    assert (outbox.waiting(database, "first"), outbox.waiting(database, "second")) == (1, 0)


def test_messages_are_sent_again_by_run_and_model(database: Database, ledger: Ledger) -> None:
    of_a, of_b = started(database, new_cell("model-a", participants=1), new_cell("model-b", participants=1))
    other_a, held_a = started(database, new_cell("model-a", participants=2), id="second")
    everyone = [of_a, of_b, other_a, held_a]
    claimed(ledger, held_a)
    outbox.mark_published(database, everyone)
    assert outbox.publish_again(database, run="first") == 2
    assert [message.participant for message in outbox.outgoing(database)] == [of_a, of_b]
    outbox.mark_published(database, everyone)
    assert outbox.publish_again(database, model="model-a") == 2
    assert [message.participant for message in outbox.outgoing(database)] == [of_a, other_a]
    outbox.mark_published(database, everyone)
    assert outbox.publish_again(database, run="second", model="model-b") == 0
    assert outbox.publish_again(database) == 3
    assert outbox.publish_again(database) == 0


def test_messages_are_sent_again_by_age(database: Database) -> None:
    old, young = started(database)
    sent(database, [old], seconds_ago=100.0)
    sent(database, [young], seconds_ago=10.0)
    assert outbox.publish_again(database, older_than=50.0) == 1
    assert [message.participant for message in outbox.outgoing(database)] == [old]


def test_a_report_is_due_when_a_run_is_finished_and_until_it_is_recorded(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    (other,) = started(database, new_cell(participants=1), id="second")
    finish(ledger, first)
    assert outbox.reports_due(database) == []
    finish(ledger, second)
    finish(ledger, other)
    assert sorted(outbox.reports_due(database)) == [("first", 6, 0), ("second", 3, 0)]
    outbox.record_report(database, built(revision=5))
    store.cancel(database, "second")
    assert outbox.reports_due(database) == [("first", 6, 0)]
    outbox.record_report(database, built(revision=6))
    assert outbox.reports_due(database) == []


def test_a_report_is_recorded_once_per_revision(database: Database) -> None:
    started(database)
    assert outbox.latest_report(database, "first") is None
    for report in (built(revision=6), built(revision=3), built(revision=6, folder="b")):
        outbox.record_report(database, report)
    assert outbox.latest_report(database, "first") == built(revision=6, folder="b")
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.report)).scalar_one() == 2
    assert outbox.latest_report(database, "second") is None


def test_what_is_still_to_come_counts_who_is_held_too(database: Database) -> None:
    assert outbox.remaining(database) == {}
    store.add_run(database, new_run(new_cell("b"), new_cell("a")))
    ledger = Ledger(database, owner="here:1:a")
    held = [claimed(ledger, who) for who in participant_ids(database)]
    assert (backlogs(database), outbox.remaining(database)) == ([], {"a": 6, "b": 6})
    ledger.checkpoint(held[0], answer(held[0], 0), ())
    assert outbox.remaining(database) == {"a": 6, "b": 5}
    change(database, "UPDATE cell SET halted = true WHERE model = 'b'")
    assert outbox.remaining(database) == {"a": 6}
    store.cancel(database, "first")
    assert outbox.remaining(database) == {}


def test_a_message_waits_from_when_it_was_sent(database: Database) -> None:
    store.add_run(database, new_run())
    outbox.mark_published(database, participant_ids(database)[:1])
    (found,) = backlogs(database)
    assert 0 <= found.seconds < 60
    change(database, "UPDATE participant SET published_at = published_at - 3600")
    (found,) = backlogs(database)
    assert 3600 <= found.seconds < 3660


def test_a_run_waits_behind_what_was_sent_before_it(database: Database) -> None:
    """By model and in the order of sending; what is held, cancelled, unsent or sent later is not before it."""
    for name, model in (("first", "a"), ("second", "a"), ("third", "a"), ("elsewhere", "b")):
        store.add_run(database, new_run(new_cell(model), id=name))
    assert outbox.ahead_of(database, "second") == {}  # nothing was sent yet
    for name in ("elsewhere", "first", "second", "third"):
        outbox.mark_published(database, participant_ids(database, run=name))
    assert outbox.ahead_of(database, "first") == {}
    assert outbox.ahead_of(database, "second") == {"first": 2}
    assert outbox.ahead_of(database, "third") == {"first": 2, "second": 2}
    assert outbox.ahead_of(database, "elsewhere") == {}
    claimed(Ledger(database, owner="here:1:a"), participant_ids(database, run="first")[0])
    store.cancel(database, "second")
    assert outbox.ahead_of(database, "third") == {"first": 1}
    outbox.publish_again(database, run="third")
    assert outbox.ahead_of(database, "third") == {"first": 1}  # its messages come behind whatever is in the queue


def _answered(database: Database, run: str, *models: str, participants: int = 10, every: float) -> None:
    """A run whose answers were committed so many seconds after each other, participant after participant."""
    ledger, at = Ledger(database, owner="host:1:here"), 1000.0
    for who in started(database, *(new_cell(model, participants=participants) for model in models), id=run):
        finish(ledger, who)
        for item in range(3):
            at += every
            change(database, f"UPDATE answer SET committed_at = {at} WHERE participant = {who} AND item = {item}")


def test_a_pace_is_answers_by_seconds_between_them(database: Database) -> None:
    """Thirty answers, one every half second, of each of two models; where a worker was stopped for a day, none."""
    _answered(database, "first", "model-a", "model-b", every=0.5)
    both = {"model-a": pytest.approx(2.0), "model-b": pytest.approx(2.0)}
    assert paces(database, ["model-a", "model-b", "model-c"]) == both
    change(database, f"UPDATE answer SET committed_at = committed_at + {PAUSE_SECONDS + 86400} WHERE participant > 5")
    assert paces(database, ["model-a"]) == {"model-a": pytest.approx(2.0)}


def test_the_newest_run_with_enough_answers_tells(database: Database) -> None:
    """An older one may have been on another machine; a few answers tell nothing."""
    _answered(database, "older", "model-a", every=5.0)
    _answered(database, "newer", "model-a", every=0.25)
    _answered(database, "newest", "model-a", participants=FEWEST // 3, every=0.001)
    for at, run in enumerate(("older", "newer", "newest")):
        change(database, f"UPDATE run SET created_at = {at} WHERE id = '{run}'")
    assert paces(database, ["model-a"]) == {"model-a": pytest.approx(4.0)}


def test_tokens_are_means_per_answer_by_condition_of_the_run_that_is_named(database: Database) -> None:
    ledger = Ledger(database, owner="host:1:here")
    for at, (run, participants) in enumerate((("pilot", 7), ("newer", 8), ("newest", 2))):
        cells = (new_cell(participants=participants), new_cell(participants=2, condition="none"))
        for who in started(database, *cells, id=run):
            finish(ledger, who)
        change(database, f"UPDATE run SET created_at = {at} WHERE id = '{run}'")
    change(database, "UPDATE answer SET prompt_tokens = 400 WHERE participant = 1")
    change(database, "UPDATE answer SET state = 'failed', prompt_tokens = NULL WHERE participant = 2 AND item = 0")

    def seen(run: str, *questions: str) -> dict[tuple[str, str, str], TokensSeen]:
        return tokens_seen(database, ["model-a"], survey=SURVEY.id, questions=questions, run=run)

    pilot = seen("pilot", "A", "B", "C")
    assert pilot["model-a", "def", "en"] == TokensSeen(
        run="pilot", answers=20, prompt=(3 * 400 + 17 * 100) / 20, completion=7
    )
    assert pilot["model-a", "none", "en"] == TokensSeen(run="pilot", answers=6, prompt=100, completion=7)
    assert {each.run for each in seen("another", "A", "B", "C").values()} == {"newer"}
    assert seen("pilot", "A", "B") == {}
