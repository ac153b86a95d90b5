"""From the environment to frozen settings, read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defsurvey.storage.address import SYNCHRONOUS, Synchronous
from defsurvey.storage.errors import BadInput
from defsurvey.storage.surveys.problem import nearest
from defsurvey.workers import OWN_CARDS

_PREFIX = "DEFSURVEY_"


class BadSetting(BadInput, ValueError):
    """An environment variable cannot be used; the message names it, what was expected and what it is."""


def _bad(name: str, expected: str, got: str) -> BadSetting:
    return BadSetting(f"environment variable {_PREFIX}{name}: expected {expected}, got {got}")


_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a positive number of seconds")]


class Settings(BaseModel):
    """Where everything is and how it is opened: each field is a variable, ``DEFSURVEY_`` and the field's name.

    Passwords of URLs may lie in files (``DEFSURVEY_DATABASE_PASSWORD_FILE``, ``DEFSURVEY_BROKER_PASSWORD_FILE``), as a
    container's secrets do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Folder under which everything lives: else the nearest ``.defsurvey`` of this account in the working folder or
    #: above it, as git finds a repository; else ``.defsurvey`` in the working folder.
    home: Path
    database_url: str = Field(repr=False)  #: SQLite under ``home`` by default; may hold a password
    broker_url: str | None = Field(repr=False)  #: of Redis; None: the embedded broker of ``home``
    cache: Path  #: where model weights are kept
    #: The user's own model cards: else ``models.toml`` in the working folder, else the one next to a study (see
    #: ``for_study``); None where there is none.
    models: Path | None
    #: SQLite's promise at a power loss
    synchronous: Synchronous = Field("normal", description=f"one of {', '.join(SYNCHRONOUS)}")
    lease_seconds: _Seconds = 90.0  #: how long a claim holds without a heartbeat
    hang_seconds: _Seconds = 1800.0  #: without any completion, after which a worker counts its engine as hung and ends
    visibility_timeout: _Seconds = 3600.0  #: seconds until the broker delivers an unacknowledged message again

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``DEFSURVEY_*``; a variable that is empty counts as not set."""
        ours = {name.removeprefix(_PREFIX): text for name, text in environment.items() if name.startswith(_PREFIX)}
        for name in ours:
            if name not in _NAMES:
                near = nearest(name, _NAMES, prefix=_PREFIX)
                known = ", ".join(_PREFIX + known for known in _NAMES)
                raise BadSetting(f"environment variable {_PREFIX}{name} is not known{near or f'; known are {known}'}")
        given = {name: text for name, text in ours.items() if text}
        home = _home(given)
        values: dict[str, object] = {name.lower(): text for name, text in given.items() if name in _PLAIN}
        values |= {
            "home": home,
            "database_url": _url(given, "DATABASE") or f"sqlite:///{quote(str(home / 'defsurvey.db'))}",
            "broker_url": _url(given, "BROKER"),
            "cache": _path("CACHE", given.get("CACHE", str(home / "models"))),
            "models": _path("MODELS", given["MODELS"]) if "MODELS" in given else own_cards(Path()),
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise _bad(name.upper(), cls.model_fields[name].description or "", repr(values[name])) from None

    def for_study(self, study: Path) -> Settings:
        """The same for a study file: next to it may lie the model cards that it names."""
        return self if self.models is not None else self.model_copy(update={"models": own_cards(study.parent)})

    def for_children(self) -> dict[str, str]:
        """What processes that are started for a study need in their environment besides."""
        return {} if self.models is None else {_PREFIX + "MODELS": str(self.models)}

    @property
    def reports(self) -> Path:
        """Folder that holds one folder of reports per run."""
        return self.home / "reports"

    @property
    def logs(self) -> Path:
        """Folder of the logs of the processes that ``defsurvey run`` starts."""
        return self.home / "logs"

    def make_home(self) -> None:
        """Make the folder ``home`` unless it is there; raises BadSetting where it is no folder, or cannot be made."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "it is none" if self.home.exists() else error.strerror
            raise _bad("HOME", "a folder that this account can write to", f"{self.home}: {why}") from None


_PLAIN = tuple(name.upper() for name, field in Settings.model_fields.items() if not field.is_required())
_NAMES = (*map(str.upper, Settings.model_fields), "DATABASE_PASSWORD_FILE", "BROKER_PASSWORD_FILE")


def own_cards(folder: Path) -> Path | None:
    """The user's own model cards in a folder, or None."""
    file = folder / OWN_CARDS
    return file.absolute() if file.is_file() else None


def _home(given: Mapping[str, str]) -> Path:
    home = _path("HOME", given.get("HOME", ".defsurvey"))
    if "HOME" not in given:
        candidates = (folder / home.name for folder in home.parents)
        home = next((folder for folder in candidates if folder.is_dir() and folder.stat().st_uid == os.geteuid()), home)
    try:
        str(home).encode()
    except UnicodeEncodeError:  # a file's name may be any bytes; these could be in no URL and in no database
        raise _bad("HOME", "a path in UTF-8", repr(os.fsencode(home))) from None
    return home


def _path(name: str, text: str) -> Path:
    """A path from the root, where ``text`` begins in the working folder, or in a user's home by ``~``."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise _bad(name, "a path", f"{text!r}: there is no such user") from None
    except FileNotFoundError:
        raise _bad(name, "a path from /", f"{text!r}: the working folder is gone") from None


def _url(given: Mapping[str, str], what: str) -> str | None:
    """The URL of the database or the broker, with the password that lies in the file named for it."""
    url = given.get(f"{what}_URL")
    scheme, separator, rest = (url or "").partition("://")
    if what == "BROKER" and url is not None and scheme not in ("redis", "rediss", "redis+socket"):
        # the URL may hold a password, so that no more than its scheme is repeated
        expected = "a URL with redis://, rediss://, redis+socket://"
        raise _bad("BROKER_URL", expected, f"{scheme}://" if separator else "no scheme")
    variable = f"{what}_PASSWORD_FILE"
    if variable not in given:
        return url
    user, at, host = urlsplit(url or "").netloc.rpartition("@")
    if not host or ":" in user:
        got = "one with a password" if ":" in user else "one without a host" if url else "none"
        raise _bad(variable, f"{_PREFIX}{what}_URL to name a host and no password", got)
    file = Path(given[variable])
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise _bad(variable, "a file that can be read", f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _bad(variable, f"text in {file}", "other bytes") from None
    if not password:
        raise _bad(variable, f"a password in {file}", "an empty file")
    return f"{scheme}://{user}:{quote(password, safe='')}@{rest.removeprefix(user + at)}"
