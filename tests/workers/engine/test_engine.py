"""The engine in front of the batch, and where it takes one request at a time: threads, ends, counters, defects."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding, Reply, UsedDecoding
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core.adoption import adopt
from defsurvey.workers.engines.transformers.core.answering import read_request
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import Draws
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.answer_parser import is_settled, read
from tests.end_to_end.machine import wait_until
from tests.workers.citizens import FAMILY
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.tiny_models import decode
from tests.workers.tiny import WINDOW, write_tiny_model

CHOICES = ("1", "2")
LONG = Decoding(max_new_tokens=200)
#: Nothing in these tests takes so many seconds.
PATIENCE = 30
#: Seconds within which whoever waits for a cancelled reply is told.
SOON = 5


def _request(number: int, decoding: Decoding | None = None, *choices: str) -> Request:
    chosen = decoding or Decoding(max_new_tokens=12, num_beams=1 + number % 4, do_sample=number % 3 == 0)
    asked = (Message(role="user", content=f"Question {number}?"),)
    return Request(messages=asked, decoding=chosen, seed=number, choices=choices)


def _tokens(count: int) -> Decoding:
    return Decoding(max_new_tokens=count)


def test_replies_are_the_same_however_a_model_is_served(
    engine: TransformersEngine, tiny_card: ModelCard, tiny_loaded: LoadedModel
) -> None:
    requests = [_request(number) for number in range(12)]
    replies = [future.result(PATIENCE) for future in [engine.submit(request) for request in requests]]
    batching = engine.describe()["batching"]
    engine.close()
    counted = engine.counters()
    assert replies == [_batched(tiny_card, tiny_loaded, request) for request in requests]
    assert counted.finished == 12
    assert counted.reply_tokens == sum(one.completion_tokens or 0 for one in replies)
    assert counted.prefilled_tokens + counted.reused_tokens == sum(one.prompt_tokens or 0 for one in replies)
    assert min(counted.seconds[phase] for phase in ("admit", "forward", "deliver")) > 0
    assert counted.kv_bytes == 0
    if batching == "continuous":
        assert counted.rows_per_step > 2
        assert counted.peak_kv_bytes > 0
    else:
        assert batching == "one request at a time: it is said so in this test"
        assert counted.steps == 0


def _batched(card: ModelCard, loaded: LoadedModel, request: Request) -> Completion:
    asked = read_request(card, loaded, request)
    assert not isinstance(asked, Completion)
    runner = TorchRunner(loaded.model, adopt(loaded.model), 1 << 23)
    decoder = Decoder(runner, Limits(), Draws.LIBRARY)
    tokens = decode(decoder, [asked.resolved])[0].tokens
    decoder.close()
    assert tokens is not None
    return asked.completion(loaded, tokens, ())


def test_a_reply_without_beams_ends_where_the_rest_says_nothing_new(served: Callable[..., TransformersEngine]) -> None:
    engine = served(answer_prefix=True)
    shown = FAMILY.codes
    enough = partial(is_settled, question=FAMILY, shown=shown, reply=Reply.ANSWER)
    asked = [
        Request(
            messages=(Message(role="user", content="?"),),
            decoding=Decoding(max_new_tokens=210, do_sample=sampled, num_beams=beams),
            seed=seed,
            reply_start="Answer: 2. ",
        )
        for seed, (sampled, beams) in enumerate([(False, 1), *[(True, 1)] * 2, (True, 2)])
    ]
    whole = [engine.submit(request).result() for request in asked]
    cut = [future.result() for future in [engine.submit(replace(request, enough=enough)) for request in asked]]
    shorter = 0
    for request, one, other in zip(asked, whole, cut, strict=True):
        assert one.text.startswith(other.text)
        full, short = (
            read(text, FinishReason.STOP, FAMILY, shown, "en", Reply.ANSWER) for text in (one.text, other.text)
        )
        assert full == short
        assert full.choices == (2,)
        if other.finish is FinishReason.ENOUGH:
            assert request.decoding.num_beams == 1
            assert (other.completion_tokens or 0) < (one.completion_tokens or 0)
            shorter += 1
        else:
            assert one == other
    assert shorter


def test_submitting_waits_while_the_backlog_is_full(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    engine = opening.serve(tiny_card, opening.in_memory(tiny_loaded), threads=1, backlog=2)
    first, second = engine.submit(_request(1)), engine.submit(_request(2))
    third = engine.submit(_request(3))
    assert first.done() or second.done()
    engine.submit(_request(4, LONG))
    third.result()
    engine.submit(_request(5, LONG))
    refused: list[str] = []

    def ask() -> None:
        try:
            engine.submit(_request(6))
        except EngineUnavailable as error:
            refused.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.02)
    engine.close()
    waiting.join(PATIENCE)
    # Either it got in, because a reply was there sooner, and was cancelled; or it was told.
    assert not waiting.is_alive()
    assert refused in ([], ["model tiny: its engine is closed"])


@pytest.mark.parametrize("where", ["core.engine.read_request", "core.answering.Question.completion", "enough"])
def test_a_defect_around_a_reply_reaches_who_asked(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    request = _request(4, LONG)
    with monkeypatch.context() as patched:
        if where == "enough":
            request = replace(request, enough=lambda _: {}["absent"])
        else:
            patched.setattr(f"defsurvey.workers.engines.transformers.{where}", lambda *_: {}["absent"])
        with pytest.raises(KeyError, match="absent"):
            engine.submit(request).result(PATIENCE)
    assert engine.submit(_request(1)).result(PATIENCE).finish is FinishReason.LENGTH


class Forwards:
    """Counts a model's forwards, and does something in the middle of one of them."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        #: By the number of a forward, from 1 on.
        self.during: dict[int, Callable[[], object]] = {}
        self._forward = model.forward
        monkeypatch.setattr(model, "forward", self._counted)

    def _counted(self, *arguments: Any, **settings: Any) -> Any:
        self.count += 1
        self.during.get(self.count, lambda: None)()
        return self._forward(*arguments, **settings)


