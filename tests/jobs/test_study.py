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
    """The message with which a study file is refused."""
    with pytest.raises(StudyError) as caught:
        parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=SURVEY)
    return str(caught.value)


class TestWhatItSays:
    """A file that is right becomes the study it describes."""

    def test_defaults(self) -> None:
        """A file with the needed keys only is the paper's DEF with 20 participants, each asked natively."""
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
        """Every optional key arrives where it belongs."""
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
        """The published code leaves it to the library, which takes 50; a study can say otherwise, in either preset."""
        assert study(preset="code").protocol.top_k == 50
        assert study(preset="code", decoding="{top_k: 0}").protocol.top_k == 0
        assert study(decoding="{top_k: 50}").protocol.top_k == 50

    def test_built_in_conditions(self) -> None:
        """The built-in names switch off what they say, and ``none`` shows options in the survey's order."""
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
        """A mapping names conditions by the axes that are off; a built-in one stands in it with nothing behind."""
        read = study(conditions="{def: , still: {memory: false, config: false}, turned: {option_order: true}}")
        assert read.conditions == (
            Condition(name="def"),
            Condition(name="still", config=False, memory=False),
            Condition(name="turned", option_order=True),
        )

    def test_override(self) -> None:
        """A name given beside the file goes before the file's, which needs none then."""
        for text in (TEXT, written(name=None)):
            read = parse_study(text, path=Path("s.yaml"), cards=CARDS, survey=SURVEY, name="second")
            assert read.name == "second"

    def test_pilot(self) -> None:
        """A pilot is the first participants of the same design, and never more than there are."""
        whole = study(participants="5")
        assert whole.pilot(2).participants == 2
        assert whole.pilot(9).participants == 5
        assert whole.pilot(2).fingerprint() == whole.fingerprint()


class TestQuestions:
    """The same questions are asked in every culture, and each can be compared with people there."""

    def test_core(self) -> None:
        """Core is what the survey marks so, less what was not asked in some culture, and that is told."""
        assert study(cultures="[us]").questions == ("Q1", "Q2", "Q3", "Q4")
        both = study()
        assert both.questions == ("Q1", "Q2", "Q4")
        assert both.left_out == ("Q3",)

    def test_all(self) -> None:
        """All is every question that is known for every culture."""
        read = study(questions="all", language="en")
        assert read.questions == ("Q1", "Q2", "Q4", "Q5")
        assert read.left_out == ("Q3", "Q6")

    def test_named_in_survey_order(self) -> None:
        """Named questions are asked in the survey's order."""
        assert study(questions="[Q4, Q1]").questions == ("Q1", "Q4")

    def test_sample(self) -> None:
        """A sample is drawn by the seed, each question once, in survey order; all seeds together reach every one."""
        drawn = {study(questions="{sample: 2}", language="en", seed=str(seed)).questions for seed in range(40)}
        assert drawn == {("Q1", "Q2"), ("Q1", "Q4"), ("Q1", "Q5"), ("Q2", "Q4"), ("Q2", "Q5"), ("Q4", "Q5")}
        again = study(questions="{sample: 2}", language="en", seed="3")
        assert again.questions == study(questions="{sample: 2}", language="en", seed="3").questions


class TestCells:
    """The cells of a study."""

    def test_baselines_are_counted_as_they_are_asked(self) -> None:
        """A panel is one participant with twenty answers to each question; a chain takes eight completions."""
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
        """A cell of option probabilities has one participant and plans no answer."""
        read = study(conditions="[first-token]", cultures="[us]")
        (cell,) = read.cells()
        assert (cell.participants, read.answers(cell)) == (1, 0)

    def test_order_and_duplicates(self) -> None:
        """Cells go by model, culture, condition, language; a native language that was named too is asked once."""
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
    """What two runs must share to be one design."""

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
        """Name, models, participants and the way of writing the same thing do not make another design."""
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
        """Everything else does."""
        assert study(**changes).fingerprint() != study().fingerprint()

    def test_axes_of_a_condition_count(self) -> None:
        """Two conditions of one name with other axes are two designs."""
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
    """Everything that is wrong is told in one message that names file, line, key, expected and got."""

    @pytest.mark.parametrize(("changes", "place", "told"), WRONG_VALUES)
    def test_value(self, changes: dict[str, str], place: str, told: str) -> None:
        """A value that is not what its key asks for."""
        message = refusal(written(**changes))
        assert message.startswith("study.yaml, line ")
        assert place in message
        assert told in message
        assert "\n" not in message

    @pytest.mark.parametrize("key", ["name", "survey", "questions", "cultures", "models", "conditions"])
    def test_missing_key(self, key: str) -> None:
        """A key that cannot be left out."""
        assert refusal(written(**{key: None})) == f"study.yaml, line 1: expected a key '{key}', got none"

    def test_unknown_key(self) -> None:
        """The dozen that are named and the others that are counted are all there are, each once."""
        told = refusal(TEXT + "particpants: 3\n")
        assert "'particpants' (did you mean 'participants'?)" in told
        listed = told.partition("expected one of the keys ")[2].partition(", got")[0]
        named, _, more = listed.partition(" and ")
        assert len(set(named.split(", "))) + int(more.split()[0]) == len(StudyFile.model_fields)

    def test_key_twice(self) -> None:
        """A key that stands twice, which YAML would let the second win."""
        message = refusal(TEXT + "cultures: [us]\n")
        assert "line 7" in message
        assert "'cultures' again, first on line 4" in message

    def test_native_language_without_a_prompt(self) -> None:
        """A culture whose own language has no prompt cannot be asked natively, be it asked for or the default."""
        text = written(cultures="[no]", questions="[Q6]")
        assert "expected a language with a prompt (en, zh), got 'no', the native one of no" in refusal(text)
        assert "line 7, language" in refusal(text + "language: native\n")

    def test_culture_without_a_name_in_the_language(self) -> None:
        """A culture that the survey does not name in a language cannot be asked in it."""
        message = refusal(written(cultures="[no]", questions="[Q6]", language="zh"))
        assert "a language in which survey small names culture no, got 'zh'" in message

    def test_label_missing(self) -> None:
        """An option without a label in the language asked for."""
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
        """Text that is no YAML, or YAML that is no mapping."""
        assert told in refusal(text)

    @pytest.mark.parametrize("participants", [0, -1])
    def test_override(self, participants: int) -> None:
        """What is given beside the file is held to the same rules."""
        with pytest.raises(StudyError, match="participants: expected a whole number of at least 1"):
            replace(study(), participants=participants)
        with pytest.raises(StudyError, match="participants: expected a whole number of at least 1"):
            study().pilot(participants)


