"""The dataset of Liu et al. (2025) as its authors' code expects it, in full size: questions and people are made up.

What is known of the real files is from the paper and from the published code, and is kept here: 613 and 540 questions;
of the Chinese ones the last 100 repeat earlier ones; which questions are lists; the three ways in which options are set
apart; codes that begin at 0; scores as percentages or as counts, with empty cells and questions that nobody reported;
respondents' columns of numbers written as decimals, with ``100`` for the lists that are repeated; files that do not
end with a line break; an older copy of questions under another name, rephrased questions and workbooks beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openpyxl
from numpy.typing import NDArray

DIMENSIONS = ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")
#: Part -> how many questions it has, and which are lists.
SIZES: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "US_survey": (613, (7, 8, 227, 228)),
    "CN_survey": (540, (7, 8, 210, 211, 212, 213)),
}
#: In the Chinese part the questions from this one on repeat earlier ones.
REPEATED_FROM = 441
#: Questions that no report has figures of.
UNREPORTED = {"US_survey": (55, 402), "CN_survey": (99,)}
_MISSING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    codes: tuple[int, ...]
    most: int  #: the number in brackets
    multiple: bool
    scale: bool
    repeats: int = 0  #: the number of the question that this one repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUpPart:
    name: str
    questions: tuple[MadeUp, ...]
    answers: Mapping[str, NDArray[np.int64]]  #: column of the respondents' files -> their codes
    sex: NDArray[np.int64]  #: 1 male, 2 female
    age: NDArray[np.int64]

    def shares(self, number: int) -> dict[int, float]:
        """What people answered to a question: shares of valid answers, of a list shares of people."""
        question = self.questions[number - 1]
        number = question.repeats or number
        if question.multiple:
            chosen = {code: self.answers[f"{number}-{code}"] for code in question.codes}
            asked = np.any([column > 0 for column in chosen.values()], axis=0).sum()
            return {code: float((column == 1).sum() / asked) for code, column in chosen.items()}
        column = self.answers[str(number)]
        valid = np.isin(column, question.codes).sum()
        return {code: float((column == code).sum() / valid) for code in question.codes}


def make_part(name: str, *, people: int, seed: int) -> MadeUpPart:
    rng = np.random.default_rng(seed)
    size, lists = SIZES[name]
    first = REPEATED_FROM if name == "CN_survey" else size + 1
    questions = [_question(number, number in lists, rng) for number in range(1, first)]
    further = max(size + 1 - first - 4, 0)
    repeated = [*range(210, 214), *rng.choice(np.arange(9, 210), further, replace=False).tolist()]
    for source in repeated if further else ():
        questions.append(replace(questions[source - 1], repeats=source))
    answers: dict[str, NDArray[np.int64]] = {}
    for number, question in enumerate(questions, start=1):
        if question.multiple:
            for code in () if question.repeats else question.codes:
                chosen = rng.random(people) < rng.uniform(0.05, 0.7)
                answers[f"{number}-{code}"] = np.where(chosen, 1, 2)
            if question.repeats:
                answers[str(number)] = np.full(people, 100)
        elif question.repeats:
            answers[str(number)] = answers[str(question.repeats)]
        else:
            weights = rng.dirichlet(np.full(len(question.codes) + 1, 2.0))
            answers[str(number)] = rng.choice([*question.codes, _MISSING], people, p=weights)
    return MadeUpPart(
        name=name,
        questions=tuple(questions),
        answers=answers,
        sex=rng.integers(1, 3, people),
        age=rng.integers(18, 90, people),
    )


def _question(number: int, multiple: bool, rng: np.random.Generator) -> MadeUp:
    if multiple:
        size = 11 if number == 7 else int(rng.integers(5, 10))
        return MadeUp(codes=tuple(range(1, size + 1)), most=size, multiple=True, scale=False)
    if number % 10 == 0:  # a scale; some begin at 0
        begin = 0 if number % 50 == 0 else 1
        return MadeUp(codes=tuple(range(begin, 11)), most=10, multiple=False, scale=True)
    size = int(rng.integers(2, 7))
    begin = 0 if number % 77 == 0 else 1
    return MadeUp(codes=tuple(range(begin, begin + size)), most=begin + size - 1, multiple=False, scale=False)


def questionnaire(part: MadeUpPart, language: str) -> str:
    """The text of a questionnaire, without a line break at its end."""
    return "\n".join(
        _line(question, question.repeats or number, language) for number, question in enumerate(part.questions, start=1)
    )


def _line(question: MadeUp, number: int, language: str) -> str:
    chinese = language == "zh"
    if question.scale:
        low, high = question.codes[0], question.codes[-1]
        asked = f"从{low}到{high}，事情{number}有多重要？"
        asked = asked if chinese else f"On a scale of {low} to {high}, how is {number}?"
        return f"[{question.most}] {asked}"
    if question.multiple:
        limit = ("最多选五项。" if chinese else "Choose up to five.") if number == 7 else ""
        any_of = "" if limit else ("可选多项。" if chinese else "Mark all that apply.")
        asked = f"下列哪些？{limit}{any_of}" if chinese else f"Which of these in list {number}? {limit}{any_of}"
    elif number == 3:
        asked = "在[COUNTRY]，您怎么看？" if chinese else "How are things in [COUNTRY] - and for you?"
    elif number == 12:
        asked = "那么在[PREVIOUS CHIOCE]之后呢？" if chinese else "And after [PREVIOUS CHIOCE]?"
    else:
        asked = f"您对事情{number}有什么看法？" if chinese else f"What do you think of thing {number}?"
    word = "答案" if chinese else "Answer"
    labels = {code: f"{word}{number}{chr(96 + code) if code else 'z'}" for code in question.codes}
    if number == 5:
        labels[question.codes[-1]] = "二到四次" if chinese else "2 to 4 times"
    if number % 3 == 0:
        return f"[{question.most}] {asked} - " + ". ".join(f"{code}: {label}" for code, label in labels.items())
    if number % 7 == 0 and not question.multiple:
        return f"[{question.most}] {asked} -" + ".".join(f"{code}.{label}" for code, label in labels.items())
    colon, comma = ("：", "，") if chinese and number % 2 else (": ", ", ")
    return f"[{question.most}] {asked} - " + comma.join(f"{code}{colon}{label}" for code, label in labels.items())


def scores(part: MadeUpPart, *, percentages: bool) -> str:
    """The reference scores: a row per question, a column per code, and column 12 for failures."""
    lines = ["," + ",".join(map(str, range(13))), "0" + ",0.0" * 13]
    for number in range(1, len(part.questions) + 1):
        question = part.questions[number - 1]
        cells = ["0.0" if code <= question.most else "" for code in range(13)]
        if number not in UNREPORTED[part.name]:
            whole = 100.0 if percentages else _respondents(part, question.repeats or number)
            for code, share in part.shares(number).items():
                cells[code] = f"{round(share * whole, 1 if percentages else 6)}"
        lines.append(f"{number},{','.join(cells)}")
    return "\n".join(lines) + "\n"


def _respondents(part: MadeUpPart, number: int) -> float:
    question = part.questions[number - 1]
    names = [f"{number}-{code}" for code in question.codes] if question.multiple else [str(number)]
    return float(np.any([np.isin(part.answers[name], [*question.codes, 2]) for name in names], axis=0).sum())


def _people(part: MadeUpPart, chosen: NDArray[np.bool_]) -> str:
    names = list(part.answers)
    table = np.stack([part.answers[name][chosen] for name in names], axis=1)
    rows = [",".join([str(place), *(f"{code:.1f}" if code != _MISSING else "" for code in row)])
            for place, row in enumerate(table.tolist())]  # fmt: skip
    return "\n".join([",".join(["", *names]), *rows]) + "\n"


def write_dataset(root: Path, parts: Sequence[MadeUpPart]) -> Path:
    """The files of the parts as the authors lay them out below one folder; the folder."""
    base = root / "survey_data" / "AECE_v1"
    (base / "preferences").mkdir(parents=True)
    for part in parts:
        american = part.name == "US_survey"
        files = {"en": "English", "zh": "zh_English"} if american else {"zh": "Chinese", "en": "en_Chinese"}
        for language, prefix in files.items():
            text = questionnaire(part, language)
            (base / f"{prefix}_questionaires.txt").write_bytes(
                (text.replace("\n", "\r\n") if american else text).encode("utf-8-sig" if language == "zh" else "utf-8")
            )
            (base / f"{prefix}_rephrased_questionaires.txt").write_text("[2] other words", encoding="utf-8")
        prefix = "usa" if american else "zh"
        path = base / "preferences" / f"{prefix}_ref_score_all.csv"
        path.write_text(scores(part, percentages=american), encoding="utf-8")
        folder = base / "Originals" / part.name
        for name in ("Characters", "result_database", "supplyment data/Character"):
            (folder / name).mkdir(parents=True)
        groups = {
            "all": part.age > 0,
            "male": part.sex == 1,
            "female": part.sex == 2,
            "29": part.age < 30,
            "30": (part.age >= 30) & (part.age < 50),
            "50": part.age >= 50,
        }
        for name, chosen in groups.items():
            (folder / "Characters" / f"final_{name}.csv").write_text(_people(part, chosen), encoding="utf-8")
        (folder / "supplyment data" / "Character" / "50.csv").write_text("1,1\n", encoding="utf-8")
        book = openpyxl.Workbook()
        assert book.active is not None
        book.active.append(["id", "question", "value type", "source"])
        for number in range(1, len(part.questions) + 1):
            book.active.append([number, f"question {number}", DIMENSIONS[number % 9], "WVS"])
        book.save(folder / "result_database" / "Question_type.xlsx")
        book.save(folder / "Character.xlsx")
    return root
