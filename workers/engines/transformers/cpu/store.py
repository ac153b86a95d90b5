"""Keeps converted graphs on disk, so that a second start neither reads a model's weights into torch nor converts them.

A graph lies in a folder of its own with what the caller wants to know of the model without loading it: facts, as JSON,
and arrays, reference logits for instance. The folder's name ends in a digest of all that the graph depends on. It is
written elsewhere and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from filelock import FileLock

from defsurvey.workers.engines.transformers.cpu.library import ov

_GRAPH, _FACTS, _ARRAYS = "graph.xml", "facts.json", "arrays.npz"
#: Whose versions decide what a graph looks like.
_PACKAGES = ("openvino", "torch", "transformers", "nncf")
_UNFINISHED = "unfinished-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A graph and the facts of its model."""

    graph: Any  #: an ``ov.Model``
    place: Path | None = None  #: the folder where it lies; None: nowhere yet
    facts: Mapping[str, Any] = field(default_factory=dict)  #: anything that JSON holds
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def kept(folder: Path, name: str, kind: str, weights: Mapping[str, str], make: Callable[[], Kept]) -> Kept:
    """A graph as it lies on disk, made and written there where it is not yet.

    Safe to call from several processes at once: one makes it, the others wait for it. Its weights are mapped into
    memory, not read. An older graph of the same name and kind is removed.

    Args:
        folder: Where graphs are kept; made where it is missing.
        name: The model card's name.
        kind: Precision and quantisation in words: ``bfloat16``, ``float32-int8``.
        weights: What identifies the weights, such as repository and revision.
        make: Loads the model and converts it; whatever it raises is raised, and nothing is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beginning = re.sub(r"[^\w.-]+", "_", f"{name}-{kind}-")
    place = folder / f"{beginning}{_digest(name, kind, weights)}"
    with FileLock(folder / f"{beginning}lock"):
        if not place.exists():
            _write(make(), place)
            _remove_older(place, beginning)
        return _read(place)


def let_go(place: Path) -> None:
    """Give back the memory into which a kept graph's weights are mapped, once a compiler has its own copies of them.

    What is wanted all the same is read from disk again.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    maps = Path("/proc/self/maps")
    if advise is None or not maps.exists():
        return
    for line in maps.read_text(encoding="utf-8").splitlines():
        if line.endswith(str(place.resolve() / _GRAPH.replace(".xml", ".bin"))):
            start, stop = (int(address, 16) for address in line.split()[0].split("-"))
            advise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _digest(name: str, kind: str, weights: Mapping[str, str]) -> str:
    """Of everything that decides what a graph is: weights, versions, and the code of this folder that makes it."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    decides = {
        "name": name,
        "kind": kind,
        "weights": dict(weights),
        "versions": {package: _version(package) for package in _PACKAGES},
        "code": {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sources},
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _write(made: Kept, place: Path) -> None:
    with _unfinished(place) as folder:
        ov.save_model(made.graph, folder / _GRAPH, compress_to_fp16=False)
        (folder / _FACTS).write_text(json.dumps(dict(made.facts)), encoding="utf-8")
        np.savez(folder / _ARRAYS, **made.arrays)  # type: ignore[arg-type] # its own keyword is allow_pickle
        folder.rename(place)


@contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A folder beside the place that is gone afterwards, unless it was renamed."""
    folder = Path(mkdtemp(prefix=f"{_UNFINISHED}{place.name}-", dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(place: Path) -> Kept:
    with np.load(place / _ARRAYS) as arrays:
        return Kept(
            graph=ov.Core().read_model(place / _GRAPH),
            place=place,
            facts=json.loads((place / _FACTS).read_text(encoding="utf-8")),
            arrays=dict(arrays),
        )


def _remove_older(place: Path, beginning: str) -> None:
    """Remove graphs of the same name and kind, and what processes that were killed have left of such."""
    whole = re.compile(rf"(?:{_UNFINISHED})?{re.escape(beginning)}[0-9a-f]{{16}}(?:-\w+)?")
    for each in place.parent.iterdir():
        if each != place and each.is_dir() and whole.fullmatch(each.name):
            shutil.rmtree(each, ignore_errors=True)  # a process that has it open keeps what it has mapped