@pytest.fixture
def forwards(engine: TransformersEngine, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Forwards:
    return Forwards(tiny_loaded.model, monkeypatch)


def _closing(engine: TransformersEngine) -> threading.Thread:
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: engine.closed, "an engine that closes")
    return closing


@pytest.mark.parametrize("behind", [True, False], ids=["somebody comes behind", "nobody does"])
def test_who_is_cancelled_before_its_turn_costs_no_forward_and_is_told(
    engine: TransformersEngine, forwards: Forwards, behind: bool
) -> None:
    under_way, cancelled = threading.Event(), threading.Event()
    forwards.during[1] = lambda: (under_way.set(), cancelled.wait(PATIENCE))
    first = engine.submit(_request(0, _tokens(1)))
    assert under_way.wait(PATIENCE)
    waiting = [engine.submit(_request(number, _tokens(50), *asked)) for number in (1, 2) for asked in ((), CHOICES)]
    assert all(future.cancel() for future in waiting)
    last = [engine.submit(_request(9, _tokens(1)))] if behind else []
    cancelled.set()
    assert not wait([first, *waiting, *last], SOON).not_done
    assert forwards.count == engine.counters().finished == 1 + len(last)


def test_a_reply_that_is_cancelled_under_way_ends_at_its_next_token(
    engine: TransformersEngine, forwards: Forwards
) -> None:
    known = threading.Event()
    forwards.during = {1: lambda: known.wait(PATIENCE), 3: lambda: long.cancel()}
    long = engine.submit(_request(1, LONG))
    known.set()
    assert wait([long], SOON).done
    with pytest.raises(CancelledError):
        long.result(0)
    assert engine.submit(_request(2, _tokens(1))).result(PATIENCE).completion_tokens == 1
    assert forwards.count == 4
    counters = engine.counters()
    assert (counters.finished, counters.reply_tokens) == (1, 1)


def test_closing_tells_whoever_waits(engine: TransformersEngine, forwards: Forwards) -> None:
    all_asked, closing = threading.Event(), list[threading.Thread]()
    forwards.during[1] = lambda: (all_asked.wait(PATIENCE), closing.append(_closing(engine)))
    futures = [engine.submit(_request(number, LONG)) for number in range(4)]
    assert futures[2].cancel()
    all_asked.set()
    assert not wait(futures, SOON).not_done
    closing[0].join(PATIENCE)
    assert all(future.cancelled() for future in futures)
    assert forwards.count == 1
    engine.close()
    with pytest.raises(EngineUnavailable, match="model tiny: its engine is closed"):
        engine.submit(_request(0))


# The transformers engine against ``model.generate`` itself: tiny random weights, then the real small model.


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


