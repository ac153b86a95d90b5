"""Codes of value dimensions and cultures: letters of any script, and a few signs between."""

from __future__ import annotations

import unicodedata

from defsurvey.storage.visible import characters

#: What is said of a dimension's code that is none.
DIMENSION_RULE = (
    "a code of letters and digits of any script, with '_', '.', '-', '/', ':', '&', '+', \"'\" or single spaces between"
)
#: What is said of a culture's code that is none.
CULTURE_RULE = "a code of letters and digits of any script, with '_', '.', '-' or ':' between"


def is_dimension(code: str) -> bool:
    """Whether it can be the code of a value dimension, as names in a table may give it: it is shown and exported.

    >>> is_dimension("Self expression"), is_dimension("I/R"), is_dimension("a  b"), is_dimension("=1")
    (True, True, False, False)
    """
    return _is_code(code, "_.-/:&+' ") and "  " not in code and not code.endswith(" ")


def is_culture(code: str) -> bool:
    """Whether it can be the code of a culture: it names tables within a report's page as well, so without spaces.

    >>> is_culture("中国"), is_culture("us:north"), is_culture("us north"), is_culture("../us")
    (True, True, False, False)
    """
    return _is_code(code, "_.-:")


def _is_code(code: str, signs: str) -> bool:
    """Whether it begins with a letter, a digit or ``_``, and goes on with such, marks on letters and these signs.

    Of invisible characters those may stand that spell a word, as a joiner in Persian.
    """
    if not code or not (code[0] == "_" or unicodedata.category(code[0])[0] in "LN"):
        return False
    return all(
        not hidden and (sign in signs or (kind := unicodedata.category(sign)) == "Cf" or kind[0] in "LMN")
        for sign, hidden in characters(code)
    )
