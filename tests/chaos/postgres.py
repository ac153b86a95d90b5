"""A PostgreSQL server that can be stopped in the middle of work and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.storage.postgres import NOBODY, _await, _programs, execute

#: What was committed survives the server's death; only a power loss is not tested, so nothing is flushed to the disk.
SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=on", "max_connections=200")
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class PostgresServer:
    """One server; its data outlive its process.

    Args:
        folder: an empty folder that ``nobody`` can reach.
    """

    def __init__(self, folder: Path) -> None:
        root = os.geteuid() == 0
        self._account = NOBODY if root else None
        self._programs = _programs(folder, copied=root)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "run"
        self.socket.mkdir()
        if root:
            folder.chmod(0o755)
            shutil.chown(self.socket, NOBODY)
        command = [self._programs / "initdb", "-D", self.socket / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, user=self._account, env=_ENVIRONMENT)

    def start(self) -> None:
        """Start it and wait until it answers."""
        flags = [part for setting in SETTINGS for part in ("-c", setting)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.socket / "data", "-k", self.socket, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._account,
                env=_ENVIRONMENT,
            )
        _await(self.socket, self._process, self._log)

    def stop(self) -> None:
        """End it as a crash would: every connection is cut, and its log is replayed at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def create(self, name: str) -> str:
        """Make an empty database. Returns its URL."""
        execute(self.socket, f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.socket}"


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A running server of which nothing is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if os.geteuid() == 0 else None))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
