"""The study file: what it may say, what follows from it, and what is said when it is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.jobs.study.producer import new_run
from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS, StudyError
from defsurvey.jobs.study.study_file import Decoding, StudyFile, parse_study, read_study
from defsurvey.storage.runs.run import Cell, Condition, DrawsPer, MemoryOrder, Preset, Protocol, QuestionOrder, Reply
from defsurvey.storage.surveys.survey import Paraphrase
from defsurvey.workers.models import read_cards
from tests.jobs.small_study import CARDS, SURVEY, TEXT, study, written

ROOT = Path(__file__).parents[2]


def refusal(text: str) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=SURVEY)
    return str(caught.value)


class TestWhatItSays:
    def test_defaults(self) -> None:
        read = study()
        assert read.name == "first"
        assert read.models == ("tiny-model",)
        assert read.cultures == ("us", "cn")
        assert read.languages == ("native",)
        assert read.conditions == (Condition(name="def"),)
        assert read.participants == 20
        assert read.protocol == Protocol(
            seed=0,
            preset=Preset.PAPER,
            draws=DrawsPer.PARTICIPANT,
            question_order=QuestionOrder.FIXED,
            memory_order=MemoryOrder.DRAWN,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            do_sample=None,
            max_new_tokens=512,
        )
        assert read.text == TEXT

    def test_every_key(self) -> None:
        read = study(
            language="[en, zh]",
            participants="3",
            preset="code",
            seed="9223372036854775807",
            draws="question",
            question_order="shuffled",
            memory_order="chronological",
            reply="first-sentence",
            decoding="{temperature: 0.5, top_p: 1e-1, top_k: 7, do_sample: false, max_new_tokens: 64}",
        )
        assert read.languages == ("en", "zh")
        assert read.participants == 3
        assert read.protocol == Protocol(
            seed=2**63 - 1,
            preset=Preset.CODE,
            draws=DrawsPer.QUESTION,
            question_order=QuestionOrder.SHUFFLED,
            memory_order=MemoryOrder.CHRONOLOGICAL,
            temperature=0.5,
            top_p=0.1,
            top_k=7,
            do_sample=False,
            max_new_tokens=64,
            reply=Reply.FIRST_SENTENCE,
        )

    def test_code_preset_has_the_top_k_of_the_library(self) -> None:
        assert study(preset="code").protocol.top_k == 50
        assert study(preset="code", decoding="{top_k: 0}").protocol.top_k == 0
        assert study(decoding="{top_k: 50}").protocol.top_k == 50

    def test_built_in_conditions(self) -> None:
        read = study(conditions="[def, none, def-without-prompt, def-without-config, def-without-memory]")
        axes = {one.name: (one.prompt, one.config, one.memory, one.option_order) for one in read.conditions}
        assert axes == {
            "def": (True, True, True, None),
            "none": (False, False, False, False),
            "def-without-prompt": (False, True, True, None),
            "def-without-config": (True, False, True, None),
            "def-without-memory": (True, True, False, None),
        }

    def test_conditions_of_ones_own(self) -> None:
        read = study(conditions="{def: , still: {memory: false, config: false}, turned: {option_order: true}}")
        assert read.conditions == (
            Condition(name="def"),
            Condition(name="still", config=False, memory=False),
            Condition(name="turned", option_order=True),
        )

    def test_override(self) -> None:
        for text in (TEXT, written(name=None)):
            read = parse_study(text, path=Path("s.yaml"), cards=CARDS, survey=SURVEY, name="second")
            assert read.name == "second"

    def test_pilot(self) -> None:
        whole = study(participants="5")
        assert whole.pilot(2).participants == 2
        assert whole.pilot(9).participants == 5
        assert whole.pilot(2).fingerprint() == whole.fingerprint()


class TestQuestions:
    def test_core(self) -> None:
        assert study(cultures="[us]").questions == ("Q1", "Q2", "Q3", "Q4")
        both = study()
        assert both.questions == ("Q1", "Q2", "Q4")
        assert both.left_out == ("Q3",)

    def test_all(self) -> None:
        read = study(questions="all", language="en")
        assert read.questions == ("Q1", "Q2", "Q4", "Q5")
        assert read.left_out == ("Q3", "Q6")

    def test_named_in_survey_order(self) -> None:
        assert study(questions="[Q4, Q1]").questions == ("Q1", "Q4")

    def test_sample(self) -> None:
        drawn = {study(questions="{sample: 2}", language="en", seed=str(seed)).questions for seed in range(40)}
        assert drawn == {("Q1", "Q2"), ("Q1", "Q4"), ("Q1", "Q5"), ("Q2", "Q4"), ("Q2", "Q5"), ("Q4", "Q5")}
        again = study(questions="{sample: 2}", language="en", seed="3")
        assert again.questions == study(questions="{sample: 2}", language="en", seed="3").questions


class TestCells:
    def test_baselines_are_counted_as_they_are_asked(self) -> None:
        read = study(conditions="[def, cao2023, ccsv-single, ccsv-list]", cultures="[us]", participants="5")
        questions = len(read.questions)
        assert [(c.condition.name, c.participants, read.answers(c), read.completions(c)) for c in read.cells()] == [
            ("def", 5, 5 * questions, 5 * questions),
            ("cao2023", 5, 5 * questions, 5 * questions),
            ("ccsv-single", 5, 5 * questions, 40 * questions),
            ("ccsv-list", 1, 20 * questions, 8 * questions),
        ]
        assert read.answers() == 35 * questions
        run = new_run(read)
        assert [len(cell.draws) for cell in run.cells] == [5, 5, 5, 1]

    def test_probabilities_stand_outside_the_answers(self) -> None:
        read = study(conditions="[first-token]", cultures="[us]")
        (cell,) = read.cells()
        assert (cell.participants, read.answers(cell)) == (1, 0)

    def test_order_and_duplicates(self) -> None:
        read = study(models="[human, tiny-model]", conditions="[none, def]", language="[en, native]")
        none, full = BUILT_IN_CONDITIONS["none"], BUILT_IN_CONDITIONS["def"]
        assert read.cells() == tuple(
            Cell(id=0, model=model, culture=culture, condition=condition, language=language, participants=20)
            for model in ("human", "tiny-model")
            for culture, condition, language in [
                ("us", none, "en"),
                ("us", full, "en"),
                ("cn", none, "en"),
                ("cn", none, "zh"),
                ("cn", full, "en"),
                ("cn", full, "zh"),
            ]
        )


class TestDesign:
    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "other"},
            {"models": "[human, tiny-model]"},
            {"participants": "3"},
            {"cultures": "[cn, us]"},
            {"language": "[native]"},
            {"decoding": "{temperature: 1}"},
            {"reply": "full"},
        ],
    )
    def test_what_may_differ(self, changes: dict[str, str]) -> None:
        assert study(**changes).fingerprint() == study().fingerprint()

    @pytest.mark.parametrize(
        "changes",
        [
            {"questions": "[Q1, Q2]"},
            {"language": "en"},
            {"conditions": "[none]"},
            {"preset": "code"},
            {"seed": "1"},
            {"draws": "question"},
            {"question_order": "shuffled"},
            {"memory_order": "chronological"},
            {"reply": "answer"},
            {"decoding": "{temperature: 0.9}"},
        ],
    )
    def test_what_must_not_differ(self, changes: dict[str, str]) -> None:
        assert study(**changes).fingerprint() != study().fingerprint()

    def test_axes_of_a_condition_count(self) -> None:
        one, other = (study(conditions=f"{{mine: {{memory: {on}}}}}") for on in ("true", "false"))
        assert one.fingerprint() != other.fingerprint()


WRONG_VALUES = [
    ({"cultures": "[us, xx]"}, "line 4, cultures[2]", "expected one of us, cn, no, got 'xx'"),
    ({"cultures": "[US]"}, "line 4, cultures[1]", "did you mean 'us'?"),
    ({"cultures": "[us, us]"}, "line 4, cultures[2]", "every name once, got 'us' again"),
    ({"models": "[tiny-modle]"}, "line 5, models[1]", "got 'tiny-modle' (did you mean 'tiny-model'?)"),
    ({"conditions": "[dev]"}, "line 6, conditions[1]", "got 'dev' (did you mean 'def'?)"),
    ({"conditions": "{none: {memory: true}}"}, "line 6, conditions.none", "nothing behind a built-in condition"),
    ({"conditions": "{mine: {memroy: false}}"}, "conditions.mine.memroy", "(did you mean 'memory'?)"),
    ({"questions": "corr"}, "line 3, questions", "core, all, a list of question ids, or {sample: N}, got 'corr' (did"),
    ({"questions": "[Q1, Q22]"}, "line 3, questions[2]", "got 'Q22' (did you mean 'Q2'?)"),
    ({"questions": "[Q1, Q3]"}, "line 3, questions[2]", "reference distribution for culture cn, got 'Q3'"),
    ({"questions": "[Q5]"}, "line 3, questions[1]", "a wording in zh, got none of Q5"),
    ({"cultures": "[us, no]", "language": "en"}, "line 3, questions", "for culture no, got none among the 4 chosen"),
    (
        {"cultures": "[cn, no]", "language": "en", "questions": "all"},
        "line 3, questions",
        "a reference distribution for each of cn, no, got none",
    ),
    ({"questions": "{}"}, "line 3, questions", "a key 'sample', got none"),
    ({"questions": "{sample: 5}", "language": "en"}, "line 3, questions", "a sample of at most 4"),
    ({"language": "english"}, "line 7, language", "native, en, zh, no, got 'english'"),
    ({"language": "no"}, "line 7, language", "a language with a prompt (en, zh), got 'no'"),
    ({"participants": "0"}, "line 7, participants", "a number of at least 1, got '0'"),
    ({"participants": "true"}, "line 7, participants", "a whole number, got 'true'"),
    ({"participants": "100001"}, "line 7, participants", "a number of at most 100000, got '100001'"),
    ({"seed": "9223372036854775808"}, "line 7, seed", "a number of at most 9223372036854775807"),
    ({"memory_order": "chronologic"}, "line 7, memory_order", "(did you mean 'chronological'?)"),
    ({"decoding": "{temperature: 0}"}, "decoding.temperature", "a number above 0, got '0'"),
    ({"decoding": "{top_p: 1.01}"}, "decoding.top_p", "a number of at most 1, got '1.01'"),
    ({"decoding": "{num_beams: 3}"}, "decoding.num_beams", "temperature, top_p, top_k, do_sample, max_new_tokens"),
    ({"name": "My Run"}, "line 1, name", "lower-case letters, digits, '-', '_' and '.'"),
    ({"partcipants": "3"}, "line 7, partcipants", "(did you mean 'participants'?)"),
    ({"judge": "{model: human}"}, "line 7, judge.model: expected a model that reads prompts", "a scripted respondent"),
    (
        {"judge": "{model: tiny-model, sample: 1.5}"},
        "line 7, judge.sample: expected a number of at most 1",
        "got '1.5'",
    ),
    ({"budget": "0"}, "line 7, budget: expected a number above 0", "got '0'"),
]


class TestWhatIsWrong:
    @pytest.mark.parametrize(("changes", "place", "told"), WRONG_VALUES)
    def test_value(self, changes: dict[str, str], place: str, told: str) -> None:
        message = refusal(written(**changes))
        assert message.startswith("study.yaml, line ")
        assert place in message
        assert told in message
        assert "\n" not in message

    @pytest.mark.parametrize("key", ["name", "survey", "questions", "cultures", "models", "conditions"])
    def test_missing_key(self, key: str) -> None:
        assert refusal(written(**{key: None})) == f"study.yaml, line 1: expected a key '{key}', got none"

    def test_unknown_key(self) -> None:
        told = refusal(TEXT + "particpants: 3\n")
        assert "'particpants' (did you mean 'participants'?)" in told
        listed = told.partition("expected one of the keys ")[2].partition(", got")[0]
        named, _, more = listed.partition(" and ")
        assert len(set(named.split(", "))) + int(more.split()[0]) == len(StudyFile.model_fields)

    def test_key_twice(self) -> None:
        message = refusal(TEXT + "cultures: [us]\n")
        assert "line 7" in message
        assert "'cultures' again, first on line 4" in message

    def test_native_language_without_a_prompt(self) -> None:
        text = written(cultures="[no]", questions="[Q6]")
        assert "expected a language with a prompt (en, zh), got 'no', the native one of no" in refusal(text)
        assert "line 7, language" in refusal(text + "language: native\n")

    def test_culture_without_a_name_in_the_language(self) -> None:
        message = refusal(written(cultures="[no]", questions="[Q6]", language="zh"))
        assert "a language in which survey small names culture no, got 'zh'" in message

    def test_label_missing(self) -> None:
        bare = replace(SURVEY.questions[0].options[1], label={"en": "choice 2"})
        question = replace(SURVEY.questions[0], options=(SURVEY.questions[0].options[0], bare))
        survey = replace(SURVEY, questions=(question,))
        with pytest.raises(StudyError, match="a label in zh, got none of option 2 of Q1"):
            parse_study(TEXT, path=Path("s.yaml"), cards=CARDS, survey=survey)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("name: [a\n", "close the bracket ]"),
            ("name: a: b\n", "mapping values are not allowed in this context; put a text that holds"),
            ("name: a\n\tb: c\n", "indent by spaces, not by tabs"),
            ("", "an empty file"),
            ("- a\n- b\n", "study.yaml, line 1: expected a mapping, got a list"),
            ("name: a\nsur\x07vey: b\n", "study.yaml, line 2"),
            ("name: !!python/object/apply:os.system [true]\n", "study.yaml, line 1"),
            ("[" * 5000, "study.yaml"),
        ],
    )
    def test_not_a_study(self, text: str, told: str) -> None:
        assert told in refusal(text)

    @pytest.mark.parametrize("participants", [0, -1])
    def test_override(self, participants: int) -> None:
        with pytest.raises(StudyError, match="participants: expected a whole number of at least 1"):
            replace(study(), participants=participants)
        with pytest.raises(StudyError, match="participants: expected a whole number of at least 1"):
            study().pilot(participants)


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match=r"nowhere\.yaml: expected a study file, got no such file"):
            read_study(tmp_path / "nowhere.yaml", cards=CARDS)

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "study.yaml"
        path.write_bytes(b"name: first\nsurvey: d\xe9mo\n")
        with pytest.raises(StudyError, match=r"study\.yaml, line 2: expected text in UTF-8, got the byte 0xe9"):
            read_study(path, cards=CARDS)

    def test_byte_order_mark(self, tmp_path: Path) -> None:
        path = tmp_path / "study.yaml"
        path.write_bytes(b"\xef\xbb\xbf" + written(survey="wvs7", questions="[Q1]").encode())
        assert read_study(path, cards=CARDS).questions == ("Q1",)

    def test_unknown_survey(self, tmp_path: Path) -> None:
        path = tmp_path / "study.yaml"
        path.write_text(written(survey="wvs8"), encoding="utf-8")
        with pytest.raises(StudyError, match=r"study\.yaml, line 2, survey: .*wvs8.*wvs7"):
            read_study(path, cards=CARDS)

    def test_bundled_survey(self, tmp_path: Path) -> None:
        path = tmp_path / "study.yaml"
        path.write_text(written(survey="wvs7"), encoding="utf-8")
        read = read_study(path, cards=read_cards() | CARDS)
        assert read.survey.id == "wvs7"
        assert set(read.questions) | set(read.left_out) == {one.id for one in read.survey.questions if one.core}
        assert [cell.language for cell in read.cells()] == ["en", "zh"]


def test_json_schema() -> None:
    schema = StudyFile.model_json_schema()
    assert set(schema["required"]) == {"name", "survey", "questions", "cultures", "models", "conditions"}
    assert set(schema["properties"]) == set(StudyFile.model_fields)
    assert schema["additionalProperties"] is False
    participants = schema["properties"]["participants"]
    assert [participants[key] for key in ("type", "default", "minimum", "maximum")] == ["integer", 20, 1, 100_000]
    assert schema["$defs"]["Preset"]["enum"] == ["paper", "code"]
    assert schema["$defs"]["JudgeOfStudy"]["properties"]["sample"]["anyOf"][1] == {"const": "all", "type": "string"}


@pytest.mark.parametrize("key", ["budget", "judge"])
def test_a_key_that_may_be_left_out_is_not_written_without_a_value(key: str) -> None:
    assert f"line 7, {key}: expected a value, or no such key, got nothing" in refusal(TEXT + f"{key}:\n")


def test_several_mistakes_are_counted() -> None:
    told = refusal(written(participants="0", seed="-1"))
    assert told == "study.yaml, line 7, participants: expected a number of at least 1, got '0' (and 1 more problem)"


def test_heavy_libraries_stay_away() -> None:
    heavy = ["torch", "transformers", "scipy", "sqlalchemy", "altair", "celery"]
    script = (
        "import sys\nfrom defsurvey.jobs.study import plan, preview, study\n"
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


class TestDocumentation:
    PAGE = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")

    def test_examples(self, tmp_path: Path) -> None:
        blocks = re.findall(r"```yaml\n(.*?)```", self.PAGE, flags=re.DOTALL)
        assert len(blocks) == 2
        whole, axes = (parse_study(text, path=tmp_path / "doc.yaml", cards=read_cards()) for text in blocks)
        assert whole.protocol == Protocol(seed=20250314)
        assert whole.participants == 20
        assert len(axes.questions) == 30
        assert axes.conditions[1:] == (
            Condition(name="memory-alone", prompt=False, config=False),
            Condition(name="shuffled", option_order=True),
        )

    def test_every_key_has_a_row(self) -> None:
        rows = re.findall(r"^\| `([a-z_.0-9]+)` \| (?:needed|`|\d|\|)", self.PAGE, flags=re.MULTILINE)
        nested = [f"decoding.{key}" for key in Decoding.model_fields]
        assert sorted(rows) == sorted([*StudyFile.model_fields, *nested])

    def test_every_condition_has_a_row(self) -> None:
        table = self.PAGE.split("## Conditions")[1].split("Any other combination")[0]
        assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, flags=re.MULTILINE)) == set(BUILT_IN_CONDITIONS)


def test_paraphrases_are_an_axis_where_the_survey_has_some() -> None:
    text = written(conditions="{worded: {paraphrase: true}}")
    assert "line 6, conditions: expected a survey with paraphrases in en for condition worded" in refusal(text)
    some = tuple(Paraphrase(question="Q1", number=1, language=code, text="Other?", model="m") for code in ("en", "zh"))
    read = parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=replace(SURVEY, paraphrases=some))
    assert [condition.paraphrase for condition in read.conditions] == [True]
    without = replace(read, conditions=(replace(read.conditions[0], paraphrase=False),))
    assert read.fingerprint() != without.fingerprint()
    assert "paraphrase" not in json.dumps(without.design())
    with pytest.raises(StudyError, match="paraphrases in zh"):
        parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=replace(SURVEY, paraphrases=some[:1]))
