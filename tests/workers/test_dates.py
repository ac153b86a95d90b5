"""Dates in prompts: a template that asks for today's is told one date, so that equal requests stay equal tomorrow."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from defsurvey.workers.engines.transformers.core.prompt import date_told, dated, render_prompt
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import ModelCard
from tests.workers.families.test_prompts import FIRST, asked
from tests.workers.families.tiny_families import Family, write_tokenizer
from tests.workers.tiny import CHAT_TEMPLATE, write_tiny_model

#: How Llama 3.2's template comes by its date.
LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "none" %}{%- endif %}'
    "{%- endif %}"
    "Today Date: {{ date_string }}\n" + CHAT_TEMPLATE
)
#: How gpt-oss's and Granite's do: in a macro, and where the conversation has no system message of its own.
GRANITE = (
    "{%- macro opening() %}{{ \"Today's Date: \" + strftime_now('%B %d, %Y') + '.\\n' }}{% endmacro %}"
    "{%- if messages[0]['role'] != 'system' %}{{ opening() }}{% endif %}" + CHAT_TEMPLATE
)


def _tokenizer(folder: Path, template: str | None) -> Any:
    return write_tokenizer(folder, Family(architecture="", template=template))


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)


@pytest.mark.parametrize(
    ("template", "opening"), [(LLAMA, "Today Date: 26 Jul 2024\n"), (GRANITE, "Today's Date: July 26, 2024.\n")]
)
def test_prompts_hold_the_same_date_on_every_day(tmp_path: Path, tomorrow: None, template: str, opening: str) -> None:
    text = render_prompt(_tokenizer(tmp_path, template), "tokenizer", asked(FIRST), answer_prefix=False)
    assert text == opening + "[user] 你好\n[assistant] "


@pytest.mark.parametrize(
    ("template", "named", "told"),
    [
        (GRANITE, "tokenizer", date(2024, 7, 26)),
        (GRANITE + "{{ raise_exception('no') if messages[0]['role'] == 'system' }}", "tokenizer", date(2024, 7, 26)),
        (LLAMA, "chatml", None),
        (CHAT_TEMPLATE, "tokenizer", None),
        (CHAT_TEMPLATE + "{% if tools %}{{ strftime_now('%Y') }}{% endif %}", "tokenizer", None),
    ],
)
def test_a_date_is_told_where_prompts_hold_one(tmp_path: Path, template: str, named: str, told: date | None) -> None:
    """Not where a template could ask for it and does not, nor where the card names another."""
    tokenizer, options = _tokenizer(tmp_path, template), {"date_string": "1 May 2020"}
    assert date_told(tokenizer, named) == told
    if template == LLAMA:
        assert date_told(tokenizer, named, options) is None
        text = render_prompt(tokenizer, "tokenizer", asked(FIRST), answer_prefix=False, options=options)
        assert text.startswith("Today Date: 1 May 2020\n")


@pytest.mark.parametrize(
    ("template", "told"), [(LLAMA, "tokenizer, bos False, dated 2024-07-26"), (CHAT_TEMPLATE, "tokenizer, bos False")]
)
def test_the_model_says_which_date_its_prompts_hold(tmp_path: Path, template: str, told: str) -> None:
    """So that a run goes on only with the same one; models without a date describe themselves as ever."""
    write_tiny_model(tmp_path, chat_template=template)
    card = ModelCard(name="tiny", engine="transformers", path=tmp_path, template_options={"bos": False})
    assert load_model(card, find_weights(card, tmp_path), device="cpu").description["chat_template"] == told


@pytest.mark.parametrize("day", [date(2024, 7, 26), date(2025, 1, 5), date(2023, 12, 31)])
def test_every_directive_of_a_date_is_written_as_the_library_would(tmp_path: Path, day: date) -> None:
    form = "%Y %y %m %-m %B %b %h %d %-d %e %A %a %j %H %I %M %S %p %U %W %w %u %V %G %F %T 100%%"
    tokenizer, turns = _tokenizer(tmp_path, None), [{"role": "user", "content": "?"}]
    template = dated(f"{{{{ strftime_now('{form}') }}}}", day)
    text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    assert text == datetime(day.year, day.month, day.day).strftime(form)  # noqa: DTZ001 -- as the library does
