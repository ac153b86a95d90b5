"""From weights on disk to a model in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.prompt import date_told
from defsurvey.workers.engines.transformers.quantising import check_quantisation, load_nf4, stored_as
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard

#: Errors whose words say what is wrong; of any other the kind says more. AssertionError: how torch says that it was
#: built without CUDA; ImportError: how transformers names a package.
_SPEAKING = (OSError, ValueError, RuntimeError, AssertionError, ImportError)


def recalled(card: ModelCard, weights: Weights, facts: Mapping[str, Any]) -> LoadedModel:
    """A model whose weights stay where they are, by its description when it was loaded; and its tokenizer."""
    with naming_the_model(card, weights.folder, "the prompt"):
        return LoadedModel(model=None, tokenizer=read_tokenizer(weights), **{**facts, "ends": tuple(facts["ends"])})


def load_model(card: ModelCard, weights: Weights, *, device: str) -> LoadedModel:
    """Read a model into memory.

    No code that comes with a model is ever run.

    Raises:
        EngineUnavailable: the weights cannot be read, do not fit, or the device is not there.
    """
    import torch

    with naming_the_model(card, weights.folder, device):
        check_quantisation(card, weights.folder, device)
        place = torch.device(device)
        attend_without_plans(place)
        tokenizer = read_tokenizer(weights)
        model = _read_model(card, weights, place).eval()
        ends, padding, dropped = _take_generation_defaults(model, tokenizer)
        ends = tuple(sorted({*ends, *own_ends(card, tokenizer)}))
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        window=_window(model.config, tokenizer),
        ends=ends,
        padding=padding,
        dropped=dropped,
        description={
            "engine": "transformers",
            **weights.origin,
            **stored_as(weights),
            "dtype": str(model.dtype).removeprefix("torch."),
            "quantisation": card.quantisation,
            **_published(weights, card, model.config),
            "device": _device_name(place),
            "chat_template": told_of_template(card, tokenizer),
            "answer_prefix": str(card.answer_prefix).lower(),
            "ends": " ".join(sorted(set(card.ends))) or "as published",
            "torch": version("torch"),
            "transformers": version("transformers"),
        },
    )


def fastest_type() -> str:
    """The type in which this processor computes fastest: ``bfloat16`` where it multiplies such numbers."""
    import torch

    known = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return "bfloat16" if any(getattr(torch.cpu, name, bool)() for name in known) else "float32"


def told_of_template(card: ModelCard, tokenizer: Any) -> str:
    """The chat template in words, with its options and the date that it is given."""
    described = card.chat_template + "".join(f", {name} {value}" for name, value in card.template_options.items())
    day = date_told(tokenizer, card.chat_template, card.template_options)
    return described if day is None else f"{described}, dated {day}"


def attend_without_plans(device: Any) -> None:
    """Let no attention of this process be cuDNN's where the device is a GPU.

    It compiles a plan for every shape that it has not seen, some tens of milliseconds each, and here shapes are new in
    most steps, as they are in ``generate``, where the keys are one more at each token.
    """
    import torch

    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


def read_tokenizer(weights: Weights) -> Any:
    """The tokenizer that lies beside the weights; raises OSError or ValueError where there is none."""
    from transformers import AutoTokenizer

    with _quiet():
        return AutoTokenizer.from_pretrained(**_source(weights))


def read_config(weights: Weights) -> Any:
    """The configuration that lies beside the weights; raises OSError or ValueError where there is none."""
    from transformers import AutoConfig

    with _quiet():
        return AutoConfig.from_pretrained(**_source(weights))


def own_ends(card: ModelCard, tokenizer: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a reply because the card says so.

    Raises:
        EngineUnavailable: the tokenizer has no such token.
    """
    vocabulary = tokenizer.get_vocab()
    for token in card.ends:
        if token not in vocabulary:
            raise EngineUnavailable(f"model {card.name}: field ends: the tokenizer has no token {token!r}")
    return tuple(vocabulary[token] for token in card.ends)


def _source(weights: Weights) -> dict[str, Any]:
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(weights.folder),
        "local_files_only": True,
        "trust_remote_code": False,  # left open, the library would ask at the terminal
    }
    if weights.gguf is not None:
        source["gguf_file"] = weights.gguf
    return source


