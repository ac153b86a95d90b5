"""What a run has cost, and the point at which it may cost no more.

Tokens are summed where they were counted, priced as the cards said when the models were first served with prices, and
when each judgement was made.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, case, exists, func, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.judgements import BATCHED, NONE, Ended, wanted
from defsurvey.storage.runs.ledger import OPEN

_R, _C, _P, _J = tables.run.c, tables.cell.c, tables.participant.c, tables.judgement.c
#: Seconds after which a sum is made again in any case: others may spend meanwhile, and budgets are changed.
LOOK_SECONDS = 1.0
#: Share of what is left that may be spent unseen, at the cost that answers have had since the sum before.
_UNSEEN = 0.25


def spent(database: Database, run: str) -> float:
    """US dollars that a run's answers and judgements have cost so far; whatever has no price costs nothing."""
    with database.read() as connection:
        return _spent(connection, run)


def _spent(connection: Connection, run: str) -> float:
    prices = _prices(connection, run)
    sums = select(_C.model, func.sum(_P.prompt_tokens), func.sum(_P.completion_tokens)).select_from(tables.IN_CELLS)
    tokens = sums.where(_P.run == run).group_by(_C.model)
    answers = sum(
        (int(read) * prices[model][0] + int(written) * prices[model][1]) / 1e6
        for model, read, written in connection.execute(tokens)
        if model in prices
    )
    return answers + _judged(connection, run)


def _prices(connection: Connection, run: str) -> dict[str, tuple[float, float]]:
    """Model -> US dollars per million tokens read and written, of the models that cost any: prices of 0 are none."""
    served = select(tables.served.c.model, tables.served.c.description).where(tables.served.c.run == run)
    prices = {
        model: (float(said["input_price"]), float(said["output_price"]))
        for model, said in connection.execute(served)
        if "input_price" in said and "output_price" in said
    }
    return {model: each for model, each in prices.items() if any(each)}


def _judged(connection: Connection, run: str) -> float:
    j = tables.judge.c
    share = case((_J.batched, BATCHED), else_=1.0)
    cost = share * (
        func.coalesce(_J.prompt_tokens, 0) * func.coalesce(_J.input_price, j.input_price, 0.0)
        + func.coalesce(_J.completion_tokens, 0) * func.coalesce(_J.output_price, j.output_price, 0.0)
    )
    query = (
        select(func.sum(cost))
        .join_from(tables.judgement, tables.judge, _J.judge == j.id)
        .join(tables.participant, _J.participant == _P.id)
        .where(_P.run == run)
    )
    return float(connection.execute(query).scalar_one() or 0.0) / 1e6


def budget_of(database: Database, run: str) -> float | None:
    """US dollars that a run may cost; None: whatever it costs."""
    found: float | None = database.value(select(_R.budget).where(_R.id == run))
    return found


def left(database: Database, run: str) -> float | None:
    """US dollars of its budget that a run has not used up, at most 0 where it has; None: whatever it costs."""
    budget = budget_of(database, run)
    return None if budget is None else budget - spent(database, run)


def is_spent(database: Database, run: str) -> bool:
    """Whether a run has a budget and has used it up."""
    there = left(database, run)
    return there is not None and there <= 0


def halt_if_spent(database: Database, run: str) -> bool:
    """Halt the cells of a run whose models have a price once its budget is used up, else let them go on."""

    # Whoever changes the budget meanwhile waits, and comes to the cells behind this.
    allowed = select(_R.budget).where(_R.id == run).with_for_update(key_share=True)

    def work(connection: Connection) -> bool:
        budget = connection.execute(allowed).scalar_one_or_none()
        over = budget is not None and _spent(connection, run) >= budget
        halted = _C.model.in_(_prices(connection, run) if over else ())
        connection.execute(tables.cell.update().where(_C.run == run, _C.halted != halted).values(halted=halted))
        return over

    return database.write(work)


def change_budget(database: Database, run: str, budget: float | None) -> None:
    """Give a run another budget, or none. Halted cells go on, and so does the judging that its study asks for."""

    def work(connection: Connection) -> None:
        connection.execute(tables.run.update().where(_R.id == run).values(budget=budget))
        judge = connection.execute(select(_R.judge).where(_R.id == run)).scalar_one_or_none()
        if judge is not None and (budget is None or _spent(connection, run) < budget):
            unpaid = tables.judging.update().where(*_unpaid(run, Judge.from_json(judge)))
            connection.execute(unpaid.values(ended=Ended.INCOMPLETE.value, ledger=NONE))  # due again

    database.write(work)
    halt_if_spent(database, run)


def is_judging_unpaid(database: Database, run: str) -> bool:
    """Whether a run has a budget, and the judge that its study names ended last for want of money."""
    if (judge := wanted(database, run)) is None:
        return False
    return budget_of(database, run) is not None and bool(database.value(select(exists().where(*_unpaid(run, judge)))))


def _unpaid(run: str, judge: Judge) -> tuple[ColumnElement[bool], ...]:
    """Where judging that the study asks for ended for want of money."""
    j = tables.judging.c
    return (j.run == run, j.model == judge.key, j.share <= judge.sample, j.ended == Ended.OVER_BUDGET.value)


def is_stopped(database: Database, run: str) -> bool:
    """Whether a run has open participants, and all of them are in cells that are halted."""
    open_, going = func.count(), func.sum(case((_C.halted, 0), else_=1))
    ((waiting, served),) = database.rows(select(open_, going).select_from(tables.IN_CELLS).where(_P.run == run, OPEN))
    return waiting > 0 and not served


class BudgetWatch:
    """Tells whether a run has money left, and sums up only where that could change anything. Safe for any thread.

    It is asked once for every answer. Near the end the sum is made at every answer, so that no more is overdrawn than
    by who is asked at that moment, and by what other processes spend within ``LOOK_SECONDS``.
    """

    def __init__(self, left: Callable[[], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._sum = left
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = 0  #: since the last sum
        self._enough_for = 0.0  #: so many answers after it another is needed
        self._until = -math.inf
        self._left: float | None = None  #: as the last sum says

    def is_spent(self) -> bool:
        """Whether nothing more is to be asked."""
        with self._lock:
            self._asked += 1
            if self._asked < self._enough_for and self._clock() < self._until:
                return False
            asked, before, self._asked = self._asked, self._left, 0
        left = self._sum()
        with self._lock:
            self._left, self._until = left, self._clock() + LOOK_SECONDS
            self._enough_for = _enough_for(before, left, asked)
        return left is not None and left <= 0


def _enough_for(before: float | None, left: float | None, asked: int) -> float:
    """After how many answers a sum is needed again, by what the last ``asked`` of them have cost."""
    if left is None:
        return math.inf
    each = (before - left) / asked if before is not None else 0.0
    return _UNSEEN * left / each if each > 0 else 0.0
