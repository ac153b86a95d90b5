"""What models need of this machine: a device, 4-bit kernels, weights that may be fetched, keys."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from defsurvey.jobs.finding import BAD, NOTE, OK, Finding
from defsurvey.jobs.settings import Settings
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.device import nvidia_gpus
from defsurvey.workers.engines.keys import find_key, key_name
from defsurvey.workers.models import ModelCard, ModelError, read_cards

#: Models asked for at the hub at once.
_HUB_QUESTIONS = 8


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding about models, as soon as it is there."""
    yield _libraries()
    torch = _torch()
    yield gpu(driver=nvidia_gpus(), torch=torch)
    yield four_bits(usable=bool(torch[1]))
    try:
        cards = read_cards(settings.models)
    except ModelError as error:
        yield Finding(name="model cards", state=BAD, said=str(error), remedy="mend the file, or unset DEFSURVEY_MODELS")
        return
    yield gated(cards, *_hub())
    yield from keys(cards)


def _libraries() -> Finding:
    missing = [package for package in ("torch", "transformers") if find_spec(package) is None]
    if missing:
        said = f"{' and '.join(missing)} not installed"
        return Finding(name="libraries", state=BAD, said=said, remedy=f"pip install {' '.join(missing)}")
    return Finding(name="libraries", state=OK, said=f"torch {version('torch')}, transformers {version('transformers')}")


def _torch() -> tuple[str | None, list[str]]:
    """The version of CUDA that torch was built for, or None, and the names of the GPUs it can use."""
    if find_spec("torch") is None:
        return None, []
    import torch

    if not torch.cuda.is_available():
        return torch.version.cuda, []
    return torch.version.cuda, [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def gpu(*, driver: list[str], torch: tuple[str | None, list[str]]) -> Finding:
    """What the driver and torch say of GPUs, held against each other.

    Args:
        driver: a line for each GPU that the driver knows.
        torch: the version of CUDA that torch was built for, and the GPUs it can use.
    """
    built_for, usable = torch
    if usable:
        seen = "; ".join(driver) or ", ".join(usable)
        return Finding(
            name="GPU", state=OK, said=f"{len(usable)} usable (CUDA {built_for}): {seen}; --device auto is cuda:0"
        )
    if not driver:
        return Finding(name="GPU", state=OK, said="none: --device auto is the CPU")
    said = f"{'; '.join(driver)}; torch cannot use it: --device auto is the CPU"
    if built_for is None:
        remedy = "install torch's CUDA build: this one is for CPUs only"
        return Finding(name="GPU", state=NOTE, said=f"{said} (CPU build)", remedy=remedy)
    remedy = f"update the driver to one for CUDA {built_for}; in a container, see that it is given the GPU"
    return Finding(name="GPU", state=NOTE, said=f"{said} (CUDA {built_for})", remedy=remedy)


def four_bits(*, usable: bool) -> Finding:
    """Whether models can be loaded in 4 bits, which takes a GPU.

    Args:
        usable: whether torch has one.
    """
    name, for_whom = "bitsandbytes", "models whose cards say 4 bits cannot be loaded"
    try:
        found = version("bitsandbytes")
        if not usable:
            remedy = "a GPU, or a smaller model"
            return Finding(name=name, state=NOTE, said=f"{found}, and no GPU: {for_whom}", remedy=remedy)
        # It warns of kernels for a CPU that it lacks and we do not use.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        import bitsandbytes  # noqa: F401  # whether its compiled part loads shows only here
    except PackageNotFoundError:
        return Finding(name=name, state=NOTE, said=f"not installed; {for_whom}", remedy="pip install bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        why = " ".join(str(error).split())
        return Finding(name=name, state=NOTE, said=f"{found} does not load: {why}; {for_whom}", remedy="reinstall it")
    return Finding(name=name, state=OK, said=f"{found}, for models in 4 bits")


def _hub(endpoint: str | None = None) -> tuple[bool, Callable[[str], str]]:
    """Whether there is a token for the hub, and a function that asks whether a repository may be read.

    The function returns ``""`` where it may, ``gated`` where an agreement is missing, ``absent`` where there is no
    such repository for us, and ``silent`` where the hub does not answer.

    Args:
        endpoint: the hub's address; None: the usual one.
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
    """Whether the models of the cards may be fetched from the hub, agreements and all.

    Args:
        cards: the model cards.
        token: whether there is a token for the hub.
        ask: see ``_hub``.
    """
    name, said = "model hub", "token found" if token else "no token"
    asked = {card.name: card.hub for card in cards.values() if card.hub is not None and card.path is None}
    with ThreadPoolExecutor(_HUB_QUESTIONS) as pool:
        answers = dict(zip(asked, pool.map(ask, asked.values()), strict=True))
    if "silent" in answers.values():
        said = f"{said}; the hub does not answer: only models in the cache or in a package can be served"
        return Finding(name=name, state=NOTE, said=said, remedy="let this machine reach the hub, or copy the cache")
    closed = [model for model, answer in answers.items() if answer == "gated"]
    absent = [model for model, answer in answers.items() if answer == "absent"]
    if not closed and not absent:
        return Finding(name=name, state=OK, said=f"{said}; all {len(asked)} models may be fetched")
    parts = [f"not yet agreed to: {', '.join(closed)}"] * bool(closed)
    parts += [f"not to be found: {', '.join(absent)}"] * bool(absent)
    remedies = [f"agree at huggingface.co/{asked[closed[0]]} and set HF_TOKEN"] if closed else []
    remedies += ["correct `hub` in a card of your own"] * bool(absent)
    return Finding(name=name, state=NOTE, said=f"{said}; {'; '.join(parts)}", remedy="; ".join(remedies))


def keys(cards: Mapping[str, ModelCard]) -> Iterator[Finding]:
    """Whether there is a key for each server that a card asks with one; a line for each key."""
    wanted: dict[str, ModelCard] = {}
    for card in cards.values():
        if card.api is not None and not card.retired and (name := key_name(card)) is not None:
            wanted.setdefault(name, card)
    for name, card in wanted.items():
        try:
            find_key(card)
        except EngineUnavailable as error:
            yield Finding(name="key", state=NOTE, said=f"{name} missing", remedy=str(error).partition(": ")[2])
        else:
            yield Finding(name="key", state=OK, said=f"{name} present")
