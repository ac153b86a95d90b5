"""Official files of the World Values Survey as they would look, made from distributions that a test knows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"
#: Variant -> its header's file, delimiter, whether every field is quoted, and whether a byte order mark comes first.
VARIANTS = {
    "country v6": ("wvs7_country_v6.txt", ";", True, True),
    "cross-national v5": ("wvs7_crossnational_v5.txt", ",", False, False),
    "cross-national v6, subset": ("wvs7_crossnational_v6_subset.txt", ",", True, False),
}
ALPHA3 = {"840": "USA", "156": "CHN", "392": "JPN", "566": "NGA", "724": "ESP"}

Row = dict[str, str]


def header_of(variant: str) -> list[str]:
    """The names of the variables of a variant, in the order of the official file."""
    return (FIXTURES / VARIANTS[variant][0]).read_text(encoding="utf-8").split()


def write_official(path: Path, variant: str, rows: Sequence[Mapping[str, str]]) -> Path:
    """A file of that variant; variables that a row does not have are "not asked" (-4)."""
    _, delimiter, quoted, mark = VARIANTS[variant]
    return write_rows(path, header_of(variant), rows, delimiter=delimiter, quoted=quoted, mark=mark)


def write_rows(
    path: Path,
    names: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    *,
    delimiter: str,
    quoted: bool = False,
    mark: bool = False,
) -> Path:
    quote = '"' if quoted else ""

    def line(cells: Sequence[str]) -> str:
        return delimiter.join(f"{quote}{cell}{quote}" for cell in cells)

    lines = [line(names), *(line([row.get(name, "-4") for name in names]) for row in rows)]
    path.write_text(("\ufeff" if mark else "") + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def person(rng: np.random.Generator, country: str) -> Row:
    """A respondent without answers: country, weight, sex, age, and the group of age three times out of four."""
    age = int(rng.integers(16, 90))
    return {
        "B_COUNTRY": country,
        "B_COUNTRY_ALPHA": ALPHA3[country],
        "W_WEIGHT": f"{rng.lognormal(0, 0.5):.10f}",
        "Q260": str(rng.choice(["1", "2", "2", "-2"])),
        "Q262": str(age),
        "X003R2": ("1" if age < 30 else "2" if age < 50 else "3") if rng.random() < 0.75 else "-5",
        "N_REGION_ISO": str(rng.choice([f"{country}004", f"{country}005", "-2"])),
    }


def shares_of(
    rows: Sequence[Mapping[str, str]], column: str, valid: Sequence[str], *, sex: str = "", ages: range = range(200)
) -> tuple[dict[str, float], int]:
    """Weighted shares of the valid codes of a column among some respondents, counted one by one, and their number."""
    weights = dict.fromkeys(valid, 0.0)
    n = 0
    for row in rows:
        if row[column] in weights and (not sex or row["Q260"] == sex) and int(row["Q262"]) in ages:
            weights[row[column]] += float(row["W_WEIGHT"])
            n += 1
    whole = sum(weights.values())
    return {code: weight / whole for code, weight in weights.items()}, n
