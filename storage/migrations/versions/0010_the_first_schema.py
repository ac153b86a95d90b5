"""The first schema.

Its number is above those of databases that were made before version 0.1.0, which no version reads.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = None

_TYPES: dict[str, Any] = {
    "int": sa.Integer(),
    "long": sa.BigInteger(),
    "number": sa.Float(),
    "double": sa.Float(precision=53),
    "flag": sa.Boolean(),
    "name": sa.String(),
    "text": sa.Text(),
    "json": sa.JSON(),
}
#: The tables with their columns; * is of the key, ? may be NULL, -> refers to another.
_TABLES = """
judge: id* int, identity name, model name, description json, input_price number?, output_price number?
survey: fingerprint* name, name name, body json
worker: owner* name, model name, rates json, beat_at double
calibration: judge* int -> judge.id, item* name, findings json, prompt_tokens int?, completion_tokens int?
run: id* name, created_at double, survey name -> survey.fingerprint, questions json, protocol json, design name, study
    text, cancelled flag, judge json?, budget number?
cell: id* int, run name -> run.id, position int, model name, culture name, condition_name name, condition json,
    language name, halted flag
judge_batch: token* name, batch name?, judge int -> judge.id, run name -> run.id, calls json, made_at double
judge_lease: run* name -> run.id, owner name, until double
judging: run* name -> run.id, model* name, judge int? -> judge.id, ended name, told text, share number, ledger long,
    revision long
probe: run* name -> run.id, model* name, kind* name, culture* name, language* name, question* name, prompt text,
    completion text, percent json?, asked_at double
report: run* name -> run.id, revision* long, judgements* long, html name, markdown name, built_at double
served: run* name -> run.id, model* name, description json, versions json
participant: id* int, run name -> run.id, cell int -> cell.id, number int, draws json, planned int, questions int,
    next_item int, memory text, status name, lease_epoch int, lease_until double?, lease_owner name?, published_at
    double?, suspect flag, on_trial flag, deaths int, commits int, attempts json, answered int, refused int, unparsable
    int, failed int, prompt_tokens long, completion_tokens long
answer: participant* int -> participant.id, item* long, slot* long, question name, state name, choices text, completion
    text, digest long, reason text, remembered text?, shown text, memory text, draws json, seed long, used json,
    prompt_tokens int?, completion_tokens int?, attempt int, out_of_sequence flag, seconds double, worker name,
    committed_at double
judgement: judge* int -> judge.id, participant* int -> participant.id, item* long, slot* long, attempt* int, digest*
    long, repeat* int, findings json, prompt_tokens int?, completion_tokens int?, batched flag, input_price number?,
    output_price number?, judged_at double
label: participant* int -> participant.id, item* long, slot* long, digest* long, dimension* name, person* name, verdict
    name
option_probability: participant* int -> participant.id, item* long, order* int, place* int, question name, option int,
    probability double
reading: participant* int -> participant.id, item* long, slot* long, digest* long, reader* name, state name, choices
    text, read_at double
step: participant* int -> participant.id, item* long, attempt* int, number* int, completion text, finish name, seed
    long, used json, prompt_tokens int?, completion_tokens int?, seconds double, worker name, committed_at double
again: participant* int, item* long, slot* long, attempt int
"""
_MORE: dict[str, list[Any]] = {
    "judge": [sa.UniqueConstraint("identity")],
    "cell": [sa.UniqueConstraint("run", "model", "culture", "condition_name", "language")],
    "participant": [sa.UniqueConstraint("cell", "number")],
    "again": [
        sa.ForeignKeyConstraint(["participant", "item", "slot"], ["answer.participant", "answer.item", "answer.slot"])
    ],
}


def upgrade() -> None:
    """Make every table."""
    for line in _TABLES.replace("\n    ", " ").split("\n")[1:-1]:
        table, _, columns = line.partition(": ")
        op.create_table(table, *(_column(*column.split()) for column in columns.split(", ")), *_MORE.get(table, []))
    op.create_index(op.f("ix_participant_cell"), "participant", ["cell"])
    op.create_index("participant_of_run", "participant", ["run", "status"])
    op.create_index(op.f("ix_judgement_participant"), "judgement", ["participant"])


def _column(name: str, kind: str, _to: str = "", other: str = "") -> sa.Column[Any]:
    refers = [sa.ForeignKey(other)] if other else []
    null, key = kind.endswith("?"), name.endswith("*")
    return sa.Column(name.rstrip("*"), _TYPES[kind.rstrip("?")], *refers, nullable=null, primary_key=key)
