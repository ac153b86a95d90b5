"""OpenVINO GenAI serves a workload; see ``benchmarks.engine``. Its model is converted here, without optimum.

It batches beam searches, greedy and sampled requests together, though a request never samples with beams.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai
import torch
from openvino import opset13 as op
from openvino._offline_transformations import apply_make_stateful_transformation
from openvino_tokenizers import convert_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.cache_utils import DynamicLayer

from benchmarks.measuring import Generate, serve


class Step(torch.nn.Module):
    """A model as a function of tensors alone: keys and values go in and come out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *flat: Any) -> tuple[Any, ...]:
        """Logits, then keys and values of every layer."""
        cache = DynamicCache()
        for keys, values in zip(flat[::2], flat[1::2], strict=True):
            layer: Any = DynamicLayer()
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            layer.dtype, layer.device = keys.dtype, keys.device
            cache.layers.append(layer)
        # The library's own mask cannot be traced.
        new, seen = input_ids.shape[1], attention_mask.shape[1]
        causal = torch.arange(seen)[None, :] <= torch.arange(seen - new, seen)[:, None]
        allowed = causal[None, None] & (attention_mask[:, None, None, :] > 0)
        mask = torch.where(allowed, torch.tensor(0.0), torch.tensor(torch.finfo(torch.float32).min))
        out = self.model(input_ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache)
        return (out.logits, *(each for layer in cache.layers for each in (layer.keys, layer.values)))


def convert(folder: Path, target: Path) -> None:
    """Write a model and its tokenizer as ``optimum-cli export openvino`` would: keys and values are the graph's state.

    Args:
        folder: Of a transformers model.
        target: Is made.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    heads, width = model.config.num_key_value_heads, model.config.head_dim
    past = [f"past.{layer}.{side}" for layer in range(model.config.num_hidden_layers) for side in ("key", "value")]
    ones = torch.ones(2, 7, dtype=torch.long)
    example = (ones[:, :4], ones, torch.arange(3, 7).repeat(2, 1), *(torch.zeros(2, heads, 3, width) for _ in past))
    with torch.no_grad():
        graph = ov.convert_model(Step(model), example_input=example)
    shapes = [[-1, -1]] * 3 + [[-1, heads, -1, width]] * len(past)
    for port, name, shape in zip(
        graph.inputs, ["input_ids", "attention_mask", "position_ids", *past], shapes, strict=True
    ):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(ov.PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *(f"present.{name}" for name in past)], strict=True):
        port.get_tensor().set_names({name})
    beams = op.parameter([-1], np.int32, name="beam_idx")
    beams.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([beams])
    for port in graph.inputs[3:-1]:
        for reader in list(port.get_target_inputs()):
            reader.replace_source_output(op.gather(port, beams, op.constant(0)).output(0))
    graph.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(graph, {name: f"present.{name}" for name in past})
    batch = op.gather(op.shape_of(graph.input("input_ids"), output_type="i64"), op.constant([0]), op.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            shape = op.concat([batch, op.constant(np.array([heads, 0, width]))], axis=0)
            node.set_arguments([op.broadcast(op.constant(0.0, dtype=node.get_output_element_type(0)), shape)])
    graph.validate_nodes_and_infer_types()
    ov.save_model(graph, target / "openvino_model.xml", compress_to_fp16=False)
    parts = convert_tokenizer(AutoTokenizer.from_pretrained(folder), with_detokenizer=True)
    for part, name in zip(parts, ("tokenizer", "detokenizer"), strict=True):
        ov.save_model(part, target / f"openvino_{name}.xml")
    for name in ("config.json", "generation_config.json"):
        (target / name).write_bytes((folder / name).read_bytes())


def settings(request: dict[str, Any], most: int) -> openvino_genai.GenerationConfig:
    """Of a request, for replies of at most so many tokens that end only there."""
    chosen = openvino_genai.GenerationConfig()
    chosen.max_new_tokens, chosen.ignore_eos = min(most, request["max_new_tokens"]), True
    if request["num_beams"] > 1:
        chosen.num_beams, chosen.num_return_sequences = request["num_beams"], 1
    elif request["sampling"]:
        chosen.do_sample, chosen.temperature, chosen.top_p = True, 1.0, 1.0
    return chosen


def opened(task: dict[str, Any]) -> Generate:
    """Load the model, which is converted once."""
    target = Path(task["folder"] + "-openvino")
    if not (target / "openvino_detokenizer.xml").exists():
        convert(Path(task["folder"]), target)
    scheduling = openvino_genai.SchedulerConfig()
    scheduling.cache_size, scheduling.max_num_batched_tokens = 4, 2048
    scheduling.enable_prefix_caching, scheduling.dynamic_split_fuse = False, True
    precision = {"float32": "f32", "bfloat16": "bf16"}[task["dtype"]]
    options = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
    options["INFERENCE_NUM_THREADS"] = task["threads"]
    pipeline = openvino_genai.ContinuousBatchingPipeline(target, scheduling, "CPU", options)

    def generate(prompts: list[list[int]], most: int) -> int:
        tensors = [ov.Tensor(np.array([one], np.int64)) for one in prompts]
        replies = pipeline.generate(tensors, [settings(one, most) for one in task["requests"]])
        return sum(len(one.m_generation_ids[0]) for one in replies)

    return generate


if __name__ == "__main__":
    serve(opened)
