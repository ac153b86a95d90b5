"""One resident model, asked by any number of threads.

Knows the queue in front of the model and that one thread owns it. Deliberately leaves loading, prompts and
decoding to the modules beside it: what is here is only in which order requests meet the model. They are
served one at a time, in order of arrival.
"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from storage.run import EngineDescription, UsedDecoding
from workers.engines.base import Completion, EngineUnavailable, FinishReason, Request
from workers.engines.transformers.decoding import generation_settings, resolve_decoding
from workers.engines.transformers.loading import LoadedModel, load_model
from workers.engines.transformers.prompt import encode_prompt, render_prompt
from workers.engines.transformers.weights import find_weights
from workers.models import ModelCard

#: Torch has one random generator per process: between its seeding and the end of a generation nobody else may draw.
_DRAWING = threading.Lock()


def open_transformers(card: ModelCard, *, device: str, cache: Path, threads: int | None) -> TransformersEngine:
    """Find, load and start a model; raises EngineUnavailable (see ``workers.engines.opening``)."""
    loaded = load_model(card, find_weights(card, cache), device=device)
    return TransformersEngine(card, loaded, threads=threads)


class TransformersEngine:
    """Serves one loaded model. ``submit`` is safe to call from any thread.

    On the CPU in float32 a reply depends on the request alone: not on what was asked before, nor by how many threads.
    """

    def __init__(self, card: ModelCard, loaded: LoadedModel, *, threads: int | None = None) -> None:
        self._card = card
        self._threads = threads
        self._description = {
            **loaded.description,
            "threads": str(threads or "library default"),
            "generation_defaults_dropped": loaded.dropped,
            "decoding": "as each answer says; top_k, typical_p, penalties and minimum length switched off",
        }
        self._queue: SimpleQueue[tuple[Request, Future[Completion]] | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._runner = threading.Thread(target=self._run, args=(loaded,), name=f"model {card.name}", daemon=True)
        self._runner.start()

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request; raises EngineUnavailable after ``close``."""
        future: Future[Completion] = Future()
        with self._closing:
            if self._closed:
                raise EngineUnavailable(f"model {self._card.name}: its engine is closed")
            self._queue.put((request, future))
        return future

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def describe(self) -> EngineDescription:
        """Weights and their hash or commit, number format, device, threads, library versions, decoding."""
        return self._description

    def close(self) -> None:
        """Cancel what is queued, wait for the reply under way, give the memory back."""
        with self._closing:
            already, self._closed = self._closed, True
        if already:
            return
        self._queue.put(None)
        self._runner.join()
        gc.collect()
        _free_device_memory()

    def _run(self, loaded: LoadedModel) -> None:
        import torch

        if self._threads is not None:
            # The setting belongs to the thread that computes, so it is made here.
            torch.set_num_threads(self._threads)
        while (entry := self._queue.get()) is not None:
            request, future = entry
            if self._closed:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                try:
                    future.set_result(complete(self._card, loaded, request))
                except Exception as error:  # noqa: BLE001 -- a defect belongs to its request; all others still need this thread
                    future.set_exception(error)


def complete(card: ModelCard, loaded: LoadedModel, request: Request) -> Completion:
    """Answer one request; whatever is wrong with it becomes a completion that says so."""
    nothing = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)
    try:
        used = resolve_decoding(request.decoding)
        text = render_prompt(loaded.tokenizer, card.chat_template, request, answer_prefix=card.answer_prefix)
    except ValueError as error:
        return Completion(text="", finish=FinishReason.ERROR, used=nothing, error=str(error))
    prompt = encode_prompt(loaded.tokenizer, card.chat_template, text)
    room = loaded.window - request.decoding.max_new_tokens
    if len(prompt) > room:
        excess = (
            f"the prompt has {len(prompt)} tokens, and model {card.name} has room for {room}: "
            f"its window of {loaded.window} less max_new_tokens {request.decoding.max_new_tokens}"
        )
        return Completion(text="", finish=FinishReason.ERROR, used=used, prompt_tokens=len(prompt), error=excess)
    try:
        reply = _generate(loaded, prompt, generation_settings(used, loaded), request.seed)
    except RuntimeError as error:  # how torch says that memory ran out or a device failed
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Completion(text="", finish=FinishReason.ERROR, used=used, prompt_tokens=len(prompt), error=reason)
    ended = bool(reply) and reply[-1] in loaded.ends
    beginning = request.reply_start if card.answer_prefix else ""
    return Completion(
        text=beginning + loaded.tokenizer.decode(reply, skip_special_tokens=True),
        finish=FinishReason.STOP if ended else FinishReason.LENGTH,
        used=used,
        prompt_tokens=len(prompt),
        completion_tokens=len(reply),
    )


def _generate(loaded: LoadedModel, prompt: list[int], settings: Any, seed: int) -> list[int]:
    """The reply's token ids, the token that ends it included."""
    import torch

    ids = torch.tensor([prompt], device=loaded.model.device)
    with _DRAWING, torch.inference_mode():
        torch.manual_seed(seed)
        sequence = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    reply: list[int] = sequence[0, len(prompt) :].tolist()
    for position, token in enumerate(reply):
        if token in loaded.ends:  # what follows the end is padding
            return reply[: position + 1]
    return reply


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
