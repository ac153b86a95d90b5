"""Where the key of a provider comes from, and how it is kept out of everything that is written down."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from defsurvey.storage.files import path_under
from defsurvey.storage.text import storable, visible
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.models import ModelCard

#: Folder into which containers are given secrets; the file of ``OPENAI_API_KEY`` is ``openai-api-key``.
SECRETS = Path("/run/secrets")
#: What a key looks like, whoever made it: nothing like it is ever repeated.
_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}|(?i:\bbearer)\s+\S{8,}|\beyJ[\w-]{10,}[\w.-]*"
)
_MOST_REPEATED = 500
_SHORTEST_KEY = 12


def find_key(
    card: ModelCard, *, environment: Mapping[str, str] | None = None, secrets: Path | None = None
) -> str | None:
    """The key for a model's server, of the environment or else of a secret file, None where it is asked without one.

    Raises EngineUnavailable where there is none.
    """
    name = key_name(card)
    if name is None:
        return None
    environment = os.environ if environment is None else environment
    key = environment.get(name, "").strip()
    if key:
        return _checked(key, card, f"environment variable {name}")
    file = path_under(secrets or SECRETS, name.lower().replace("_", "-"))
    try:
        key = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise EngineUnavailable(f"model {card.name}: there is no key: set {name}, or put it into {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise EngineUnavailable(f"model {card.name}: the key's file {file} cannot be read: {reason}") from None
    return _checked(key, card, f"file {file}")


def missing_key(card: ModelCard) -> str:
    """Why a model cannot be asked from here for want of a key; empty where it can."""
    try:
        find_key(card)
    except EngineUnavailable as error:
        return str(error)
    return ""


def key_name(card: ModelCard) -> str | None:
    """The environment variable that holds the key of a model's server; None where it is asked without one."""
    return card.key or (card.capabilities.usual_key if card.base_url is None else "") or None


def _checked(key: str, card: ModelCard, where: str) -> str:
    """Keys travel in a header, and an error about a header that cannot be sent would show it."""
    if not re.fullmatch(r"[!-~]+", key):
        raise EngineUnavailable(f"model {card.name}: {where}: expected a key, one line of visible ASCII characters")
    return key


def without_key(text: str, key: str | None) -> str:
    """A reply without the key with which it was asked for, which a server may echo; a short one is a placeholder."""
    return text.replace(key, "[key]") if key and len(key) >= _SHORTEST_KEY else text


def redacted(text: str, key: str | None) -> str:
    """A provider's words in one line of 500 characters at most, without anything that looks like a key."""
    text = " ".join(storable(text).split())
    if key:
        text = text.replace(key, "[key]")
    return _cut(visible(_cut(_LIKE_A_KEY.sub("[key]", text))))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_REPEATED else text[: _MOST_REPEATED - 3] + "..."
