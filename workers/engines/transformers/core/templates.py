"""Chat templates of our own, for models whose tokenizer has none or one that cannot be used.

Sources: FastChat's ``vicuna_v1.1`` (WizardLM-13B-V1.2 was trained with it); ``build_chat_input`` of Baichuan2;
``build_prompt`` of ChatGLM2; ChatML as OpenAI described it in 2023, with a ``system`` message where the card gives one;
Meta's format of Llama 3; SmolLM3's own template with thinking off.
"""

from __future__ import annotations

from collections.abc import Mapping

_VICUNA = """\
{{ bos_token -}}
{% if messages[0]['role'] != 'system' -%}
{{ 'A chat between a curious user and an artificial intelligence assistant. ' -}}
{{ "The assistant gives helpful, detailed, and polite answers to the user's questions. " -}}
{% endif -%}
{% for message in messages -%}
{% if message['role'] == 'user' -%}
{{ 'USER: ' ~ message['content'] ~ ' ' -}}
{% elif message['role'] == 'assistant' -%}
{{ 'ASSISTANT: ' ~ message['content'] ~ '</s>' -}}
{% else -%}
{{ message['content'] ~ ' ' -}}
{% endif -%}
{% endfor -%}
{% if add_generation_prompt -%}
{{ 'ASSISTANT:' -}}
{% endif -%}
"""

_BAICHUAN2 = """\
{% for message in messages -%}
{% if message['role'] == 'user' -%}
{{ '<reserved_106>' -}}
{% elif message['role'] == 'assistant' -%}
{{ '<reserved_107>' -}}
{% endif -%}
{{ message['content'] -}}
{% endfor -%}
{% if add_generation_prompt -%}
{{ '<reserved_107>' -}}
{% endif -%}
"""

_CHATGLM2 = """\
{% set ns = namespace(round=0) -%}
{% for message in messages -%}
{% if message['role'] == 'user' -%}
{% set ns.round = ns.round + 1 -%}
{{ '[Round ' ~ ns.round ~ ']\\n\\n问：' ~ message['content'] ~ '\\n\\n答：' -}}
{% else -%}
{{ message['content'] ~ '\\n\\n' -}}
{% endif -%}
{% endfor -%}
"""

_CHATML = """\
{% if system is defined and messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\n' ~ system ~ '<|im_end|>\\n' -}}
{% endif -%}
{% for message in messages -%}
{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}
{% endfor -%}
{% if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' -}}
{% endif -%}
"""

# Without a BOS token: the tokenizer adds it.
_LLAMA3 = """\
{% for message in messages -%}
{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' ~ message['content'] | trim ~ '<|eot_id|>' -}}
{% endfor -%}
{% if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{% endif -%}
"""

# The tokenizer's own template writes today's date into every prompt: the same request would be another one tomorrow.
_SMOLLM3 = """\
{% if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face.<|im_end|>\\n' -}}
{% endif -%}
{% for message in messages -%}
{% set thought = '<think>\\n\\n</think>\\n' if message['role'] == 'assistant' else '' -%}
{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ thought ~ message['content'] ~ '<|im_end|>\\n' -}}
{% endfor -%}
{% if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' -}}
{% endif -%}
"""

#: Templates in Jinja, by the name that a model card uses.
TEMPLATES: Mapping[str, str] = {
    "vicuna": _VICUNA,
    "baichuan2": _BAICHUAN2,
    "chatglm2": _CHATGLM2,
    "chatml": _CHATML,
    "llama3": _LLAMA3,
    "smollm3": _SMOLLM3,
}
