"""From the environment to frozen settings, read once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from defsurvey.storage.errors import BadInput
from defsurvey.storage.surveys.problem import nearest
from defsurvey.storage.synchronous import SYNCHRONOUS
from defsurvey.workers.models import OWN_CARDS

_PREFIX = "DEFSURVEY_"
#: Schemes of a broker's URL.
BROKER_SCHEMES = ("redis", "rediss", "redis+socket")


class BadSetting(BadInput, ValueError):
    """An environment variable cannot be used; the message names it, what was expected and what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where everything is and how it is opened.

    Attributes:
        home: folder under which everything lives: ``DEFSURVEY_HOME``; else the nearest ``.defsurvey`` of this account
            in the working folder or above it, as git finds a repository; else ``.defsurvey`` in the working folder.
        database_url: SQLite under ``home`` unless ``DEFSURVEY_DATABASE_URL`` says otherwise; its password may
            lie in a file (``DEFSURVEY_DATABASE_PASSWORD_FILE``), as a container's secrets do.
        broker_url: a Redis URL (``DEFSURVEY_BROKER_URL``), its password in it or in a file
            (``DEFSURVEY_BROKER_PASSWORD_FILE``); None: the embedded broker of ``home``.
        cache: where model weights are kept (``DEFSURVEY_CACHE``).
        models: the user's own model cards: ``DEFSURVEY_MODELS``, else ``models.toml`` in the working folder, else the
            one beside a study (see ``for_study``); None where there is none.
        synchronous: SQLite's promise at a power loss, ``full``, ``normal`` or ``off`` (``DEFSURVEY_SYNCHRONOUS``).
        lease_seconds: how long a claim holds without a heartbeat (``DEFSURVEY_LEASE_SECONDS``).
        hang_seconds: seconds without any completion after which a worker counts its engine as hung and ends
            (``DEFSURVEY_HANG_SECONDS``).
        visibility_timeout: seconds until the broker delivers an unacknowledged message again
            (``DEFSURVEY_VISIBILITY_TIMEOUT``).
    """

    home: Path
    database_url: str = field(repr=False)  # may hold a password
    broker_url: str | None = field(repr=False)
    cache: Path
    models: Path | None
    synchronous: str
    lease_seconds: float
    hang_seconds: float
    visibility_timeout: float

    def for_study(self, study: Path) -> Settings:
        """The same for a study file: beside it may lie the model cards that it names."""
        return self if self.models is not None else replace(self, models=own_cards(study.parent))

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
        """Make the folder ``home`` unless it is there.

        Raises:
            BadSetting: it is no folder, or cannot be made.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            got = "it is none" if self.home.exists() else error.strerror
            expected = "expected a folder that this account can write to"
            raise BadSetting(f"environment variable {_PREFIX}HOME: {expected}, got {self.home}: {got}") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``DEFSURVEY_*``.

        Raises:
            BadSetting: a variable is not known, its value is out of range, or a password file cannot be used.
        """
        _check_names(environment)
        home = _home(environment)
        named = environment.get(_PREFIX + "MODELS")
        models = _path("MODELS", named) if named else own_cards(Path())
        return cls(
            home=home,
            database_url=_with_password(environment, "DATABASE", environment.get(_PREFIX + "DATABASE_URL") or None)
            or f"sqlite:///{quote(str(home / 'defsurvey.db'))}",
            broker_url=_with_password(environment, "BROKER", _broker_url(environment)),
            cache=_path("CACHE", environment.get(_PREFIX + "CACHE") or str(home / "models")),
            models=models,
            synchronous=_synchronous(environment),
            lease_seconds=_seconds(environment, "LEASE_SECONDS", 90.0),
            hang_seconds=_seconds(environment, "HANG_SECONDS", 1800.0),
            visibility_timeout=_seconds(environment, "VISIBILITY_TIMEOUT", 3600.0),
        )


_NAMES = (
    "HOME",
    "DATABASE_URL",
    "DATABASE_PASSWORD_FILE",
    "BROKER_URL",
    "BROKER_PASSWORD_FILE",
    "CACHE",
    "MODELS",
    "SYNCHRONOUS",
    "LEASE_SECONDS",
    "HANG_SECONDS",
    "VISIBILITY_TIMEOUT",
)


def own_cards(folder: Path) -> Path | None:
    """The user's own model cards in a folder, or None."""
    file = folder / OWN_CARDS
    return file.absolute() if file.is_file() else None