def _question(
    text: str = "How are you?", decoding: Decoding = DECODINGS[0], *, seed: int = 11, start: str = ""
) -> Request:
    return Request(messages=(Message(role="user", content=text),), decoding=decoding, seed=seed, reply_start=start)


def _generate(loaded: LoadedModel, prompt: str, decoding: Decoding, seed: int) -> str:
    """What the library itself makes of a rendered prompt."""
    sampling = Sampling(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
    asked = ResolvedRequest(
        prompt=tuple(_ids(loaded, prompt)),
        num_beams=decoding.num_beams,
        sampling=sampling if decoding.do_sample else None,
        max_new_tokens=decoding.max_new_tokens,
        ends=loaded.ends,
        seed=seed,
    )
    return str(loaded.tokenizer.decode(generated(loaded.model, asked), skip_special_tokens=True))


def _ids(loaded: LoadedModel, text: str) -> list[int]:
    tokens: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("seed", [0, 2**62 + 5])
def test_a_reply_is_what_generate_gives(
    tiny_engine: TransformersEngine, tiny_loaded: LoadedModel, decoding: Decoding, seed: int
) -> None:
    completion = tiny_engine.submit(_question(decoding=decoding, seed=seed)).result()
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


def test_a_tokenizer_without_template_needs_a_named_one(tmp_path: Path) -> None:
    card = ModelCard(name="base", path=write_tiny_model(tmp_path, chat_template=None))
    engine = opening.open_transformers(card, device="cpu", cache=tmp_path, threads=1)
    completion = engine.submit(_question()).result()
    engine.close()
    assert completion.finish is FinishReason.ERROR
    assert "must name one in chat_template" in completion.error


def test_published_generation_defaults_do_not_apply(tmp_path: Path, tiny_loaded: LoadedModel) -> None:
    folder = write_tiny_model(tmp_path, repetition_penalty=1.7, top_k=2, do_sample=True, temperature=0.3)
    card = ModelCard(name="opinionated", path=folder, dtype="float32")
    engine = opening.open_transformers(card, device="cpu", cache=tmp_path, threads=1)
    prompt = "[user] How are you?\n[assistant] "
    for decoding in DECODINGS:
        text = engine.submit(_question(decoding=decoding)).result().text
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
    completion = tiny_engine.submit(_question(decoding=decoding)).result()
    assert completion.finish is FinishReason.ERROR
    assert message in completion.error


def test_a_prompt_beyond_the_window_is_an_error_that_names_both_numbers(tiny_engine: TransformersEngine) -> None:
    frame = len("[user] \n[assistant] ")
    decoding = Decoding(max_new_tokens=16)
    fits = tiny_engine.submit(_question("x" * (WINDOW - 16 - frame), decoding)).result()
    assert fits.finish is not FinishReason.ERROR
    assert fits.prompt_tokens == WINDOW - 16
    over = tiny_engine.submit(_question("x" * (WINDOW - 16 - frame + 1), decoding)).result()
    assert over.finish is FinishReason.ERROR
    assert over.text == ""
    assert "the prompt has 241 tokens, and model tiny has room for 240" in over.error


def test_stop_and_length_are_told_apart(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    long = opening.serve(tiny_card, opening.in_memory(tiny_loaded))
    full = long.submit(_question()).result()
    assert (full.finish, full.completion_tokens) == (FinishReason.LENGTH, 16)
    long.close()
    tokens = _ids(tiny_loaded, full.text)  # the text holds each token as one character
    assert len(tokens) == 16
    fifth = tokens[4]
    short = opening.serve(tiny_card, opening.in_memory(replace(tiny_loaded, ends=(fifth,))))
    stopped = short.submit(_question()).result()
    short.close()
    assert stopped.finish is FinishReason.STOP
    assert stopped.completion_tokens == tokens.index(fifth) + 1


def test_closing_gives_the_memory_back(tiny_card: ModelCard, tmp_path: Path) -> None:
    loaded = load_model(tiny_card, find_weights(tiny_card, tmp_path), device="cpu")
    model = weakref.ref(loaded.model)
    engine = opening.serve(tiny_card, opening.in_memory(loaded))
    engine.submit(_question()).result()
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
        opening.open_transformers(tiny_card, device=device, cache=tmp_path, threads=None)


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
    completion = smollm_engine.submit(_question(WVS, decoding, seed=3, start="Answer: ")).result()
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
