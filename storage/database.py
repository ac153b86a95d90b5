"""From a URL to transactions."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from defsurvey.storage.address import SYNCHRONOUS, shown
from defsurvey.storage.errors import BadInput

log = logging.getLogger(__name__)


class Now(FunctionElement[float]):
    """The database's clock: seconds since the epoch, at the moment of execution."""

    type = sa.Float()
    inherit_cache = True


@compiles(Now, "sqlite")
def _now_sqlite(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_postgresql(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


T = TypeVar("T")

#: Seconds that a statement waits for another process's write before the transaction is tried again.
BUSY_TIMEOUT = 10.0
#: Pauses in seconds between attempts of a write that another process kept from happening.
RETRY_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)
#: How soon a connection to PostgreSQL that was dropped without a word is noticed, in libpq's words; left alone, the
#: kernel waits for two hours. Silent for so many seconds it is asked, so often and so many times without an answer, and
#: what was sent may be unacknowledged for so many milliseconds: within 60 seconds in all.
DROPPED = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
#: Where a SQLite file says in two bytes whether it is written through a log, and in four its user version
#: (https://sqlite.org/fileformat.html).
_VERSIONS, _USER_VERSION = 18, 60
#: The user version of files that are left without need of a log by whoever closes them last: older ones were not.
_SETTLED = 1
#: SQLSTATEs after which the same transaction may simply be tried again.
_SERIALIZATION = {"40001", "40P01"}
#: SQLSTATE of a write to a server that only reads: a standby, or the server of before after a failover.
_READ_ONLY = "25006"


class BadDatabaseUrl(BadInput, ValueError):
    """The database URL, or a promise beside it, cannot be used; ``told`` says what was expected and what was got."""

    def __init__(self, told: str, *, what: str = "database URL") -> None:
        super().__init__(f"{what}: {told}")
        self.told = told


class LogMissing(BadInput, RuntimeError):
    """A SQLite file was left in use, and its write-ahead log is gone: what was committed last is not in the file."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"database {file}: its write-ahead log {file.name}-wal is missing, and with it the last answers. Put that "
            "file back beside it, or a copy made by defsurvey backup in its place. If nothing is missing (another "
            "program opened and closed the file), go on with defsurvey migrate"
        )


class Database:
    """A database and its transactions; raises BadDatabaseUrl.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``; libpq's parameters in it win over ours.
        threads: connections kept ready; at least the number of threads that use them.
        synchronous: SQLite only: ``full`` survives a power loss, ``normal`` may lose the last answers then, never
            consistency, and ``off`` promises nothing.
    """

    def __init__(self, url: str, *, threads: int = 4, synchronous: str = "normal") -> None:
        if synchronous not in SYNCHRONOUS:
            raise BadDatabaseUrl(f"expected one of {', '.join(SYNCHRONOUS)}, got {synchronous!r}", what="synchronous")
        self.url = _parse(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.file = Path(str(self.url.database)) if self.sqlite else None  #: of SQLite
        self._lock = threading.RLock()
        if self.sqlite:
            self.engine = _sqlite(self.url, threads, synchronous)
            self._reading = self.engine
        else:
            self.engine = _postgresql(self.url, threads)
            # The default level would give every statement of a transaction a state of its own.
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writer: sa.Connection | None = None  # SQLite only: to take one from the pool costs as much as a statement
        self._closed = False

        @sa.event.listens_for(self.engine, "checkin")
        def _end(_dbapi: object, record: ConnectionPoolEntry) -> None:
            """A pool that was given up closes nothing that comes back to it later, say from a thread amid a query."""
            if self._closed:
                record.invalidate()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that sees one state of the database."""
        with self._reading.connect() as connection, connection.begin():
            if self.sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run ``work`` in a transaction and commit it; whatever it raises rolls back.

        It is run again when another process kept the transaction from happening, so it must do nothing but SQL.
        """
        for pause in (*RETRY_PAUSES, None):
            try:
                with self._transaction() as connection:
                    return work(connection)
            except OperationalError as error:
                if pause is None or not _transient(error):
                    raise
                log.warning("write kept waiting, trying again in %.2f s: %s", pause, error.orig)
                time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def rows(self, query: sa.Executable) -> Sequence[Any]:
        """All rows of one query."""
        with self.read() as connection:
            return connection.execute(query).all()

    def value(self, query: sa.Executable) -> Any:
        """The one value of a query; None where it has no row."""
        with self.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def change(self, statement: sa.UpdateBase) -> int:
        """Execute one statement in a transaction of its own. Returns the number of rows that it changed."""
        return self.write(lambda connection: connection.execute(statement).rowcount)

    def check_log(self) -> None:
        """Refuse a SQLite file that was copied or moved without its write-ahead log; raises LogMissing.

        Whoever closes a file last leaves it without need of a log (see ``_settle``). Another process may be opening or
        closing it this moment, so it is looked at for a while.
        """
        for pause in (*[0.1] * 10, None):
            if self.file is None or not _needs_log(self.file):
                return
            if pause is None:
                raise LogMissing(self.file)
            time.sleep(pause)

    def checkpoint(self) -> None:
        """Write what SQLite's log holds into the database file, as far as nobody reads older states of it."""
        if self.sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def backup(self, target: IO[bytes]) -> None:
        """Copy a SQLite database, also while others write to it, as one file that needs no log."""
        if not self.sqlite:
            raise BadDatabaseUrl("expected SQLite, got PostgreSQL, which pg_dump copies", what="backup")
        with TemporaryDirectory() as folder:
            file = Path(folder) / "copy.db"
            with closing(sqlite3.connect(file)) as copy, self.engine.connect() as connection:
                source = connection.connection.driver_connection
                assert isinstance(source, sqlite3.Connection)
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
            with file.open("rb") as whole:
                shutil.copyfileobj(whole, target)

    def close(self) -> None:
        """Close every connection; one that is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction that writes; on SQLite one after the other, all on one connection for as long as it serves."""
        if not self.sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._lock:
            writer, self._writer = self._writer or self.engine.connect(), None
            try:
                with writer.begin():
                    writer.exec_driver_sql("BEGIN IMMEDIATE")
                    yield writer
            except BaseException:
                writer.close()
                raise
            if self._closed:
                writer.close()
            else:
                self._writer = writer


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise BadDatabaseUrl(f"expected sqlite:///path or postgresql://user@host/name, got {shown(url)!r}") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise BadDatabaseUrl("SQLite needs a file (sqlite:///path); workers share it")
        return parsed.set(drivername="sqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise BadDatabaseUrl(f"expected sqlite or postgresql, got {backend}")


def insert_new(connection: sa.Connection, table: sa.Table, columns: Mapping[str, Any]) -> None:
    """Insert a row unless one with the same key is there already, be it since this very moment."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(table).values(**columns).on_conflict_do_nothing())


def _postgresql(url: sa.URL, threads: int) -> sa.Engine:
    named = url.query.get("host", ())  # hosts stand before the path, or behind it
    hosts = ",".join([*filter(None, [url.host]), *([named] if isinstance(named, str) else named)])
    ours = {**DROPPED, **({"target_session_attrs": "read-write"} if "," in hosts else {})}
    connect = {name: value for name, value in ours.items() if name not in url.query}
    engine = sa.create_engine(url, pool_size=threads + 4, max_overflow=4, pool_pre_ping=True, connect_args=connect)
    sa.event.listen(engine, "handle_error", _reads_only)
    return engine


def _reads_only(context: ExceptionContext) -> OperationalError | None:
    """A server that takes no writes is as good as away: an outage, and the next connection may lead to another.

    SQLAlchemy knows it as an internal error of a connection that is sound, on which every write would fail for ever.
    """
    error = context.original_exception
    if getattr(error, "sqlstate", None) != _READ_ONLY:
        return None
    context.is_disconnect = True
    assert isinstance(error, Exception)
    return OperationalError(context.statement, context.parameters, error, connection_invalidated=True)


def _sqlite(url: sa.URL, threads: int, synchronous: str) -> sa.Engine:
    connect = {"timeout": BUSY_TIMEOUT, "check_same_thread": False}
    engine = sa.create_engine(url, pool_size=threads + 4, connect_args=connect)

    @sa.event.listens_for(engine, "connect")
    def _open(dbapi: Any, _record: object) -> None:
        # The driver opens no transaction of its own: Database does, and not in a listener to "begin", since where there
        # is one, every statement looks for further listeners.
        dbapi.isolation_level = None
        _begin_log(dbapi)
        dbapi.execute(f"PRAGMA synchronous = {synchronous}")
        dbapi.execute("PRAGMA foreign_keys = ON")
        dbapi.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")

    sa.event.listen(engine, "close", _settle)
    return engine


def _begin_log(dbapi: sqlite3.Connection) -> None:
    """Have writes go to a log. SQLite answers "locked" at once where two processes begin or end it together."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            mode = dbapi.execute("PRAGMA journal_mode").fetchone()
            if mode != ("wal",) and dbapi.execute("PRAGMA user_version").fetchone() != (_SETTLED,):
                dbapi.execute(f"PRAGMA user_version = {_SETTLED}")
            dbapi.execute("PRAGMA journal_mode = WAL")
            dbapi.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # the first read makes the log's file
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _settle(dbapi: sqlite3.Connection, _record: object) -> None:
    """Before a connection is closed: if it is the file's last, the log goes into the file, which then needs none.

    SQLite alone would do the first and not the second, and a file without its log would look like one closed in order.
    """
    with suppress(sqlite3.Error):  # others have it open, or it cannot be written
        dbapi.execute("PRAGMA busy_timeout = 0")
        dbapi.execute("PRAGMA journal_mode = DELETE")


def _needs_log(file: Path) -> bool:
    """Whether a SQLite file says that transactions may be in a log, and neither that nor a journal is there."""
    try:
        with file.open("rb") as opened:
            head = opened.read(100)
    except OSError:
        return False  # whoever opens it as a database says why
    settled = head[_USER_VERSION : _USER_VERSION + 4] == _SETTLED.to_bytes(4, "big")
    in_log = settled and head[_VERSIONS : _VERSIONS + 2] == b"\x02\x02"
    return in_log and not any(file.with_name(file.name + end).exists() for end in ("-wal", "-journal"))


def _transient(error: DBAPIError) -> bool:
    """Whether the same transaction can succeed if it is simply tried again."""
    if "database is locked" in str(error.orig) or "database is busy" in str(error.orig):
        return True
    return getattr(error.orig, "sqlstate", None) in _SERIALIZATION
