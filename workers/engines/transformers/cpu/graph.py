"""From a transformers model in memory to OpenVINO's graph with paged attention.

The model is traced as a function of tensors alone, keys and values among them, of which a transformation of OpenVINO's
makes states. In this form it is kept on disk, since OpenVINO cannot read what follows: another transformation makes of
each attention over states an operation that finds keys and values in blocks, the inputs ``key_cache.N`` and
``value_cache.N``. What a model computes is not changed: weights keep the type in which they are held, and the graph
computes in float32 unless it is compiled for another type.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from defsurvey.workers.engines.transformers.cpu.library import ov

#: Weights in fewer bits: each column of a matrix, or each group of it, with a scale of its own.
Quantisation = Literal["int8", "int4"]

#: Which input of a PagedAttentionExtension is the window; 0 or less is none.
_SLIDING_WINDOW = 10
#: Where a graph on disk says which windows its layers have.
_WINDOWS = "windows"
_SIXTEEN_BITS = (torch.bfloat16, torch.float16)
#: Where OpenVINO keeps the method that it replaces while a model is traced.
_ORIGINAL_FORWARD = "_openvino_module_extension_patch_orig_forward"


class UnsupportedGraph(RuntimeError):
    """The model has no such graph: OpenVINO cannot convert an operation, or some attention of it is not paged."""


def converted(model: Any) -> Any:
    """Convert a model.

    Args:
        model: A causal language model in evaluation mode on the CPU, as transformers loads it, attending by ``sdpa``.
            It is the same afterwards. The graph reads its weights where they lie: until the graph was written to disk
            and read from there, as ``store.kept`` does, they must not be changed, moved or converted (``model.float()``
            would leave the graph with freed memory, and logits of NaN).

    Returns:
        An ``ov.Model`` with keys and values as states, which can be kept on disk; ``paged`` makes what a runner takes.

    Raises:
        UnsupportedGraph: the model cannot be converted so.
    """
    config = model.config.get_text_config()
    with torch.inference_mode(False), torch.no_grad(), _naming_what_is_unsupported():
        graph = _traced(model, config)
        _make_stateful(graph)
    graph.set_rt_info(json.dumps(_windows(config)), _WINDOWS)
    paged(graph.clone())  # what cannot be paged is not worth keeping
    return graph


@contextmanager
def _naming_what_is_unsupported() -> Iterator[None]:
    """Tracing runs a model's own code, which raises anything, and OpenVINO raises what it does not know at length."""
    try:
        yield
    except Exception as error:
        raise UnsupportedGraph(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def paged(graph: Any) -> Any:
    """Have a converted graph find keys and values in blocks; it is changed and returned.

    Its inputs then are ``input_ids`` and ``position_ids``, one number per token of all rows, laid end to end, those of
    paged attention, and ``sampled``, the tokens whose logits are wanted; these are its output.

    Raises:
        UnsupportedGraph: a layer attends in a way that has no counterpart over blocks.
    """
    from openvino._offline_transformations import paged_attention_transformation  # type: ignore[import-untyped]

    windows = json.loads(graph.get_rt_info(_WINDOWS).astype(str))
    with _naming_what_is_unsupported():
        paged_attention_transformation(graph)
    _set_windows(graph, windows)
    _gather_sampled(graph)
    return graph


def keep_apart(graph: Any) -> None:
    """Keep OpenVINO from fusing gated layers: with one thread in bfloat16 it divides by 0 (2026.4), which ends all.

    A bound beyond all numbers changes nothing but the pattern that it looks for.
    """
    from openvino import opset13 as op  # type: ignore[import-untyped]

    for node in graph.get_ops():
        if node.get_type_name() in ("Swish", "Gelu"):
            readers = list(node.output(0).get_target_inputs())
            bounded = op.clamp(node, -3e38, 3e38).output(0)
            for reader in readers:
                reader.replace_source_output(bounded)
    graph.validate_nodes_and_infer_types()


def compress(graph: Any, kind: Quantisation) -> Any:
    """Store the weights of matrix products in 8 or 4 bits; embeddings and the output layer keep 8.

    Raises:
        ImportError: the package that does it is not installed.
    """
    try:
        import nncf  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("weights in int8 and int4 on a CPU need nncf: pip install 'defsurvey[quantised]'") from error
    if kind == "int8":
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    # Groups are of 128 weights, or of fewer where a matrix is no multiple of that.
    smaller = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT4_ASYM, advanced_parameters=smaller)


