"""A machine on which work is disturbed: what is in flight is known, and what became of it is accounted for."""

import io
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sqlalchemy import select

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.progress import snapshot
from defsurvey.jobs.results import export
from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import noun
from defsurvey.storage.runs.run import Participant
from defsurvey.workers.simulation.methods import questionnaire
from tests.chaos.engines import FOLDER, link, reply_to
from tests.end_to_end.machine import CULTURES, Machine, wait_until
from tests.end_to_end.machine import STUDY as SMALL_STUDY
from tests.storage.what_is_there import answers_of

REPOSITORY = Path(__file__).parents[2]
RUN = "small"
QUESTIONS = 10
PARTICIPANTS = 16  #: of each culture: 32 in all
PLANNED = QUESTIONS * PARTICIPANTS * len(CULTURES)
SEED = 7
STUDY = SMALL_STUDY.replace("participants: 5", f"participants: {PARTICIPANTS}")
CARD = '[citizen]\nengine = "tests.chaos.engines:{engine}"\npath = "empty"\n'
#: Open participants that nobody holds, and those that somebody does.
WAITING = "SELECT id, next_item FROM participant WHERE status = 'open' AND lease_until IS NULL"
HELD = "SELECT id, next_item, lease_owner FROM participant WHERE status = 'open' AND lease_until IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    at: float  #: seconds since the epoch
    positions: dict[int, int]  #: participant -> its next item


@dataclass
class ChaosMachine(Machine):
    url: str | None = None  #: of the database; None: SQLite in the home
    injections: list[Injection] = field(default_factory=list)
    said: str = ""  #: what daemons that were not started by a run have logged

    def __post_init__(self) -> None:
        super().__post_init__()
        self.write_survey(QUESTIONS)
        self.write_study(STUDY)
        self.set_engine("chain")

    @property
    def database_url(self) -> str:
        return self.url or f"sqlite:///{self.home / 'defsurvey.db'}"

    @property
    def kind(self) -> str:
        return "SQLite" if self.url is None else "PostgreSQL"

    def set_latency(self, seconds: float) -> None:
        self.write("latency", str(seconds))

    def set_engine(self, name: str) -> None:
        (self.folder / "cards.toml").write_text(CARD.format(engine=name))

    def write(self, name: str, content: str) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(content)
        temporary.replace(self.folder / name)

    def environment(self, **changes: str) -> dict[str, str]:
        found = {**super().environment(), FOLDER: str(self.folder), "PYTHONPATH": str(REPOSITORY)}
        if self.url is not None:
            found["DEFSURVEY_DATABASE_URL"] = self.url
        return found | changes

    def faulty(self, fault: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        return self.start(fault, *words, module="tests.chaos.faulty", **environment)

    def answers(self) -> int:
        if self.url is None and not (self.home / "defsurvey.db").exists():
            return 0
        with Database(self.database_url) as database, database.read() as connection:
            if not connection.dialect.has_table(connection, "answer"):
                return 0
        return int(self.rows("SELECT count(*) FROM answer")[0][0])

    def calls(self) -> Counter[tuple[str, int]]:
        lines = self.noted("calls")
        return Counter((line.split()[0], int(line.split()[1])) for line in lines)

    def noted(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def asked(self) -> int:
        return sum(count for (what, _), count in self.calls().items() if what == "asked")

    def unanswered(self, pid: int) -> int:
        calls = self.calls()
        return calls["asked", pid] - calls["said", pid]

    def injected(self, what: str) -> int:
        return sum(what in line for line in self.noted("injected"))

    def held(self) -> dict[int, tuple[int, int]]:
        return {who: (item, int(owner.rsplit(":", 2)[1])) for who, item, owner in self.rows(HELD)}

    def holders(self) -> list[int]:
        return sorted({pid for _, pid in self.held().values()})

    def caught(self, *, pid: int | None = None, waiting: bool = False) -> bool:
        """Note an injection if work is in flight now, of this process alone where one is given. Whether it is.

        With ``waiting`` those are noted that wait in the queue, whom the fault concerns.
        """
        positions = {who: item for who, (item, holder) in self.held().items() if pid in (None, holder)}
        if positions:
            concerned = dict(self.rows(WAITING)) if waiting else positions
            self.injections.append(Injection(at=time.time(), positions=concerned))
        return bool(positions)

    def wait_for_answers(self, number: int, process: subprocess.Popen[str] | None = None) -> None:
        def there() -> bool:
            assert process is None or process.poll() is None, process.communicate()
            return self.answers() >= number

        wait_until(there, f"{number} answers", seconds=120)

    def catch(self, *, pid: int | None = None, waiting: bool = False) -> None:
        wait_until(lambda: self.caught(pid=pid, waiting=waiting), "work in flight")

    def kill_in_flight(self, pid: int) -> bool:
        if state_of(pid) in ("", "Z"):
            return False
        os.kill(pid, signal.SIGSTOP)  # so that nothing changes between the look and the kill
        caught = self.caught(pid=pid)
        os.kill(pid, signal.SIGKILL if caught else signal.SIGCONT)
        return caught

    def log(self, *names: str) -> str:
        chosen = [path for path in sorted((self.home / "logs").glob("*.log")) if not names or path.stem in names]
        return "".join(path.read_text(errors="replace") for path in chosen)

    def export_bytes(self) -> bytes:
        stream = io.BytesIO()
        with Database(self.database_url) as database:
            export(database, RUN, "csv", stream, telemetry=False)
        return stream.getvalue()

    def recoveries(self) -> list[tuple[float, float]]:
        committed, found = self.committed_at(), []
        for injection in self.injections:
            waits = [committed[position] - injection.at for position in injection.positions.items()]
            found.append((min(waits), max(waits)))
        return found

    def conclude(self, fault: str, expected: bytes, *, times: int | None = None, log: str | None = None) -> "Row":
        """Hold everything that was promised against what is there, and the export against an undisturbed run's.

        Where not given, ``times`` is how many injections were noted, and ``log`` the logs of the home.
        """
        logged = self.log() if log is None else log
        with Database(self.database_url) as database:
            chained = follow(database, RUN)
            counted = snapshot(database, RUN).progress
        assert chained.breaks == ()
        assert chained.linked > PLANNED / 2
        assert (counted.planned, chained.kept, counted.done) == (PLANNED, PLANNED, PLANNED)
        assert self.export_bytes() == expected
        assert self.rows(HELD) == []
        assert not (found := unexpected(logged)), "\n".join(found)
        return Row(
            fault=fault,
            database=self.kind,
            times=len(self.injections) if times is None else times,
            planned=counted.planned,
            kept=chained.kept,
            recomputed=self.asked() - PLANNED,
            fenced=logged.count("not held under epoch"),
            seconds=self.recoveries(),
        )


@contextmanager
def chaos_machine(folder: Path, url: str | None = None) -> Iterator[ChaosMachine]:
    machine = ChaosMachine(folder, url=url)
    try:
        yield machine
    finally:
        machine.clear()


def unexpected(log: str) -> list[str]:
    """Log entries with a traceback, but for Celery's own of acknowledgements that a broker is not there to take."""
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d )", log, flags=re.MULTILINE)
    return [entry for entry in entries if "Traceback" in entry and "Couldn't" not in entry.partition("\n")[0]]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def points(number: int, *, seed: int, last: int = PLANNED - 40) -> list[int]:
    return sorted(random.Random(seed).sample(range(8, last), number))


def finish_well(process: subprocess.Popen[str], *, code: int = 0, seconds: float = 180) -> str:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == code, err
    return out + err


def server_of(broker: EmbeddedBroker) -> int:
    return int((broker.folder / "server.lock").read_text())


def kill_server(broker: EmbeddedBroker, *, and_its_file: bool = False) -> None:
    pid = server_of(broker)
    os.kill(pid, signal.SIGSTOP)
    if and_its_file:
        shutil.rmtree(broker.folder / "appendonlydir")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not broker.alive(), "the broker's death")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    kept: int  #: answers in the ledger
    breaks: tuple[str, ...]  #: answers that are not what the chain says, and answers missing or out of place
    linked: int  #: answers whose prompt holds the hash of an earlier answer


