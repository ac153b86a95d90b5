"""The transformers engine against ``model.generate`` itself: tiny random weights, then the real small model."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.storage.runs.run import Decoding, UsedDecoding
from defsurvey.workers.engines.base import EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers.engine import TransformersEngine, open_transformers
from defsurvey.workers.engines.transformers.kv import OutOfRoom
from defsurvey.workers.engines.transformers.loading import LoadedModel, load_model
from defsurvey.workers.engines.transformers.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import ModelCard
from tests.workers.engine.scripted_logits import generated
from tests.workers.tiny import WINDOW, write_tiny_model

#: Greedy search, beam search, sampling, beam sampling; the last two with every setting moved.
DECODINGS = [
    Decoding(max_new_tokens=16),
    Decoding(max_new_tokens=16, num_beams=3),
    Decoding(max_new_tokens=16, do_sample=True),
    Decoding(max_new_tokens=16, do_sample=True, temperature=0.7, top_p=0.8),
    Decoding(max_new_tokens=16, num_beams=4, do_sample=True),
    Decoding(max_new_tokens=16, num_beams=3, do_sample=True, temperature=0.9, top_p=0.95),
    Decoding(max_new_tokens=16, do_sample=True, temperature=5.0, top_k=50),
    Decoding(max_new_tokens=16, num_beams=4, do_sample=True, temperature=5.0, top_k=5),
]


def _request(
    text: str = "How are you?", decoding: Decoding = DECODINGS[0], *, seed: int = 11, start: str = ""
) -> Request:
    return Request(messages=(Message(role="user", content=text),), decoding=decoding, seed=seed, reply_start=start)


def _generate(loaded: LoadedModel, prompt: str, decoding: Decoding, seed: int) -> str:
    """What the library itself makes of a rendered prompt."""
    sampling = Sampling(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
    asked = ResolvedRequest(
        prompt=tuple(_tokens(loaded, prompt)),
        num_beams=decoding.num_beams,
        sampling=sampling if decoding.do_sample else None,
        max_new_tokens=decoding.max_new_tokens,
        ends=loaded.ends,
        seed=seed,
    )
    return str(loaded.tokenizer.decode(generated(loaded.model, asked), skip_special_tokens=True))


def _tokens(loaded: LoadedModel, text: str) -> list[int]:
    tokens: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("seed", [0, 2**62 + 5])
def test_a_reply_is_what_generate_gives(
    tiny_engine: TransformersEngine, tiny_loaded: LoadedModel, decoding: Decoding, seed: int
) -> None:
    completion = tiny_engine.submit(_request(decoding=decoding, seed=seed)).result()
    prompt = "[user] How are you?\n[assistant] "
    assert completion.text == _generate(tiny_loaded, prompt, decoding, seed)
    assert completion.prompt_tokens == len(prompt)  # one token per character
    assert completion.used == UsedDecoding(
        num_beams=decoding.num_beams,
        do_sample=decoding.do_sample,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        top_k=decoding.top_k,
        max_new_tokens=16,
    )


def test_many_threads_get_their_own_replies(tiny_engine: TransformersEngine) -> None:
    requests = [_request(f"Question {number}", DECODINGS[number % len(DECODINGS)], seed=number) for number in range(32)]
    alone = [tiny_engine.submit(request).result() for request in requests]
    gate = threading.Barrier(32)

    def ask(request: Request) -> str:
        gate.wait()
        return tiny_engine.submit(request).result(timeout=60).text

    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, reversed(requests)))
    assert together == [completion.text for completion in reversed(alone)]


def test_a_tokenizer_without_template_needs_a_named_one(tmp_path: Path) -> None:
    card = ModelCard(name="base", path=write_tiny_model(tmp_path, chat_template=None))
    engine = open_transformers(card, device="cpu", cache=tmp_path, threads=1)
    completion = engine.submit(_request()).result()
    engine.close()
    assert completion.finish is FinishReason.ERROR
    assert "must name one in chat_template" in completion.error


def test_a_device_without_room_for_keys_and_values_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutOfRoom("CUDA out of memory")

    monkeypatch.setattr("defsurvey.workers.engines.transformers.decoder.store_for", full)
    card = ModelCard(name="large", path=write_tiny_model(tmp_path))
    with pytest.raises(EngineUnavailable, match=r"model large: cpu has no room for keys and values: CUDA out of"):
        open_transformers(card, device="cpu", cache=tmp_path, threads=1)


def test_published_generation_defaults_do_not_apply(tmp_path: Path, tiny_loaded: LoadedModel) -> None:
    folder = write_tiny_model(tmp_path, repetition_penalty=1.7, top_k=2, do_sample=True, temperature=0.3)
    card = ModelCard(name="opinionated", path=folder, dtype="float32")
    engine = open_transformers(card, device="cpu", cache=tmp_path, threads=1)
    prompt = "[user] How are you?\n[assistant] "
    for decoding in DECODINGS:
        text = engine.submit(_request(decoding=decoding)).result().text
        assert text == _generate(tiny_loaded, prompt, decoding, 11)
    dropped = engine.describe()["generation_defaults_dropped"]
    engine.close()
    assert dropped == "do_sample=True, repetition_penalty=1.7, temperature=0.3, top_k=2"


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        (Decoding(do_sample=True, temperature=0.0), "temperature: expected above 0, got 0.0"),
        (Decoding(top_p=1.5), "top_p: expected above 0 and at most 1, got 1.5"),
        (Decoding(max_new_tokens=0), "max_new_tokens: expected at least 1, got 0"),
    ],
)
def test_decoding_out_of_range_is_an_error_completion(
    tiny_engine: TransformersEngine, decoding: Decoding, message: str
) -> None:
    completion = tiny_engine.submit(_request(decoding=decoding)).result()
    assert completion.finish is FinishReason.ERROR
    assert message in completion.error


def test_a_prompt_beyond_the_window_is_an_error_that_names_both_numbers(tiny_engine: TransformersEngine) -> None:
    frame = len("[user] \n[assistant] ")
    decoding = Decoding(max_new_tokens=16)
    fits = tiny_engine.submit(_request("x" * (WINDOW - 16 - frame), decoding)).result()
    assert fits.finish is not FinishReason.ERROR
    assert fits.prompt_tokens == WINDOW - 16
    over = tiny_engine.submit(_request("x" * (WINDOW - 16 - frame + 1), decoding)).result()
    assert over.finish is FinishReason.ERROR
    assert over.text == ""
    assert "the prompt has 241 tokens, and model tiny has room for 240" in over.error


def test_stop_and_length_are_told_apart(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    long = TransformersEngine(tiny_card, tiny_loaded)
    full = long.submit(_request()).result()
    assert (full.finish, full.completion_tokens) == (FinishReason.LENGTH, 16)
    long.close()
    tokens = _tokens(tiny_loaded, full.text)  # the text holds each token as one character
    assert len(tokens) == 16
    fifth = tokens[4]
    short = TransformersEngine(tiny_card, replace(tiny_loaded, ends=(fifth,)))
    stopped = short.submit(_request()).result()
    short.close()
    assert stopped.finish is FinishReason.STOP
    assert stopped.completion_tokens == tokens.index(fifth) + 1


def test_closing_gives_the_memory_back(tiny_card: ModelCard, tmp_path: Path) -> None:
    loaded = load_model(tiny_card, find_weights(tiny_card, tmp_path), device="cpu")
    model = weakref.ref(loaded.model)
    engine = TransformersEngine(tiny_card, loaded)
    engine.submit(_request()).result()
    del loaded
    engine.close()
    gc.collect()
    assert model() is None
    assert engine.describe()["dtype"] == "float32"


def test_how_replies_begin_and_end_is_described(tiny_card: ModelCard, tmp_path: Path) -> None:
    weights = find_weights(tiny_card, tmp_path)
    plain = load_model(tiny_card, weights, device="cpu")
    assert (plain.description["answer_prefix"], plain.description["ends"]) == ("false", "as published")
    ends = tuple(plain.tokenizer.convert_ids_to_tokens([6, 5]))
    told = load_model(
        tiny_card.model_copy(update={"answer_prefix": True, "ends": ends}), weights, device="cpu"
    ).description
    assert (told["answer_prefix"], told["ends"]) == ("true", " ".join(sorted(ends)))


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_unavailable(tiny_card: ModelCard, tmp_path: Path, device: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"model tiny: cannot be loaded from .* to {device}"):
        open_transformers(tiny_card, device=device, cache=tmp_path, threads=None)


# --- the real small model ---

WVS = """I want you to act as a citizen from United States, living in Ohio.
You should obtain an answer from 4 choices.
You should tell me the answer in the format 'Answer:' and explain afterward using 'Explanation:'.
Request: How important is family in your life?
1: Very important
2: Rather important
3: Not very important
4: Not at all important"""


@pytest.mark.parametrize("decoding", DECODINGS[1:8:3])
def test_the_small_model_replies_as_generate_does(
    smollm_engine: TransformersEngine, smollm_loaded: LoadedModel, decoding: Decoding
) -> None:
    decoding = replace(decoding, max_new_tokens=8)
    completion = smollm_engine.submit(_request(WVS, decoding, seed=3, start="Answer: ")).result()
    prompt = smollm_loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": WVS}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>assistant\n")
    assert completion.text == "Answer: " + _generate(smollm_loaded, prompt + "Answer: ", decoding, 3)


def test_the_small_model_says_what_it_is(smollm_engine: TransformersEngine, smollm_card: ModelCard) -> None:
    description = smollm_engine.describe()
    assert smollm_card.fallback is not None
    assert description.get("revision", description.get("weights_sha256")) in {
        smollm_card.revision,
        smollm_card.fallback.sha256,
    }
    assert description["dtype"] == "float32"
    assert description["quantisation"] == "none"
    assert "published_in" not in description  # a GGUF file is unpacked
    stored = {name: description.get(name, "") for name in ("weights_format", "weights_type")}
    assert stored in (
        {"weights_format": "GGUF", "weights_type": "Q4_1"},
        {"weights_format": "safetensors", "weights_type": ""},
    )