def _check_names(environment: Mapping[str, str]) -> None:
    for name in environment:
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in _NAMES:
            near = nearest(name.removeprefix(_PREFIX), _NAMES, prefix=_PREFIX)
            known = ", ".join(_PREFIX + known for known in _NAMES)
            raise BadSetting(f"environment variable {name} is not known{near or f'; known are {known}'}")


def _home(environment: Mapping[str, str]) -> Path:
    home = _path("HOME", environment.get(_PREFIX + "HOME") or ".defsurvey")
    if not environment.get(_PREFIX + "HOME"):
        home = next((above for above in _above(home) if _is_ours(above)), home)
    try:
        str(home).encode()
    except UnicodeEncodeError:  # a file's name may be any bytes; these could be in no URL and in no database
        got = os.fsencode(home)
        raise BadSetting(f"environment variable {_PREFIX}HOME: expected a path in UTF-8, got {got!r}") from None
    return home


def _above(home: Path) -> list[Path]:
    """The folders of this name in the working folder and in those above it, the nearest first."""
    return [folder / home.name for folder in home.parents]


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder of this account: what another account left in /tmp, say, decides nothing here."""
    try:
        return folder.is_dir() and folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _path(name: str, text: str) -> Path:
    """A path from the root, where ``text`` begins in the working folder, or in a user's home by ``~``."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        told = f"expected a path, got {text!r}: there is no such user"
    except FileNotFoundError:
        told = f"expected a path from /, got {text!r}: the working folder is gone"
    raise BadSetting(f"environment variable {_PREFIX}{name}: {told}")


def _synchronous(environment: Mapping[str, str]) -> str:
    promise = environment.get(_PREFIX + "SYNCHRONOUS") or "normal"
    if promise not in SYNCHRONOUS:
        known = ", ".join(SYNCHRONOUS)
        raise BadSetting(f"environment variable {_PREFIX}SYNCHRONOUS: expected one of {known}, got {promise!r}")
    return promise


def _broker_url(environment: Mapping[str, str]) -> str | None:
    url = environment.get(_PREFIX + "BROKER_URL") or None
    if url is not None and url.partition("://")[0] not in BROKER_SCHEMES:
        # the URL may hold a password, so that no more than its scheme is repeated
        schemes = ", ".join(f"{scheme}://" for scheme in BROKER_SCHEMES)
        got = f"{url.partition('://')[0]}://" if "://" in url else "no scheme"
        raise BadSetting(f"environment variable {_PREFIX}BROKER_URL: expected a URL with {schemes}, got {got}")
    return url


def _with_password(environment: Mapping[str, str], what: str, url: str | None) -> str | None:
    """A URL with the password that lies in the file named for it, or the URL as it is where no file is named."""
    variable = f"{_PREFIX}{what}_PASSWORD_FILE"
    file = environment.get(variable)
    if not file:
        return url
    scheme, _, rest = (url or "").partition("://")
    user, at, host = urlsplit(url or "").netloc.rpartition("@")
    if not host or ":" in user:
        got = "one with a password" if ":" in user else "one without a host" if url else "none"
        raise BadSetting(
            f"environment variable {variable}: expected {_PREFIX}{what}_URL to name a host and no password, got {got}"
        )
    password = quote(_read_password(variable, Path(file)), safe="")
    return f"{scheme}://{user}:{password}@{rest.removeprefix(user + at)}"


def _read_password(variable: str, file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSetting(f"environment variable {variable}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadSetting(f"environment variable {variable}: expected text in {file}, got other bytes") from None
    if not password:
        raise BadSetting(f"environment variable {variable}: expected a password in {file}, got an empty file")
    return password


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(_PREFIX + name, "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (seconds > 0 and math.isfinite(seconds)):
        raise BadSetting(f"environment variable {_PREFIX}{name}: expected a positive number of seconds, got {text!r}")
    return seconds
