"""Whether this machine can do what it is asked to: one finding for each thing that a run needs.

Asks, and changes nothing: starts no broker, makes no file, brings up no schema.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import redis
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.jobs.broker import BrokerUnavailable, EmbeddedBroker, check_reachable, client_of, server_program
from defsurvey.jobs.settings import Settings
from defsurvey.storage.address import in_words, shown
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.schema import HEAD, condition
from defsurvey.storage.schema import remedy as schema_remedy
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.keys import find_key, key_name
from defsurvey.workers.engines.machine import nvidia_gpus
from defsurvey.workers.models import ModelCard, ModelError, read_cards

OK, NOTE, BAD = "ok", "note", "bad"  #: how a finding can be: as it should be, worth knowing, or in the way of every run
#: Free bytes below which a disk is too full to work at all, and below which that is worth a word.
FULL_BYTES, SCANT_BYTES = 200 * 10**6, 5 * 10**9
CLOCK_SECONDS = 5.0  #: seconds by which another machine's clock may be off before it is worth a word
_HUB_QUESTIONS = 8  #: models asked for at the hub at once


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing."""

    name: str
    state: str  #: ``OK``, ``NOTE`` or ``BAD``
    said: str
    remedy: str = ""  #: what to do about it; empty where there is nothing to do

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.state:4}  {self.name:14}  {self.said}" + (f" -> {self.remedy}" if self.remedy else "")


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, as soon as it is there; none of them ever shows a password or a key."""
    yield Finding("program", OK, f"defsurvey {version('defsurvey')}, Python {platform.python_version()}")
    yield from _database(settings)
    yield from _broker(settings)
    yield from _disks(settings)
    yield Finding("libraries", OK, f"torch {version('torch')}, transformers {version('transformers')}")
    torch = _torch()
    yield gpu(driver=nvidia_gpus(), torch=torch)
    yield four_bits(usable=bool(torch[1]))
    try:
        cards = read_cards(settings.models)
    except ModelError as error:
        yield Finding("model cards", BAD, str(error), "mend the file, or unset DEFSURVEY_MODELS")
        return
    yield gated(cards, *_hub())
    yield from _keys(cards)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(settings.database_url, threads=1, synchronous=settings.synchronous)
    except BadDatabaseUrl as error:
        told = f"DEFSURVEY_DATABASE_URL: {error.told}"
        yield Finding("database", BAD, told, "correct it, or unset it for a file of this machine")
        return
    where, file = shown(settings.database_url), database.file
    if file is not None and not file.exists():
        yield Finding("database", OK, f"SQLite, {file} is made by the first run")
        return
    try:
        with database:
            found = condition(database)
    except SQLAlchemyError as error:
        why = in_words(where, getattr(error, "orig", None) or error)
        remedy = "start it, or set DEFSURVEY_DATABASE_URL" if file is None else "mend the file, or put it aside"
        yield Finding("database", BAD, f"{where}: {why}", remedy)
        return
    yield Finding("database", OK, f"{found.server}, {where}")
    this = f"this version works with {HEAD}"
    if found.revision == HEAD:
        yield Finding("schema", OK, f"revision {HEAD}")
    elif found.revision is None:
        yield Finding("schema", NOTE, f"none yet; {this}", "the first run, or defsurvey migrate")
    else:
        yield Finding("schema", BAD, f"revision {found.revision}; {this}", schema_remedy(found.revision))
    if file is None:
        yield clock_finding("database clock", found.clock_offset)


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.broker_url is None:
        if EmbeddedBroker(settings.home).alive():
            yield Finding("broker", OK, f"embedded, runs under {settings.home}")
            return
        try:
            yield Finding("broker", OK, f"embedded, started when it is needed ({server_program()})")
        except BrokerUnavailable as error:
            yield Finding("broker", BAD, "embedded, and no server program", str(error))
        return
    try:
        check_reachable(settings.broker_url)
        with client_of(settings.broker_url) as client:
            facts = client.info()
            seconds, microseconds = client.time()
    except (BrokerUnavailable, redis.RedisError) as error:
        yield Finding("broker", BAD, str(error), "start it, or set DEFSURVEY_BROKER_URL")
        return
    newer = facts.get("valkey_version")
    server = f"Valkey {newer}" if newer else f"Redis {facts.get('redis_version', '')}"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        said = f"{server} may drop messages (maxmemory-policy {policy})"
        yield Finding("broker", NOTE, said, "CONFIG SET maxmemory-policy noeviction")
    elif not facts.get("aof_enabled"):
        said = f"{server} forgets its messages when it restarts; the reconciler sends them again"
        yield Finding("broker", NOTE, said, "CONFIG SET appendonly yes")
    else:
        yield Finding("broker", OK, f"{server}, append-only file on")
    yield clock_finding("broker clock", seconds + microseconds / 1e6 - time.time())


def clock_finding(name: str, offset: float) -> Finding:
    """What a clock that is off by so many seconds means: leases that are late or early, never a wrong answer."""
    if abs(offset) <= CLOCK_SECONDS:
        return Finding(name, OK, f"within {CLOCK_SECONDS:.0f} s of this machine's")
    direction = "ahead of" if offset > 0 else "behind"
    said = f"{abs(offset):.0f} s {direction} this machine's: heartbeats and rates look wrong, answers are not"
    return Finding(name, NOTE, said, "let NTP set both clocks")


def _disks(settings: Settings) -> Iterator[Finding]:
    places = (("disk", settings.home, "DEFSURVEY_HOME"), ("model cache", settings.cache, "DEFSURVEY_CACHE"))
    for name, folder, setting in places:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            what = "is not a folder" if not there.is_dir() else "cannot be written to"
            yield Finding(name, BAD, f"{there} {what}", f"change that, or set {setting}")
            continue
        left = shutil.disk_usage(there).free
        state = BAD if left < FULL_BYTES else NOTE if left < SCANT_BYTES else OK
        remedy = "" if state == OK else f"make room, or set {setting} to a folder on another disk"
        yield Finding(name, state, f"{folder}: {left / 1e9:.1f} GB free", remedy)


def _torch() -> tuple[str | None, list[str]]:
    """The version of CUDA that torch was built for, or None, and the names of the GPUs it can use."""
    import torch

    usable = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return torch.version.cuda, [torch.cuda.get_device_name(number) for number in usable]


def gpu(*, driver: list[str], torch: tuple[str | None, list[str]]) -> Finding:
    """What the driver (a line for each GPU that it knows) and torch (see ``_torch``) say of GPUs, compared."""
    built_for, usable = torch
    if usable:
        seen = "; ".join(driver) or ", ".join(usable)
        return Finding("GPU", OK, f"{len(usable)} usable (CUDA {built_for}): {seen}; --device auto is cuda:0")
    if not driver:
        return Finding("GPU", OK, "none: --device auto is the CPU")
    said = f"{'; '.join(driver)}; torch cannot use it: --device auto is the CPU"
    if built_for is None:
        return Finding("GPU", NOTE, f"{said} (CPU build)", "install torch's CUDA build: this one is for CPUs only")
    remedy = f"update the driver to one for CUDA {built_for}; in a container, see that it is given the GPU"
    return Finding("GPU", NOTE, f"{said} (CUDA {built_for})", remedy)


def four_bits(*, usable: bool) -> Finding:
    """Whether models can be loaded in 4 bits, which takes a GPU that torch can use."""
    name, for_whom = "bitsandbytes", "models whose cards say 4 bits cannot be loaded"
    if find_spec(name) is None:
        return Finding(name, NOTE, f"not installed; {for_whom}", "pip install bitsandbytes")
    if not usable:
        return Finding(name, NOTE, f"{version(name)}, and no GPU: {for_whom}", "a GPU, or a smaller model")
    return Finding(name, OK, f"{version(name)}, for models in 4 bits")


def _hub(endpoint: str | None = None) -> tuple[bool, Callable[[str], str]]:
    """Whether there is a token for the hub, and a function that asks it why a repository may not be read.

    The function's reason is empty where it may be, and else one of ``gated``, ``absent`` and ``silent``.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hub = HfApi(endpoint=endpoint)

    def ask(repository: str) -> str:
        try:
            hub.auth_check(repository)
        except GatedRepoError:
            return "gated"
        except RepositoryNotFoundError:
            return "absent"
        except (HfHubHTTPError, HTTPError, OSError):
            return "silent"
        return ""

    return get_token() is not None, ask


