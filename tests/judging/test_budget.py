"""What judging costs, and how it ends where the money does: no more is asked for than a run may cost, which is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.daemons.tasks import judge_if_due
from defsurvey.jobs.judging.judge import Judged, in_words, judge_run
from defsurvey.jobs.progress import snapshot
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.study import StudyError
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.verdicts import read_judgements
from tests.jobs.ledger_rows import change, rows
from tests.judging.conftest import Answered, wants_judging
from tests.judging.provider import JudgeServer

#: US dollars for one call: 1000 tokens read at 1 a million and 200 written at 5.
CALL = 0.002


def judged(settings: Settings, database: Database, *, batch: bool = False) -> Judged:
    """Judge every answer of the run."""
    return judge_run(settings, database, "first", model="judge", share=1.0, batch=batch)


def cards(settings: Settings, server: JudgeServer, **fields: object) -> None:
    """Give the judge's card other fields; None takes one away."""
    assert settings.models is not None
    lines = server.cards(**fields).splitlines()
    settings.models.write_text("\n".join(line for line in lines if not line.endswith("= null")) + "\n")


FREE = {"input_price": None, "output_price": None}
#: What a server of one's own is given where there is a budget.
NOTHING = {"input_price": 0.0, "output_price": 0.0}


def test_what_was_judged_keeps_the_prices_that_its_judge_had_then(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Whatever the card says later, or no more; what is judged later costs what it costs then."""
    answered(4)
    judged(settings, database)
    calls = sum(server.asked.values()) - 72
    cost = budget.spent(database, "first")
    assert cost == pytest.approx(CALL * calls)
    for prices in ({"input_price": 10.0, "output_price": 50.0}, FREE):
        cards(settings, server, **prices)
        judged(settings, database)
        assert budget.spent(database, "first") == pytest.approx(cost)
    (who, item), *_ = rows(database, "SELECT participant, item FROM judgement WHERE prompt_tokens > 0")
    gone = f"participant = {who} AND item = {item} AND repeat = 0"
    change(database, f"DELETE FROM judgement WHERE {gone}")
    cards(settings, server, input_price=10.0, output_price=50.0)
    judged(settings, database)
    assert budget.spent(database, "first") == pytest.approx(cost + 9 * CALL)


def test_prices_that_a_judge_is_given_later_hold_for_what_had_none(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """As those of a run's models do, and of these the first."""
    answered(4)
    cards(settings, server, **FREE)
    judged(settings, database)
    assert budget.spent(database, "first") == 0.0
    for price in (1.0, 9.0):
        cards(settings, server, input_price=price)
        judged(settings, database)
        assert budget.spent(database, "first") == pytest.approx(CALL * (sum(server.asked.values()) - 72))


def test_a_batch_is_no_larger_than_what_is_left_pays_for(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """By what calls have cost so far, those of the calibration to begin with; more money lets it go on."""
    answered()
    budget.change_budget(database, "first", 10.5 * CALL / 2)
    done = judged(settings, database, batch=True)
    assert [len(made["calls"]) for made in server.batches.values()] == [11]
    assert (done.ended, budget.spent(database, "first")) == (Ended.OVER_BUDGET, pytest.approx(11 * CALL / 2))
    budget.change_budget(database, "first", 10.0)
    assert judged(settings, database, batch=True).ended is Ended.DONE
    assert len(server.batches) == 2


def test_calls_that_a_batch_is_still_to_answer_count_as_paid(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Another judge's batch was left behind: its results will cost what they cost, whoever collects them."""
    answered()
    judged(settings, database)
    cost = budget.spent(database, "first")
    cards(settings, server, model="judge-2")
    budget.change_budget(database, "first", cost + 20 * CALL / 2)
    calls = judgements.sample(database, [1], share=1.0, seed=11)[:20]
    judgements.announce_batch(database, "first", 1, "token", calls)
    done = judged(settings, database)
    assert (done.ended, done.judged) == (Ended.OVER_BUDGET, 0)
    assert budget.spent(database, "first") == cost


def test_a_run_that_spent_its_budget_says_so_where_its_judge_was_to_begin(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Nothing is paid for a calibration after which nothing may be judged; state, exit code and report tell it."""
    answered()
    judge_run(settings, database, "first", model="judge", share=0.01)
    paid = sum(server.asked.values())
    cards(settings, server, model="judge-2")
    wants_judging(database, 1.0)
    budget.change_budget(database, "first", CALL)
    assert snapshot(database, "first").state == "judging"
    judge_if_due(settings, database, "first")
    now = snapshot(database, "first")
    assert (now.state, now.complete, now.reporting, now.reported) == ("budget reached", False, True, False)
    assert sum(server.asked.values()) == paid
    (told,) = read_judgements(database, "first").told
    assert told == "judge (judge-2, rubric 1): the budget of 0.002 US dollars is spent"
    text = Path(current_report(settings, database, "first", None).markdown).read_text()
    assert f"Judging did not come to its end: {told}." in text.replace("\\", "")
    assert "## Fig. 9 and Fig. 19: Answers fail most often on" in text  # the first judge has come to its end
    change(database, "DELETE FROM judgement")
    change(database, "DELETE FROM report")
    text = Path(current_report(settings, database, "first", None).markdown).read_text()
    assert f"no judge: {told}" in text.replace("\\", "")
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_MODELS": str(settings.models)}
    home |= {"DEFSURVEY_DATABASE_URL": database.url.render_as_string(hide_password=False)}
    typed = CliRunner().invoke(main, ("resume", "first", "--wait"), env=home)
    assert typed.exit_code == 3
    assert "US dollars are spent; go on with: defsurvey resume first --wait --budget USD" in typed.stderr
    budget.change_budget(database, "first", 10.0)
    assert snapshot(database, "first").state == "judging"


def test_a_larger_share_that_the_budget_did_not_last_for_is_nobodys_but_whose_it_was(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """The run keeps its state, and is not judged anew for it; typed again with more money, it goes on."""
    answered(100)
    wants_judging(database, 0.01)
    budget.change_budget(database, "first", 100.0)
    judge_if_due(settings, database, "first")
    own = len(rows(database, "SELECT item FROM judgement"))
    budget.change_budget(database, "first", budget.spent(database, "first") + 2 * CALL)
    assert judged(settings, database).ended is Ended.OVER_BUDGET
    assert snapshot(database, "first").state != "budget reached"
    budget.change_budget(database, "first", 100.0)
    assert not judgements.is_due(database, "first")
    assert len(rows(database, "SELECT item FROM judgement")) > own > 0
    assert judged(settings, database).ended is Ended.DONE


def test_who_types_it_is_told_that_the_budget_is_spent(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """A judge in the middle of its work, and one that was not calibrated yet."""
    answered()
    budget.change_budget(database, "first", 4 * CALL)
    done = judged(settings, database)
    assert done.ended is Ended.OVER_BUDGET
    assert 4 <= done.judged <= 4 + 4 + 2
    go_on = "the budget is spent: give it more (defsurvey resume first --budget USD), then judge again"
    assert in_words(done).endswith(f"; {go_on}")
    cards(settings, server, model="judge-2")
    other = judged(settings, database)
    assert (other.ended, other.judged, other.calibration) == (Ended.OVER_BUDGET, 0, "")
    assert in_words(other) == f"first: nothing is judged by judge (judge-2, rubric 1); {go_on}"


def test_what_a_run_has_cost_is_not_summed_up_for_every_call(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum goes over all that was judged; where the money lasts for long it is made now and then."""
    answered()
    budget.change_budget(database, "first", 10.0)
    sums: list[str] = []
    spent = budget.spent

    def counted(of: Database, run: str) -> float:
        sums.append(run)
        return spent(of, run)

    monkeypatch.setattr(budget, "spent", counted)
    monkeypatch.setattr("defsurvey.storage.runs.budget.LOOK_SECONDS", 60.0)
    done = judged(settings, database)
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    assert done.sampled > 70
    assert len(sums) < 12


@pytest.mark.parametrize("prices", [FREE, NOTHING])
@pytest.mark.parametrize("batch", [False, True])
def test_a_judge_without_a_price_goes_on_when_the_budget_is_spent(
    settings: Settings,
    database: Database,
    server: JudgeServer,
    answered: Answered,
    batch: bool,
    prices: dict[str, float | None],
) -> None:
    """As models without one do; a run of which everything is judged is done."""
    answered()
    judge_run(settings, database, "first", model="judge", share=0.01)
    budget.change_budget(database, "first", CALL)
    cards(settings, server, model="judge-2", **prices)
    assert judged(settings, database, batch=batch).ended is Ended.DONE
    cards(settings, server, model="judge-2")
    assert judged(settings, database, batch=batch).ended is Ended.DONE


def test_a_judge_that_is_billed_needs_a_price_where_there_is_a_budget(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Also one that is named by the command; it is asked nothing, and a run that names it itself comes to its end."""
    answered()
    cards(settings, server, base_url="https://models.example.org", **FREE)
    budget.change_budget(database, "first", 5.0)
    with pytest.raises(StudyError, match="expected models with prices on their cards: judge has none, got 5"):
        judged(settings, database)
    wants_judging(database)
    judge_if_due(settings, database, "first")
    (told,) = read_judgements(database, "first").told
    assert told.startswith("budget: expected models with prices on their cards: judge has none")
    assert sum(server.asked.values()) == 0


def test_a_report_of_half_a_judging_says_so_and_claims_nothing(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """The money ended on the way: all models were judged alike until then, which no heading is made of."""
    answered()
    budget.change_budget(database, "first", 20 * CALL)
    done = judged(settings, database)
    assert (done.ended, 20 <= done.judged < 30) == (Ended.OVER_BUDGET, True)
    (judge,) = read_judgements(database, "first").judges
    of_a, of_b = (np.unique(judge.answer[judge.cell == cell]).size for cell in (0, 1))
    assert abs(of_a - of_b) <= 5
    text = Path(current_report(settings, database, "first", None).markdown).read_text().replace("\\", "")
    told = "judge (judge-1, rubric 1): the budget of 0.04 US dollars is spent"
    assert f"Judging did not come to its end: {told}. Rates rest on what was judged until then." in text
    assert "## Fig. 9 and Fig. 19: Answers that fail a judge\n" in text
    budget.change_budget(database, "first", 10.0)
    judged(settings, database)
    text = Path(current_report(settings, database, "first", None).markdown).read_text()
    assert "did not come to its end" not in text
    assert "## Fig. 9 and Fig. 19: Answers fail most often on instruction understanding" in text
