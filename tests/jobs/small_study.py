"""A survey of six questions and three cultures, three cards and a study file about them, to test with."""

import base64
import json
import random
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis
from click.testing import CliRunner, Result
from sqlalchemy import text

from defsurvey.jobs.broker import simulate_queue
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.study import Study
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Answer, AnswerState, Participant
from defsurvey.storage.surveys.survey import Culture, Group, Option, Question, QuestionType, Region, Survey, Value
from defsurvey.storage.surveys.survey import ReferenceDistribution as Reference
from defsurvey.workers.engines.base import NO_DECODING
from defsurvey.workers.models import ModelCard

CARDS: Mapping[str, ModelCard] = {
    "tiny-model": ModelCard(name="tiny-model", hub="here/tiny-model", answer_prefix=True, languages=("en",)),
    "plain-model": ModelCard(name="plain-model", hub="here/plain-model", chat_template="none"),
    "human": ModelCard(name="human", engine="scripted", respondent="human"),
}

TEXT = """\
name: first
survey: small
questions: core
cultures: [us, cn]
models: [tiny-model]
conditions: [def]
"""


def _question(name: str, *, core: bool = True, zh: bool = True) -> Question:
    return Question(
        id=name,
        type=QuestionType.ORDINAL,
        topic="topic",
        text={"en": f"What of {name}?"} | ({"zh": f"{name}如何？"} if zh else {}),
        options=tuple(Option(code=code, label={"en": f"choice {code}", "zh": f"选项{code}"}) for code in range(1, 5)),
        value=Value(dimension="EVI", direction=1, basis="A", core=core),
    )


SHARES = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
#: Q1-Q4 are core, Q5 and Q6 are not. China was not asked Q3 and Q6, Norway only Q6; Q5 has no Chinese wording.
ASKED = {"us": (1, 2, 3, 4, 5, 6), "cn": (1, 2, 4, 5), "no": (6,)}
OHIO = Region(code="US-OH", name={"en": "Ohio", "zh": "俄亥俄州"}, share=1.0)
SURVEY = Survey(
    id="small",
    title="A small survey",
    version="1",
    citation="nobody",
    terms="none",
    languages=("en", "zh", "no"),
    dimensions={"EVI": {"en": "Emancipative values", "zh": "解放价值观"}},
    questions=(
        *(_question(f"Q{number}") for number in range(1, 5)),
        _question("Q5", core=False, zh=False),
        _question("Q6", core=False),
    ),
    cultures=(
        Culture(code="us", name={"en": "United States", "zh": "美国"}, language="en", regions=(OHIO,)),
        Culture(code="cn", name={"en": "China", "zh": "中国"}, language="zh"),
        Culture(code="no", name={"en": "Norway", "no": "Norge"}, language="no"),
    ),
    references=tuple(
        Reference(question=f"Q{number}", culture=culture, group=Group.ALL, shares=SHARES, n=1000)
        for culture, numbers in ASKED.items()
        for number in numbers
    ),
    fingerprint="f" * 64,
)


def written(**changes: str | None) -> str:
    """The study file ``TEXT`` with keys put in, replaced or, where None, taken out."""
    entries = dict[str, str | None](line.split(": ", 1) for line in TEXT.splitlines()) | changes
    return "".join(f"{key}: {value}\n" for key, value in entries.items() if value is not None)


def study(**changes: str | None) -> Study:
    return parse_study(written(**changes), path=Path("study.yaml"), cards=CARDS, survey=SURVEY)


def typed(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, words, env=environment)


#: Values in the place of any other.
STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 2**64, 1e308, "", "\x00", "../../x", "/etc/passwd", "x" * 300, ["a"], [["a"]], {},
    {"a": {}}, {"__type__": "datetime", "__value__": "x"}, "celery.backend_cleanup", "defsurvey.simulate_participant",
)  # fmt: skip
#: Items that are no message at all.
NOISE = (
    b"", b"x", b"\xff\xfe\x00", b"null", b"[]", b"{}", b'"x"', b"1e999", b"NaN", b"[" * 60_000, b'{"a":' * 10_000,
    b"x" * 200_000, b'{"headers": {"task": ["a"], "id": "x"}, "properties": {}}',
)  # fmt: skip


def hostile(ours: bytes, number: int, *, seed: int) -> Iterator[bytes]:
    """So many items: noise, then messages of ours with a value changed, taken away, or cut off."""
    generator = random.Random(seed)
    yield from NOISE[:number]
    for _ in range(number - len(NOISE)):
        message = json.loads(ours)
        if generator.random() < 0.3:
            body = json.loads(base64.b64decode(message["body"]))
            _spoil(body, generator)
            message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        else:
            _spoil(message, generator)
        item = json.dumps(message).encode()
        yield item[: generator.randrange(len(item))] if generator.random() < 0.1 else item


def _spoil(value: Any, generator: random.Random) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = generator.choice(keys) if keys else None
        if key is not None and isinstance(value[key], dict | list) and value[key] and generator.random() < 0.7:
            value = value[key]
            continue
        if key is not None and generator.random() < 0.2:
            del value[key]
        elif key is not None:
            value[key] = generator.choice(STRANGE)
        return


def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def change(database: Database, sql: str) -> None:
    database.write(lambda connection: connection.execute(text(sql)))


def queued(client: redis.Redis, model: str = "human") -> list[int]:
    """Participants whose messages lie in a model's queue, sorted."""
    messages: Any = client.lrange(simulate_queue(model), 0, -1)
    return sorted(json.loads(b64decode(json.loads(message)["body"]))[0][0] for message in messages)


def answer_to(held: Participant, question: str, **changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "participant": held.id,
        "item": held.next_item,
        "question": question,
        "state": AnswerState.ANSWERED,
        "choices": (1,),
        "completion": "1: choice 1",
        "shown": (1, 2, 3, 4),
        "draws": held.draws,
        "seed": 7,
        "used": NO_DECODING,
    }
    return Answer(**fields | changes)


def finish(database: Database, run: str = "first", *, owner: str = "host:1:token", **changes: Any) -> None:
    ledger = Ledger(database, owner=owner)
    questions = store.load_run(database, run).questions
    for (who,) in rows(database, f"SELECT id FROM participant WHERE run = '{run}' ORDER BY id"):
        held = ledger.claim(who)
        if held is None:
            continue
        for item in range(held.next_item, len(questions)):
            ledger.checkpoint(held, answer_to(held, questions[item], item=item, **changes), ())
