"""The study file: what it may say, what follows from it, and what is said when it is wrong."""

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
from defsurvey.storage.surveys.survey import Paraphrase, Survey
from defsurvey.workers.models import read_cards
from tests.jobs.small_study import CARDS, SURVEY, TEXT, study, written

ROOT = Path(__file__).parents[2]


def refusal(text: str, survey: Survey = SURVEY) -> str:
    """The message with which a study file is refused."""
    with pytest.raises(StudyError) as caught:
        parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=survey)
    return str(caught.value)


def test_a_file_with_the_needed_keys_is_the_papers_def() -> None:
    """With 20 participants, each asked natively."""
    read = study()
    assert (read.name, read.models, read.cultures, read.languages) == (
        "first",
        ("tiny-model",),
        ("us", "cn"),
        ("native",),
    )
    assert (read.conditions, read.participants, read.text) == ((Condition(name="def"),), 20, TEXT)
    assert read.protocol == Protocol(seed=0)


def test_every_optional_key_arrives_where_it_belongs() -> None:
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
    assert (read.languages, read.participants) == (("en", "zh"), 3)
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


def test_the_preset_of_the_code_has_the_top_k_of_the_library() -> None:
    """The published code leaves it to the library, which takes 50; a study can say otherwise, in either preset."""
    assert study(preset="code").protocol.top_k == 50
    assert study(preset="code", decoding="{top_k: 0}").protocol.top_k == 0
    assert study(decoding="{top_k: 50}").protocol.top_k == 50


def test_conditions_are_built_in_or_named_by_their_axes() -> None:
    """The built-in names switch off what they say, and ``none`` shows options in the survey's order."""
    read = study(conditions="[def, none, def-without-prompt, def-without-config, def-without-memory]")
    assert {one.name: (one.prompt, one.config, one.memory, one.option_order) for one in read.conditions} == {
        "def": (True, True, True, None),
        "none": (False, False, False, False),
        "def-without-prompt": (False, True, True, None),
        "def-without-config": (True, False, True, None),
        "def-without-memory": (True, True, False, None),
    }
    read = study(conditions="{def: , still: {memory: false, config: false}, turned: {option_order: true}}")
    still, turned = Condition(name="still", config=False, memory=False), Condition(name="turned", option_order=True)
    assert read.conditions == (Condition(name="def"), still, turned)


def test_a_name_given_beside_the_file_goes_before_the_files_which_needs_none_then() -> None:
    for text in (TEXT, written(name=None)):
        assert parse_study(text, path=Path("s.yaml"), cards=CARDS, survey=SURVEY, name="second").name == "second"


def test_a_pilot_is_the_first_participants_of_the_same_design() -> None:
    whole = study(participants="5")
    assert (whole.pilot(2).participants, whole.pilot(9).participants) == (2, 5)
    assert whole.pilot(2).fingerprint() == whole.fingerprint()
    for participants in (0, -1):
        with pytest.raises(StudyError, match="participants: expected a whole number of at least 1"):
            whole.pilot(participants)


@pytest.mark.parametrize(
    ("changes", "asked", "left_out"),
    [
        ({"cultures": "[us]"}, "Q1 Q2 Q3 Q4", ""),
        ({}, "Q1 Q2 Q4", "Q3"),
        ({"questions": "all", "language": "en"}, "Q1 Q2 Q4 Q5", "Q3 Q6"),
        ({"questions": "[Q4, Q1]"}, "Q1 Q4", ""),
    ],
)
def test_the_same_questions_are_asked_in_every_culture(changes: dict[str, str], asked: str, left_out: str) -> None:
    """In the survey's order, less what was not asked of people in some culture, and that is told."""
    read = study(**changes)
    assert (" ".join(read.questions), " ".join(read.left_out)) == (asked, left_out)


def test_a_sample_is_drawn_by_the_seed() -> None:
    """Each question once, in survey order; all seeds together reach every one."""
    drawn = [study(questions="{sample: 2}", language="en", seed=str(seed)).questions for seed in range(40)]
    assert set(drawn) == {("Q1", "Q2"), ("Q1", "Q4"), ("Q1", "Q5"), ("Q2", "Q4"), ("Q2", "Q5"), ("Q4", "Q5")}
    assert study(questions="{sample: 2}", language="en", seed="3").questions == drawn[3]


def test_baselines_are_counted_as_they_are_asked() -> None:
    """A panel is one participant with twenty answers to each question; a chain takes eight completions."""
    read = study(conditions="[def, cao2023, ccsv-single, ccsv-list, first-token]", cultures="[us]", participants="5")
    number = len(read.questions)
    assert [(c.condition.name, c.participants, read.answers(c), read.completions(c)) for c in read.cells()][:4] == [
        ("def", 5, 5 * number, 5 * number),
        ("cao2023", 5, 5 * number, 5 * number),
        ("ccsv-single", 5, 5 * number, 40 * number),
        ("ccsv-list", 1, 20 * number, 8 * number),
    ]
    weighed = read.cells()[4]  # option probabilities are no answers
    assert (weighed.participants, read.answers(weighed), read.answers()) == (1, 0, 35 * number)
    assert [len(cell.draws) for cell in new_run(read).cells] == [5, 5, 5, 1, 1]