class _Step(torch.nn.Module):
    """The model as a function of tensors alone: keys and values of all layers go in and come out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        cache = DynamicCache()
        for keys, values in zip(past[::2], past[1::2], strict=True):
            layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            layer.dtype, layer.device = keys.dtype, keys.device
            cache.layers.append(layer)
        # A causal mask by plain operations: the library's own cannot be traced. Windows are set on the attention later.
        new, seen = input_ids.shape[1], attention_mask.shape[1]
        causal = torch.arange(seen)[None, :] <= torch.arange(seen - new, seen)[:, None]
        allowed = causal[None, None] & (attention_mask[:, None, None, :] > 0)
        mask = torch.where(allowed, torch.tensor(0.0), torch.tensor(torch.finfo(torch.float32).min))
        out = self.model(
            input_ids=input_ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        layers: Any = cache.layers
        return (out.logits, *(each for layer in layers for each in (layer.keys, layer.values)))


def _traced(model: Any, config: Any) -> Any:
    """The model's graph with keys and values as inputs ``past.N.kind`` and outputs ``present.N.kind``."""
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager  # type: ignore[import-untyped]
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # type: ignore[import-untyped]

    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    past = [f"past.{layer}.{kind}" for layer in range(config.num_hidden_layers) for kind in ("key", "value")]
    # Two rows of four tokens after three: no size is 1, and none is another's, so that none is taken for a constant.
    tokens, seen, positions = torch.ones(2, 4, dtype=torch.long), torch.ones(2, 7, dtype=torch.long), torch.arange(3, 7)
    example = (tokens, seen, positions[None].repeat(2, 1), *(torch.zeros(2, heads, 3, width) for _ in past))
    frontend = FrontEndManager().load_by_framework("pytorch")  # not ov.convert_model, which reports what it is given
    with warnings.catch_warnings(), _without_16_bits(model):
        warnings.simplefilter("ignore")  # the tracer's, of every shape that it meets
        decoder = TorchScriptPythonDecoder(
            _Step(model), example_input=example, trace_kwargs={"check_trace": False}, shared_memory=True
        )
        graph = frontend.convert(frontend.load(decoder))
    apply_moc_transformations(graph, cf=False, smart_reshape=True)  # as OpenVINO's own converter does
    names = ["input_ids", "attention_mask", "position_ids", *past]
    shapes = [[-1, -1]] * 3 + [[-1, heads, -1, width]] * len(past)
    for port, name, shape in zip(graph.inputs, names, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_element_type(ov.Type.i64 if name in names[:3] else ov.Type.f32)
        port.get_node().set_partial_shape(ov.PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *map(_present, past)], strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    return graph


@contextmanager
def _without_16_bits(model: Any) -> Iterator[None]:
    """Have a model traced as if it computed in float32, with its matrices and embeddings kept as they are.

    OpenVINO replaces these by operations of its own, which are not computed while tracing; what else a model holds in
    16 bits, norms above all, is small and is converted for the time.
    """
    from openvino.frontend.pytorch import patch_model  # type: ignore[import-untyped]

    held = [*model.parameters(), *model.buffers()]
    before = [(each, each.data) for each in held if each.dtype in _SIXTEEN_BITS]
    make_traceable = getattr(patch_model, "__make_16bit_traceable")  # the package's own name
    try:
        make_traceable(model, _ORIGINAL_FORWARD)
        yield
    finally:
        patch_model.unpatch_model(model, _ORIGINAL_FORWARD)
        for each, data in before:
            each.data = data


def _present(past: str) -> str:
    return past.replace("past", "present")


def _make_stateful(graph: Any) -> None:
    """Make states of keys and values, their rows chosen by ``beam_idx``: the pattern that can be paged."""
    from openvino import opset13 as op
    from openvino._offline_transformations import apply_make_stateful_transformation

    beams = op.parameter([-1], np.int32, name="beam_idx")
    beams.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([beams])
    past = [port for port in graph.inputs if port.get_any_name().startswith("past.")]
    for port in past:
        readers = list(port.get_target_inputs())
        for reader in readers:
            reader.replace_source_output(op.gather(port, beams, op.constant(0)).output(0))
    graph.validate_nodes_and_infer_types()
    names = [port.get_any_name() for port in past]
    apply_make_stateful_transformation(graph, {name: _present(name) for name in names})
    batch = op.gather(op.shape_of(graph.input("input_ids"), output_type="i64"), op.constant([0]), op.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            rest = [op.constant(np.array([side.min_length])) for side in list(node.get_output_partial_shape(0))[1:]]
            empty = op.constant(0.0, dtype=node.get_output_element_type(0))
            node.set_arguments([op.broadcast(empty, op.concat([batch, *rest], axis=0))])
    graph.validate_nodes_and_infer_types()


def _windows(config: Any) -> list[int]:
    """How many tokens each layer sees, the newest among them; 0 for all."""
    window = getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


def _set_windows(graph: Any, windows: Sequence[int]) -> None:
    """Say to the attention of every layer how far back it sees."""
    from openvino import opset13 as op

    attentions = [node for node in graph.get_ops() if node.get_type_name() == "PagedAttentionExtension"]
    if len(attentions) != len(windows):
        raise UnsupportedGraph(f"{len(attentions)} of {len(windows)} layers attend in a way that can be paged")
    for node in attentions:
        layer = int(node.input_value(3).get_any_name().split(".")[1])  # of key_cache.N
        if windows[layer]:
            node.input(_SLIDING_WINDOW).replace_source_output(op.constant(np.int32(windows[layer])).output(0))


def _gather_sampled(graph: Any) -> None:
    """Compute logits of those tokens alone that the input ``sampled`` names."""
    from openvino import opset13 as op

    node = graph.outputs[0].node
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    which: Any = op.parameter([-1], np.int64, name="sampled")
    which.output(0).get_tensor().set_names({"sampled"})
    node.input(0).replace_source_output(op.gather(node.input_value(0), which, op.constant(0, np.int64)).output(0))
    graph.add_parameters([which])
    graph.validate_nodes_and_infer_types()