def participants(database: Database, run_id: str) -> list[Participant]:
    cells = {cell.id: cell for cell in store.load_run(database, run_id).cells}
    query = select(tables.participant).where(tables.participant.c.run == run_id).order_by(tables.participant.c.id)
    with database.read() as connection:
        return [
            noun(Participant, row, index=row.number, epoch=row.lease_epoch, cell=cells[row.cell])
            for row in connection.execute(query)
        ]


def follow(database: Database, run_id: str) -> Chained:
    run = store.load_run(database, run_id)
    survey = store.load_survey(database, run.survey)
    kept, linked, breaks = 0, 0, []
    for participant in participants(database, run_id):
        answers = answers_of(database, participant.id)
        where = f"participant {participant.id}"
        if [answer.item for answer in answers] != list(range(participant.next_item)):
            breaks.append(f"{where}: answers {[answer.item for answer in answers]} at item {participant.next_item}")
        recall = {answer.item: answer.remembered or "" for answer in answers}
        hashes: dict[int, str] = {}
        for answer in answers:
            request = questionnaire(participant, survey=survey, questions=run.questions, protocol=run.protocol).request(
                answer.item, answer.memory, recall=recall, attempt=answer.attempt
            )
            if answer.completion != reply_to(request):
                breaks.append(f"{where}, item {answer.item}: {answer.completion!r}")
            prompt = " ".join(message.content for message in request.messages)
            linked += any(earlier in prompt for earlier in hashes.values())
            hashes[answer.item] = link(request)
            kept += 1
    return Chained(kept=kept, breaks=tuple(breaks), linked=linked)


RECOVERED = "seconds to recover: the first / the last"
HEAD = ("fault", "database", "times", "planned / kept", "asked again", "stale writes fenced", RECOVERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    fault: str
    database: str
    times: int  #: how often it was injected
    planned: int
    kept: int
    recomputed: int  #: requests that an engine got beyond one for each planned answer
    fenced: int
    seconds: Sequence[tuple[float, float]]  #: from each injection to the next answer of the first, the last concerned


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
    for row in rows:
        kept = f"{row.planned} / {row.kept}"
        waits = " / ".join(f"{median(waits):.1f}" for waits in zip(*row.seconds, strict=True))
        cells = (row.fault, row.database, row.times, kept, row.recomputed, row.fenced, waits)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"