def gated(cards: Mapping[str, ModelCard], token: bool, ask: Callable[[str], str]) -> Finding:
    """Whether the models of the cards may be fetched from the hub, agreements and all; ``token``, ``ask``: ``_hub``."""
    name, said = "model hub", "token found" if token else "no token"
    asked = {card.name: card.hub for card in cards.values() if card.hub is not None and card.path is None}
    with ThreadPoolExecutor(_HUB_QUESTIONS) as pool:
        answers = dict(zip(asked, pool.map(ask, asked.values()), strict=True))
    if "silent" in answers.values():
        said = f"{said}; the hub does not answer: only models in the cache or in a package can be served"
        return Finding(name, NOTE, said, "let this machine reach the hub, or copy the cache")
    parts, remedies = [said], []
    if closed := [model for model, answer in answers.items() if answer == "gated"]:
        parts.append(f"not yet agreed to: {', '.join(closed)}")
        remedies.append(f"agree at huggingface.co/{asked[closed[0]]} and set HF_TOKEN")
    if absent := [model for model, answer in answers.items() if answer == "absent"]:
        parts.append(f"not to be found: {', '.join(absent)}")
        remedies.append("correct `hub` in a card of your own")
    if not remedies:
        return Finding(name, OK, f"{said}; all {len(asked)} models may be fetched")
    return Finding(name, NOTE, "; ".join(parts), "; ".join(remedies))


def _keys(cards: Mapping[str, ModelCard]) -> Iterator[Finding]:
    """Whether there is a key for each server that a card asks with one; a line for each key."""
    asked = {key_name(card): card for card in cards.values() if card.hosted and not card.retired}
    for name, card in asked.items():
        if name is None:
            continue
        try:
            find_key(card)
        except EngineUnavailable as error:
            yield Finding("key", NOTE, f"{name} missing", str(error).partition(": ")[2])
        else:
            yield Finding("key", OK, f"{name} present")
