"""Whether this machine can do what it is asked to: one finding for each thing that a run needs.

Asks, and changes nothing: starts no broker, makes no file, brings up no schema.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import redis
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.jobs import doctor_models
from defsurvey.jobs.finding import BAD, NOTE, OK, Finding, clock_finding
from defsurvey.jobs.queue.broker import BrokerUnavailable, EmbeddedBroker, check_reachable, client_of, server_program
from defsurvey.jobs.settings import Settings
from defsurvey.storage.address import in_words, shown
from defsurvey.storage.condition import Condition, condition
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.schema import HEAD

#: Free bytes below which a disk is too full to work at all, and below which that is worth a word.
FULL_BYTES, SCANT_BYTES = 200 * 10**6, 5 * 10**9


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, as soon as it is there; none of them ever shows a password or a key."""
    yield Finding(
        name="program", state=OK, said=f"defsurvey {version('defsurvey')}, Python {platform.python_version()}"
    )
    yield from _database(settings)
    yield from _broker(settings)
    yield from _disks(settings)
    yield from doctor_models.examine(settings)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        Database(settings.database_url, threads=1).close()  # no connection is made yet
    except BadDatabaseUrl as error:
        remedy = "correct it, or unset it for a file of this machine"
        yield Finding(name="database", state=BAD, said=f"DEFSURVEY_DATABASE_URL: {error.told}", remedy=remedy)
        return
    url, where = make_url(settings.database_url), shown(settings.database_url)
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    if file is not None and not file.exists():
        yield Finding(name="database", state=OK, said=f"SQLite, {file} is made by the first run")
        return
    try:
        with Database(settings.database_url, threads=1, synchronous=settings.synchronous) as database:
            found = condition(database)
    except SQLAlchemyError as error:
        why = in_words(where, getattr(error, "orig", None) or error)
        remedy = "start it, or set DEFSURVEY_DATABASE_URL" if file is None else "mend the file, or put it aside"
        yield Finding(name="database", state=BAD, said=f"{where}: {why}", remedy=remedy)
        return
    yield Finding(name="database", state=OK, said=f"{found.server}, {where}")
    yield _schema(found)
    if file is None:
        yield clock_finding("database clock", found.clock_offset)


def _schema(found: Condition) -> Finding:
    name, this = "schema", f"this version works with {HEAD}"
    if found.revision == HEAD:
        return Finding(name=name, state=OK, said=f"revision {HEAD}")
    if found.revision is None:
        return Finding(name=name, state=NOTE, said=f"none yet; {this}", remedy="the first run, or defsurvey migrate")
    if found.revision > HEAD:
        return Finding(name=name, state=BAD, said=f"revision {found.revision}; {this}", remedy="update defsurvey")
    remedy = "the next run brings it up, or defsurvey migrate"
    return Finding(name=name, state=NOTE, said=f"revision {found.revision}; {this}", remedy=remedy)


def _broker(settings: Settings) -> Iterator[Finding]:
    name = "broker"
    if settings.broker_url is None:
        yield _embedded(settings, name)
        return
    try:
        check_reachable(settings.broker_url)
        with client_of(settings.broker_url) as client:
            said = client.info()
            seconds, microseconds = client.time()
    except (BrokerUnavailable, redis.RedisError) as error:
        yield Finding(name=name, state=BAD, said=str(error), remedy="start it, or set DEFSURVEY_BROKER_URL")
        return
    kind = "Valkey" if said.get("server_name") == "valkey" else "Redis"
    server = f"{kind} {said.get('valkey_version') or said.get('redis_version', '')}"
    if (policy := said.get("maxmemory_policy", "noeviction")) != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction"
        yield Finding(
            name=name, state=NOTE, said=f"{server} may drop messages (maxmemory-policy {policy})", remedy=remedy
        )
    elif not said.get("aof_enabled"):
        yield Finding(
            name=name,
            state=NOTE,
            said=f"{server} forgets its messages when it restarts; the reconciler sends them again",
            remedy="CONFIG SET appendonly yes",
        )
    else:
        yield Finding(name=name, state=OK, said=f"{server}, append-only file on")
    yield clock_finding("broker clock", seconds + microseconds / 1e6 - time.time())


def _embedded(settings: Settings, name: str) -> Finding:
    if EmbeddedBroker(settings.home).alive():
        return Finding(name=name, state=OK, said=f"embedded, runs under {settings.home}")
    try:
        program = server_program()
    except BrokerUnavailable as error:
        return Finding(name=name, state=BAD, said="embedded, and no server program", remedy=str(error))
    return Finding(name=name, state=OK, said=f"embedded, started when it is needed ({program})")


def _disks(settings: Settings, *, free: Callable[[Path], int] | None = None) -> Iterator[Finding]:
    free = free or (lambda folder: shutil.disk_usage(folder).free)
    for name, folder, setting in (
        ("disk", settings.home, "DEFSURVEY_HOME"),
        ("model cache", settings.cache, "DEFSURVEY_CACHE"),
    ):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            what = "is not a folder" if not there.is_dir() else "cannot be written to"
            yield Finding(name=name, state=BAD, said=f"{there} {what}", remedy=f"change that, or set {setting}")
            continue
        left = free(there)
        state = BAD if left < FULL_BYTES else NOTE if left < SCANT_BYTES else OK
        remedy = "" if state == OK else f"make room, or set {setting} to a folder on another disk"
        yield Finding(name=name, state=state, said=f"{folder}: {left / 1e9:.1f} GB free", remedy=remedy)