def test_cells_go_by_model_culture_condition_and_language() -> None:
    """A native language that was named too is asked once."""
    read = study(models="[human, tiny-model]", conditions="[none, def]", language="[en, native]")
    assert read.cells() == tuple(
        Cell(id=0, model=model, culture=culture, condition=condition, language=language, participants=20)
        for model in ("human", "tiny-model")
        for culture, languages in (("us", ("en",)), ("cn", ("en", "zh")))
        for condition in (BUILT_IN_CONDITIONS["none"], BUILT_IN_CONDITIONS["def"])
        for language in languages
    )


@pytest.mark.parametrize(
    ("same", "changes"),
    [
        (True, {"name": "other", "models": "[human, tiny-model]", "participants": "3"}),
        (True, {"cultures": "[cn, us]", "language": "[native]", "decoding": "{temperature: 1}", "reply": "full"}),
        (False, {"questions": "[Q1, Q2]"}),
        (False, {"conditions": "[none]"}),
        (False, {"seed": "1"}),
        (False, {"reply": "choice"}),
        (False, {"decoding": "{temperature: 0.9}"}),
    ],
)
def test_what_two_runs_of_one_design_share(changes: dict[str, str], *, same: bool) -> None:
    """All but name, models, participants and the way of writing the same thing; of a condition, its axes."""
    assert (study(**changes).fingerprint() == study().fingerprint()) == same
    one, other = (study(conditions=f"{{mine: {{memory: {on}}}}}") for on in ("true", "false"))
    assert one.fingerprint() != other.fingerprint()


WRONG_VALUES = [
    ({"cultures": "[us, xx]"}, "line 4, cultures[2]", "expected one of us, cn, no, got 'xx'"),
    ({"cultures": "[us, us]"}, "line 4, cultures[2]", "every name once, got 'us' again"),
    ({"models": "[tiny-modle]"}, "line 5, models[1]", "got 'tiny-modle' (did you mean 'tiny-model'?)"),
    ({"conditions": "{none: {memory: true}}"}, "line 6, conditions.none", "nothing behind a built-in condition"),
    ({"conditions": "{mine: {memroy: false}}"}, "conditions.mine.memroy", "(did you mean 'memory'?)"),
    ({"questions": "corr"}, "line 3, questions", "core, all, a list of question ids, or {sample: N}, got 'corr' (did"),
    ({"questions": "[Q1, Q22]"}, "line 3, questions[2]", "got 'Q22' (did you mean 'Q2'?)"),
    ({"questions": "[Q1, Q3]"}, "line 3, questions[2]", "reference distribution for culture cn, got 'Q3'"),
    ({"questions": "[Q5]"}, "line 3, questions[1]", "a wording in zh, got none of Q5"),
    ({"cultures": "[us, no]", "language": "en"}, "line 3, questions", "for culture no, got none among the 4 chosen"),
    ({"cultures": "[cn, no]", "language": "en", "questions": "all"}, "line 3, questions", "each of cn, no, got none"),
    ({"questions": "{}"}, "line 3, questions", "a key 'sample', got none"),
    ({"questions": "{sample: 5}", "language": "en"}, "line 3, questions", "a sample of at most 4"),
    ({"language": "no"}, "line 7, language", "a language with a prompt (en, zh), got 'no'"),
    ({"participants": "0"}, "line 7, participants", "a number of at least 1, got '0'"),
    ({"participants": "true"}, "line 7, participants", "a whole number, got 'true'"),
    ({"seed": "9223372036854775808"}, "line 7, seed", "a number of at most 9223372036854775807"),
    ({"memory_order": "chronologic"}, "line 7, memory_order", "(did you mean 'chronological'?)"),
    ({"decoding": "{temperature: 0}"}, "decoding.temperature", "a number above 0, got '0'"),
    ({"decoding": "{top_p: 1.01}"}, "decoding.top_p", "a number of at most 1, got '1.01'"),
    ({"decoding": "{num_beams: 3}"}, "decoding.num_beams", "temperature, top_p, top_k, do_sample, max_new_tokens"),
    ({"name": "My Run"}, "line 1, name", "lower-case letters, digits, '-', '_' and '.'"),
    ({"partcipants": "3"}, "line 7, partcipants", "(did you mean 'participants'?)"),
    ({"judge": "{model: human}"}, "line 7, judge.model: expected a model that reads prompts", "a scripted respondent"),
    ({"judge": "{model: tiny-model}", "reply": "choice"}, "line 7, judge", "no judge beside reply: choice"),
    ({"judge": "{model: tiny-model, sample: 1.5}"}, "line 7, judge.sample", "a number of at most 1, got '1.5'"),
]


