"""The table of faults that a chaos run prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HEAD = (
    "fault",
    "database",
    "times",
    "planned / kept",
    "asked again",
    "stale writes fenced",
    "seconds to recover: the first / the last",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    fault: str
    database: str
    times: int  #: how often it was injected
    planned: int
    kept: int
    recomputed: int  #: requests that an engine got beyond one for each planned answer
    fenced: int
    seconds: Sequence[
        tuple[float, float]
    ]  #: from each injection to the next answer of the first and the last concerned


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
    for row in rows:
        cells = (
            row.fault,
            row.database,
            row.times,
            f"{row.planned} / {row.kept}",
            row.recomputed,
            row.fenced,
            " / ".join(f"{median(waits):.1f}" for waits in zip(*row.seconds, strict=True)),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"