def _read_model(card: ModelCard, weights: Weights, place: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    source = _source(weights)
    with _quiet():
        if card.quantisation == "nf4":
            dtype = torch.bfloat16 if card.dtype == "auto" else getattr(torch, card.dtype)
            return load_nf4(source, dtype=dtype, place=place)
        dtype = card.dtype if card.dtype == "auto" else getattr(torch, card.dtype)
        if card.quantisation == "gptq":
            return AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, device_map={"": place})
        if place.type != "cpu" and weights.gguf is None:  # one tensor after the other: the host need not hold them all
            return AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, device_map={"": place})
        model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype)
        if weights.gguf is not None and hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # the library has unpacked what lay in the file in fewer bits
        return model.to(place)


def _window(config: Any, tokenizer: Any) -> int:
    """Tokens; of a model that is more than one of text, the text's."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions or tokenizer.model_max_length)


def _published(weights: Weights, card: ModelCard, config: Any) -> EngineDescription:
    """How weights that are held as they were published were quantised, where they were; GGUF files are unpacked."""
    published = getattr(config, "quantization_config", None)
    if card.quantisation != "none" or published is None or weights.gguf is not None:
        return {}
    settings = published if isinstance(published, dict) else published.to_dict()
    return {"published_in": str(getattr(settings["quant_method"], "value", settings["quant_method"]))}


@contextmanager
def naming_the_model(card: ModelCard, folder: Path, device: str) -> Iterator[None]:
    """Say of whatever the libraries raise which model could not be loaded, from where, to where.

    They read what somebody published, and raise anything over what is wrong with it, down to bare exceptions.

    Raises:
        EngineUnavailable: anything was raised within; one that is raised already is left as it is.
    """
    try:
        yield
    except EngineUnavailable:
        raise
    except UnpicklingError as error:
        raise EngineUnavailable(
            f"model {card.name}: cannot be loaded from {folder}: its pickled weights hold more than tensors"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        if not isinstance(error, _SPEAKING) or not reason:
            reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
        raise EngineUnavailable(f"model {card.name}: cannot be loaded from {folder} to {device}: {reason}") from error


def _take_generation_defaults(model: Any, tokenizer: Any) -> tuple[tuple[int, ...], int, str]:
    """Strip a model of its own generation defaults; keep only which tokens end and fill.

    A published model may come with a temperature, a top-k or a repetition penalty that
    would apply unseen to whatever a request leaves open.
    """
    from transformers import GenerationConfig

    bare: Any = GenerationConfig
    published = model.generation_config
    ends = set(_token_ids(published, "eos_token_id"))
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    fillers = (*_token_ids(published, "pad_token_id"), tokenizer.pad_token_id, *sorted(ends), 0)
    padding = next(token for token in fillers if token is not None)
    kept = {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config", "use_cache"}
    hidden = {
        name: value
        for name, value in published.to_diff_dict().items()
        if name not in kept and not name.startswith("output_")
    }
    model.generation_config = bare()
    dropped = ", ".join(f"{name}={value}" for name, value in sorted(hidden.items()))
    return tuple(sorted(ends)), padding, dropped or "none"


def _token_ids(published: Any, name: str) -> list[int]:
    """Which tokens a field of a model's generation defaults names; nothing has checked them yet."""
    value = getattr(published, name)
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(token, int) for token in tokens):
        raise ValueError(f"generation defaults: {name}: expected the id of a token, or a list of them, got {value!r}")
    return tokens


def _device_name(device: Any) -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's notices and progress bars: a worker's log is about answers."""
    from transformers.utils import logging

    library_logging: Any = logging
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    # The GGUF reader draws its bar itself and heeds no setting.
    gguf_reader: Any = import_module("transformers.modeling_gguf_pytorch_utils")  # no attribute of a lazy package
    bar = gguf_reader.tqdm
    gguf_reader.tqdm = _no_bar
    try:
        yield
    finally:
        gguf_reader.tqdm = bar


def _no_bar(tensors: Any, **_: object) -> Any:
    return tensors
