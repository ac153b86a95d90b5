"""What judging costs, and how it ends where the money does: no more is asked for than a run may cost, which is told."""

import numpy as np
import pytest

from defsurvey.jobs.judging.judge import in_words
from defsurvey.jobs.progress import snapshot
from defsurvey.jobs.study.study import StudyError
from defsurvey.storage.runs import judgements
from defsurvey.storage.runs.judgements import Ended
from tests.judging.conftest import JudgedRun

CALL = 0.002  #: US dollars for one call: 1000 tokens read at 1 a million and 200 written at 5
FREE = {"input_price": None, "output_price": None}
NOTHING = {"input_price": 0.0, "output_price": 0.0}  #: what a server of one's own is given where there is a budget


def test_what_was_judged_keeps_the_first_prices_that_its_judge_had(here: JudgedRun) -> None:
    here.answer(4)
    here.cards(**FREE)
    here.judge()
    assert here.spent() == 0.0
    cost = CALL * (here.asked - 72)
    for prices in ({"input_price": 1.0, "output_price": 5.0}, {"input_price": 10.0, "output_price": 50.0}, FREE):
        here.cards(**prices)
        here.judge()
        assert here.spent() == pytest.approx(cost)
    (who, item), *_ = here.rows("SELECT participant, item FROM judgement WHERE prompt_tokens > 0")
    here.change(f"DELETE FROM judgement WHERE participant = {who} AND item = {item} AND repeat = 0")
    here.cards(input_price=10.0, output_price=50.0)
    here.judge()
    assert here.spent() == pytest.approx(cost + 9 * CALL)


def test_a_batch_is_no_larger_than_what_is_left_pays_for(here: JudgedRun) -> None:
    here.answer()
    here.change_budget(10.5 * CALL / 2)
    done = here.judge(batch=True)
    assert [len(made["calls"]) for made in here.server.batches.values()] == [11]
    assert (done.ended, here.spent()) == (Ended.OVER_BUDGET, pytest.approx(11 * CALL / 2))
    here.change_budget(10.0)
    assert here.judge(batch=True).ended is Ended.DONE
    assert len(here.server.batches) == 2


def test_calls_that_a_batch_is_still_to_answer_count_as_paid(here: JudgedRun) -> None:
    """Another judge's batch was left behind: its results will cost what they cost, whoever collects them."""
    here.answer()
    here.judge()
    cost = here.spent()
    here.cards(model="judge-2")
    here.change_budget(cost + 20 * CALL / 2)
    calls = judgements.sample(here.database, [1], share=1.0, seed=11)[:20]
    judgements.announce_batch(here.database, "first", 1, "token", calls)
    done = here.judge()
    assert (done.ended, done.judged) == (Ended.OVER_BUDGET, 0)
    assert here.spent() == cost


def test_a_run_that_spent_its_budget_says_so_where_its_judge_was_to_begin(here: JudgedRun) -> None:
    """Nothing is paid for a calibration after which nothing may be judged; state, exit code and report tell it."""
    here.answer()
    here.judge(share=0.01)
    paid = here.asked
    here.cards(model="judge-2")
    here.wants_judging(1.0)
    here.change_budget(CALL)
    assert snapshot(here.database, "first").state == "judging"
    here.judge_if_due()
    now = snapshot(here.database, "first")
    assert (now.state, now.complete, now.reporting, now.reported) == ("budget reached", False, True, False)
    assert here.asked == paid
    (told,) = here.judgements().told
    assert told == "judge (judge-2, rubric 1): the budget of 0.002 US dollars is spent"
    text = here.report_text()
    assert f"Judging did not come to its end: {told}." in text
    assert "## Fig. 9 and Fig. 19: Answers fail most often on" in text  # the first judge has come to its end
    here.change("DELETE FROM judgement")
    here.change("DELETE FROM report")
    assert f"no judge: {told}" in here.report_text()
    typed = here.type("resume", "first", "--wait")
    assert typed.exit_code == 3
    assert "US dollars are spent; go on with: defsurvey resume first --wait --budget USD" in typed.stderr
    here.change_budget(10.0)
    assert snapshot(here.database, "first").state == "judging"


def test_a_larger_share_that_the_budget_did_not_last_for_is_nobodys_but_whose_it_was(here: JudgedRun) -> None:
    here.answer(100)
    here.wants_judging(0.01)
    here.change_budget(100.0)
    here.judge_if_due()
    here.change_budget(here.spent() + 2 * CALL)
    assert here.judge().ended is Ended.OVER_BUDGET
    assert snapshot(here.database, "first").state != "budget reached"
    here.change_budget(100.0)
    assert not here.is_due()
    assert here.judge().ended is Ended.DONE


def test_who_types_it_is_told_that_the_budget_is_spent(here: JudgedRun) -> None:
    here.answer()
    here.change_budget(4 * CALL)
    done = here.judge()
    assert done.ended is Ended.OVER_BUDGET
    assert 4 <= done.judged <= 4 + 4 + 2
    go_on = "the budget is spent: give it more (defsurvey resume first --budget USD), then judge again"
    assert in_words(done).endswith(f"; {go_on}")
    here.cards(model="judge-2")
    other = here.judge()
    assert (other.ended, other.judged, other.calibration) == (Ended.OVER_BUDGET, 0, "")
    assert in_words(other) == f"first: nothing is judged by judge (judge-2, rubric 1); {go_on}"


@pytest.mark.parametrize(("batch", "prices"), [(False, NOTHING), (True, FREE)])
def test_a_judge_without_a_price_goes_on_when_the_budget_is_spent(
    here: JudgedRun, batch: bool, prices: dict[str, float | None]
) -> None:
    here.answer()
    here.judge(share=0.01)
    here.change_budget(CALL)
    for changes in (prices, {}):
        here.cards(model="judge-2", **changes)
        assert here.judge(batch=batch).ended is Ended.DONE


def test_a_judge_that_is_billed_needs_a_price_where_there_is_a_budget(here: JudgedRun) -> None:
    """Also one that is named by the command; it is asked nothing, and a run that names it itself comes to its end."""
    here.answer()
    here.cards(base_url="https://models.example.org", **FREE)
    here.change_budget(5.0)
    with pytest.raises(StudyError, match="expected models with prices on their cards: judge has none, got 5"):
        here.judge()
    here.wants_judging()
    here.judge_if_due()
    (told,) = here.judgements().told
    assert told.startswith("budget: expected models with prices on their cards: judge has none")
    assert here.asked == 0


def test_a_report_of_half_a_judging_says_so_and_claims_nothing(here: JudgedRun) -> None:
    here.answer()
    here.change_budget(20 * CALL)
    done = here.judge()
    assert (done.ended, 20 <= done.judged < 30) == (Ended.OVER_BUDGET, True)
    (judge,) = here.judgements().judges
    of_a, of_b = (np.unique(judge.answer[judge.cell == cell]).size for cell in (0, 1))
    assert abs(of_a - of_b) <= 5
    text = here.report_text()
    told = "judge (judge-1, rubric 1): the budget of 0.04 US dollars is spent"
    assert f"Judging did not come to its end: {told}. Rates rest on what was judged until then." in text
    assert "## Fig. 9 and Fig. 19: Answers that fail a judge\n" in text
    here.change_budget(10.0)
    here.judge()
    text = here.report_text()
    assert "did not come to its end" not in text
    assert "## Fig. 9 and Fig. 19: Answers fail most often on instruction understanding" in text