@pytest.mark.parametrize(("changes", "place", "told"), WRONG_VALUES)
def test_a_wrong_value_is_told_with_file_line_key_expected_and_got(
    changes: dict[str, str], place: str, told: str
) -> None:
    message = refusal(written(**changes))
    assert message.startswith("study.yaml, line ")
    assert place in message
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (written(survey=None), "study.yaml, line 1: expected a key 'survey', got none"),
        (TEXT + "cultures: [us]\n", "line 7: expected every key once, got 'cultures' again, first on line 4"),
        (TEXT + "budget:\n", "line 7, budget: expected a value, or no such key, got nothing"),
        (written(participants="0", seed="-1"), "expected a number of at least 1, got '0' (and 1 more problem)"),
        # a culture whose own language has no prompt cannot be asked natively, nor one in what it has no name in
        (
            written(cultures="[no]", questions="[Q6]"),
            "a language with a prompt (en, zh), got 'no', the native one of no",
        ),
        (written(cultures="[no]", questions="[Q6]", language="native"), "line 7, language: expected a language with a"),
        (written(cultures="[no]", questions="[Q6]", language="zh"), "survey small names culture no, got 'zh'"),
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
def test_a_wrong_file_is_told_with_its_line(text: str, told: str) -> None:
    assert told in refusal(text)


def test_an_unknown_key_is_told_with_all_there_are() -> None:
    """The dozen that are named and the others that are counted, each once."""
    told = refusal(TEXT + "particpants: 3\n")
    assert "'particpants' (did you mean 'participants'?)" in told
    listed = told.partition("expected one of the keys ")[2].partition(", got")[0]
    named, _, more = listed.partition(" and ")
    assert len(set(named.split(", "))) + int(more.split()[0]) == len(StudyFile.model_fields)


def test_an_option_without_a_label_in_the_language_is_told() -> None:
    options = (SURVEY.questions[0].options[0], replace(SURVEY.questions[0].options[1], label={"en": "choice 2"}))
    survey = replace(SURVEY, questions=(replace(SURVEY.questions[0], options=options),))
    assert "a label in zh, got none of option 2 of Q1" in refusal(TEXT, survey)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"study\.yaml: expected a study file, got no such file"),
        (b"name: first\nsurvey: d\xe9mo\n", r"study\.yaml, line 2: expected text in UTF-8, got the byte 0xe9"),
        (written(survey="wvs8").encode(), r"study\.yaml, line 2, survey: .*wvs8.*wvs7"),
    ],
)
def test_a_file_on_disk_that_is_none(content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "study.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=told):
        read_study(tmp_path / "study.yaml", cards=CARDS)


def test_a_file_on_disk_asks_the_bundled_surveys_core(tmp_path: Path) -> None:
    """A byte order mark, which some editors write, is no part of the first key."""
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + written(survey="wvs7").encode())
    read = read_study(path, cards=CARDS)
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


def test_to_read_a_study_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "scipy", "sqlalchemy", "altair", "celery"]
    imports = "import sys\nfrom defsurvey.jobs.study import plan, preview, study\n"
    script = f"{imports}print([module for module in {heavy} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_what_the_page_on_study_files_says_is_so(tmp_path: Path) -> None:
    """Its examples are studies; every key and every built-in condition has a row."""
    page = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    whole, axes = (parse_study(text, path=tmp_path / "doc.yaml", cards=read_cards()) for text in blocks)
    assert (whole.protocol, whole.participants, len(axes.questions)) == (Protocol(seed=20250314), 20, 30)
    assert axes.conditions[1:] == (
        Condition(name="memory-alone", prompt=False, config=False),
        Condition(name="shuffled", option_order=True),
    )
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \| (?:needed|`|\d|\|)", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted([*StudyFile.model_fields, *(f"decoding.{key}" for key in Decoding.model_fields)])
    table = page.split("## Conditions")[1].split("Any other combination")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, flags=re.MULTILINE)) == set(BUILT_IN_CONDITIONS)


def test_paraphrases_are_an_axis_where_the_survey_has_some() -> None:
    """A condition of one's own draws them, is another design, and is refused where there are none to draw."""
    text = written(conditions="{worded: {paraphrase: true}}")
    assert "line 6, conditions: expected a survey with paraphrases in en for condition worded" in refusal(text)
    some = tuple(Paraphrase(question="Q1", number=1, language=code, text="Other?", model="m") for code in ("en", "zh"))
    assert "paraphrases in zh" in refusal(text, replace(SURVEY, paraphrases=some[:1]))
    read = parse_study(text, path=Path("study.yaml"), cards=CARDS, survey=replace(SURVEY, paraphrases=some))
    assert [condition.paraphrase for condition in read.conditions] == [True]
    without = replace(read, conditions=(replace(read.conditions[0], paraphrase=False),))
    assert read.fingerprint() != without.fingerprint()
    assert "paraphrase" not in json.dumps(without.design())
