"""Weights in fewer bits: made of full ones (4-bit NormalFloat, integers), published in GPTQ, and what GGUF files hold.

Source: Dettmers et al. (2023), QLoRA, section 3 (NF4).
"""

from __future__ import annotations

import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard

#: What nobody has quantised yet.
_FULL = "full weights"
#: Packages that each kind needs.
_PACKAGES = {
    "none": (),
    "nf4": ("bitsandbytes", "accelerate"),
    "gptq": ("optimum", "gptqmodel"),
    "int8": ("openvino", "nncf"),
    "int4": ("openvino", "nncf"),
}
#: What must have been published for it.
_WANTED = {"nf4": _FULL, "gptq": "gptq", "int8": _FULL, "int4": _FULL}
#: Kinds for one sort of device alone, and what to say of it.
_DEVICES = {
    "gptq": ("cuda", "a GPU: expected device cuda or cuda:N"),
    "int8": ("cpu", "a CPU: expected device cpu"),
    "int4": ("cpu", "a CPU: expected device cpu"),
}
#: How far into a GGUF file its general entries stand, in bytes; the vocabulary comes after them.
_HEADER = 1 << 20
#: An entry's value: its type and its number.
_UINT32 = struct.Struct("<II")


def check_quantisation(card: ModelCard, folder: Path, device: str) -> None:
    """Find out before anything is loaded whether the card's kind of weights can be held on the device.

    Raises:
        EngineUnavailable: the device is of another sort, a package is missing, weights that should be GPTQ are not, or
            those of which fewer bits should be made have been published in fewer already.
    """
    kind = card.quantisation
    sort, expected = _DEVICES.get(kind, ("", ""))
    if not device.startswith(sort):
        raise EngineUnavailable(f"model {card.name}: quantisation {kind} needs {expected}, got {device}")
    for package in _PACKAGES[kind]:
        if find_spec(package) is None:
            raise EngineUnavailable(
                f"model {card.name}: quantisation {kind} needs the package {package}, which is not installed"
                + (" (pip install 'defsurvey[quantised]')" if package == "nncf" else "")
            )
    if kind != "none" and (found := _published(folder)) != (wanted := _WANTED[kind]):
        expected = wanted if wanted == _FULL else f"weights published in {wanted}"
        raise EngineUnavailable(f"model {card.name}: field quantisation: expected {expected}, got {found} in {folder}")


def _published(folder: Path) -> str:
    """How a folder's weights were quantised by their publisher, in words."""
    from transformers import PreTrainedConfig

    if not (folder / "config.json").exists():  # a GGUF file has its configuration in itself
        return _FULL
    config, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
    published: dict[str, Any] = config.get("quantization_config") or {}
    return str(published.get("quant_method", _FULL))


def stored_as(weights: Weights) -> EngineDescription:
    """The format of the files that weights lie in; of a GGUF file also the number type of most of its weights."""
    if weights.gguf is not None:
        return {"weights_format": "GGUF", "weights_type": gguf_type(weights.folder / weights.gguf)}
    safe = any(weights.folder.glob("*.safetensors"))
    return {"weights_format": "safetensors" if safe else "pickle"}


def gguf_type(file: Path) -> str:
    """The number type of most weights of a GGUF file: ``Q4_K_M``, ``F16``; by its header, else by its name.

    The header is searched and not parsed: the library's parser takes seconds for the vocabulary that stands in it.
    """
    from gguf import GGUFValueType, LlamaFileType

    with file.open("rb") as source:
        _, _, entry = source.read(_HEADER).partition(b"general.file_type")
    if len(entry) >= _UINT32.size:
        kind, value = _UINT32.unpack_from(entry)
        if kind == GGUFValueType.UINT32 and value in set(LlamaFileType):
            return LlamaFileType(value).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    named = re.search(r"(?<![A-Z0-9])(?:I?Q\d\w*|B?F16|F32)$", file.stem.upper())
    return named[0] if named else "not known"


def load_nf4(source: dict[str, Any], *, dtype: Any, place: Any) -> Any:
    """Load a causal language model with its linear layers and experts in 4 bits; embeddings and norms stay as they are.

    A mixture of experts passes through the machine's own memory, which must hold it in 16 bits.

    Args:
        source: What ``from_pretrained`` is told of where the weights are.
        dtype: In which computations are done.
        place: The torch device.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    four_bits: Any = BitsAndBytesConfig
    mixture = _experts(AutoConfig.from_pretrained(**source)) > 1
    model = AutoModelForCausalLM.from_pretrained(
        **source,
        dtype=dtype,
        quantization_config=four_bits(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype),
        device_map={"": torch.device("cpu") if mixture else place},
    )
    if mixture:
        _quantise_experts(model, place)
        model = model.to(place)
    return model


def _experts(config: Any) -> int:
    text = config.get_text_config()
    counts = (getattr(text, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
    return max(count or 0 for count in counts)


def _quantise_experts(model: Any, place: Any) -> None:
    """Move every stack of matrices (experts, rows, columns) to a device and hold it there in 4 bits."""
    from bitsandbytes.nn.parametrize import replace_parameter_4bit

    stacks = [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    ]
    for module, name in stacks:
        stack = getattr(module, name)
        stack.data = stack.data.to(place)
        replace_parameter_4bit(module, name, quant_type="nf4")