class TestFiles:
    """A study file on disk."""

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is named."""
        with pytest.raises(StudyError, match=r"nowhere\.yaml: expected a study file, got no such file"):
            read_study(tmp_path / "nowhere.yaml", cards=CARDS)

    def test_not_utf8(self, tmp_path: Path) -> None:
        """A file in another encoding is told with the line and the byte."""
        path = tmp_path / "study.yaml"
        path.write_bytes(b"name: first\nsurvey: d\xe9mo\n")
        with pytest.raises(StudyError, match=r"study\.yaml, line 2: expected text in UTF-8, got the byte 0xe9"):
            read_study(path, cards=CARDS)

    def test_byte_order_mark(self, tmp_path: Path) -> None:
        """A byte order mark, which some editors write, is no part of the first key."""
        path = tmp_path / "study.yaml"
        path.write_bytes(b"\xef\xbb\xbf" + written(survey="wvs7", questions="[Q1]").encode())
        assert read_study(path, cards=CARDS).questions == ("Q1",)

    def test_unknown_survey(self, tmp_path: Path) -> None:
        """A survey that is neither bundled nor a folder is told with its line and the nearest name."""
        path = tmp_path / "study.yaml"
        path.write_text(written(survey="wvs8"), encoding="utf-8")
        with pytest.raises(StudyError, match=r"study\.yaml, line 2, survey: .*wvs8.*wvs7"):
            read_study(path, cards=CARDS)

    def test_bundled_survey(self, tmp_path: Path) -> None:
        """A study of the bundled survey asks its balanced subset in both cultures."""
        path = tmp_path / "study.yaml"
        path.write_text(written(survey="wvs7"), encoding="utf-8")
        read = read_study(path, cards=read_cards() | CARDS)
        assert read.survey.id == "wvs7"
        assert set(read.questions) | set(read.left_out) == {one.id for one in read.survey.questions if one.core}
        assert [cell.language for cell in read.cells()] == ["en", "zh"]


def test_json_schema() -> None:
    """Editors can be told what a study file may say: every key, its range and its words."""
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
    """Whoever wrote it meant something by it."""
    assert f"line 7, {key}: expected a value, or no such key, got nothing" in refusal(TEXT + f"{key}:\n")


def test_several_mistakes_are_counted() -> None:
    """The first in the file is told, and how many others there are."""
    told = refusal(written(participants="0", seed="-1"))
    assert told == "study.yaml, line 7, participants: expected a number of at least 1, got '0' (and 1 more problem)"


def test_heavy_libraries_stay_away() -> None:
    """To read a study, a command loads no model library, no statistics and no database."""
    heavy = ["torch", "transformers", "scipy", "sqlalchemy", "altair", "celery"]
    script = (
        "import sys\nfrom defsurvey.jobs.study import plan, preview, study\n"
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


class TestDocumentation:
    """What docs/study-file.md says is so."""

    PAGE = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")

    def test_examples(self, tmp_path: Path) -> None:
        """Every example on the page is a study; the first spells out the defaults but for its seed."""
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
        """The table has one row for each key that a study file may have, and no others."""
        rows = re.findall(r"^\| `([a-z_.0-9]+)` \| (?:needed|`|\d|\|)", self.PAGE, flags=re.MULTILINE)
        nested = [f"decoding.{key}" for key in Decoding.model_fields]
        assert sorted(rows) == sorted([*StudyFile.model_fields, *nested])

    def test_every_condition_has_a_row(self) -> None:
        """Every built-in condition is described."""
        table = self.PAGE.split("## Conditions")[1].split("Any other combination")[0]
        assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, flags=re.MULTILINE)) == set(BUILT_IN_CONDITIONS)


def test_paraphrases_are_an_axis_where_the_survey_has_some() -> None:
    """A condition of one's own draws them, is another design, and is refused where there are none to draw."""
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
