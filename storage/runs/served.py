"""What served each model of a run, and whether an engine may go on where another has begun."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, and_, select, update

from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import EngineDescription

#: What of a description the answers depend on. Devices, threads, versions of libraries and the address of a server may
#: differ: one that is started again on another port serves the same model.
_IDENTITY = (
    "engine", "respondent", "model", "takes", "body",
    "weights", "revision", "dtype", "quantisation", "chat_template", "answer_prefix", "ends",
)  # fmt: skip
#: What tokens cost, which a card may be given after a run has begun: nothing that answers depend on.
_PRICES = ("input_price", "output_price", "priced")
#: What is looked at in place of these where both descriptions have it: the same file may lie elsewhere.
_DIGEST, _PLACE = "weights_sha256", ("weights", "revision")


class OtherEngine(BadInput, RuntimeError):
    """A model of this run was served by other weights or otherwise before; answers of both must not be pooled."""


def record_served(
    database: Database, run: str, model: str, description: EngineDescription, versions: Mapping[str, str]
) -> None:
    """Remember what serves a model of a run; the first to do so is the one that counts.

    Its prices too, and where it had none, the first that are told later: they hold for all that the run has asked.

    Raises:
        OtherEngine: the run's earlier answers of this model came from other weights, or were asked for otherwise.
    """
    here = and_(tables.served.c.run == run, tables.served.c.model == model)

    def work(connection: Connection) -> None:
        columns = {"run": run, "model": model, "description": dict(description), "versions": dict(versions)}
        insert_new(connection, tables.served, columns)
        first = connection.execute(select(tables.served.c.description).where(here)).scalar_one()
        names = differences(first, description)
        if names:
            told = [f"{name} {first[name]}, this worker has {description.get(name, 'none')}" for name in names]
            raise OtherEngine(f"run {run}, model {model}: its answers so far came from {'; '.join(told)}")
        if not _has_prices(first) and _has_prices(description):
            prices = {name: description[name] for name in _PRICES if name in description}
            connection.execute(update(tables.served).where(here).values(description={**first, **prices}))

    database.write(work)


def _has_prices(description: EngineDescription) -> bool:
    return "input_price" in description and "output_price" in description


def differences(first: EngineDescription, other: EngineDescription) -> list[str]:
    """Names of what makes it another engine than the first; what the first did not tell of itself is let pass."""
    told: tuple[str, ...] = _IDENTITY
    if _DIGEST in first and _DIGEST in other:
        told = (*(name for name in _IDENTITY if name not in _PLACE), _DIGEST)
    return [name for name in told if name in first and first[name] != other.get(name)]
