"""YAML files read into models: every mistake is told with file, line and key."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from defsurvey.storage.surveys.problem import Fault
from defsurvey.storage.surveys.yaml_models import Flag, Number, Text, Whole, YamlFile, YamlModel, mistakes


class Drink(YamlModel):
    """A mapping within the file."""

    name: Text
    kind: Literal["hot", "cold"] = "hot"
    cups: Annotated[Whole, Field(ge=1)] = 1


class Menu(YamlModel):
    """The file."""

    title: Text
    open: Flag = True
    price: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = 1.0
    start: Whole = Field(default=1, alias="from")
    drinks: tuple[Drink, ...] = ()
    words: dict[str, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_name_twice(self) -> "Menu":
        names = [drink.name for drink in self.drinks]
        again = [place for place, name in enumerate(names) if name in names[:place]]
        if again:
            raise mistakes(*((("drinks", place, "name"), "every name once", None) for place in again))
        return self


GOOD = "title: No\nopen: no\nfrom: 3\nprice: 2.5\ndrinks:\n- {name: tea, kind: hot}\n- {name: cola, cups: 2}\n"

#: text instead of a part of the good file, and what the message must say
MISTAKES = [
    ("title: No", "title:", "menu.yaml, line 1, title: expected a text, got nothing"),
    ("title: No", 'title: "a\\e"', "menu.yaml, line 1, title: expected a text without control characters, got"),
    ("title: No", "titel: No", "menu.yaml, line 1, titel: expected one of the keys title, open, price, from, drinks,"),
    ("title: No", "titel: No", "got 'titel' (did you mean 'title'?)"),
    ("title: No\n", "", "menu.yaml, line 1: expected a key 'title', got none"),
    ("open: no", "open: maybe", "menu.yaml, line 2, open: expected true or false, got 'maybe'"),
    ("from: 3", "from: 1_0", "menu.yaml, line 3, from: expected a whole number, got '1_0'"),
    ("from: 3", "from: [3]", "menu.yaml, line 3, from: expected a whole number, got a list"),
    ("from: 3", "from:", "menu.yaml, line 3, from: expected a whole number, got nothing"),
    ("price: 2.5", "price: 0", "menu.yaml, line 4, price: expected a number above 0"),
    ("price: 2.5", "price: 1e999", "menu.yaml, line 4, price: expected a number, got '1e999'"),
    ("cups: 2", "cups: 0", "menu.yaml, line 7, drinks[2].cups: expected a number of at least 1, got '0'"),
    ("kind: hot", "kind: hott", "line 6, drinks[1].kind: expected one of hot, cold, got 'hott' (did you mean"),
    ("name: cola", "name: tea", "menu.yaml, line 7, drinks[2].name: expected every name once, got 'tea'"),
    ("- {name: cola, cups: 2}", "- cola", "menu.yaml, line 7, drinks[2]: expected a mapping, got 'cola'"),
    ("open: no", "title: no", "menu.yaml, line 2: expected every key once, got 'title' again, first on line 1"),
    ("open: no", "words: {a: }", "menu.yaml, line 2, words.a: expected a text, got nothing"),
    ("open: no", "words: &a {b: *a}", "menu.yaml, line 2, words.b: expected a text, got a mapping"),
    (GOOD[GOOD.index("drinks:") :], "drinks: tea", "expected a list, got 'tea'"),
]


def test_texts_are_taken_as_written() -> None:
    """Scalars are texts, and what they mean is the model's."""
    menu = YamlFile("menu.yaml", GOOD).read(Menu)
    assert (menu.title, menu.open, menu.start, menu.price) == ("No", False, 3, 2.5)
    assert [(drink.name, drink.cups) for drink in menu.drinks] == [("tea", 1), ("cola", 2)]


@pytest.mark.parametrize(("old", "new", "told"), MISTAKES)
def test_a_mistake_is_told_where_it_stands(old: str, new: str, told: str) -> None:
    """By file, line, key, what was expected and what was got."""
    with pytest.raises(Fault) as caught:
        YamlFile("menu.yaml", GOOD.replace(old, new)).read(Menu)
    assert told in str(caught.value)


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    """Also where the model has them in another."""
    with pytest.raises(Fault) as caught:
        YamlFile("menu.yaml", GOOD.replace("cups: 2", "cups: x").replace("from: 3", "from: x")).read(Menu)
    assert [problem.field for problem in caught.value.problems] == ["from", "drinks[2].cups"]
    assert str(caught.value).endswith("(and 1 more problem)")
