"""From an Altair specification to SVG that belongs to its page.

The same specification gives the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unicodedata import east_asian_width
from xml.etree import ElementTree

from defsurvey.reports.untrusted import visible

#: Colours as the specification knows them -> what the page calls them.
PALETTE: Mapping[str, str] = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--line)",
    "#040404": "var(--floor)",
    "#050505": "var(--paper)",
    "#060601": "var(--series-1)",
    "#060602": "var(--series-2)",
    "#060603": "var(--series-3)",
    "#060604": "var(--series-4)",
    "#060605": "var(--series-5)",
    "#060606": "var(--series-6)",
}
INK, SOFT, LINE, FLOOR, PAPER, *SERIES = PALETTE
#: A shape beside every colour, so that colour alone tells nothing.
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
#: Height of one row of a chart, in CSS pixels.
ROW = 26
#: Width of a drawing with its labels, where that leaves enough for the drawing itself.
WIDTH = 440
#: Widest label that is written out whole, in narrow characters.
LONGEST = 32

#: What a mark needs: the names of its fields and their values.
Row = dict[str, Any]
#: What axes with figures look like.
AXIS = {
    "tickCount": 5,
    "gridColor": LINE,
    "domain": False,
    "ticks": False,
    "labelColor": SOFT,
    "titleColor": SOFT,
    "titleFontWeight": "normal",
}

_SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
#: Attributes that say what is so anyway, or speak to a reader who is told by titles instead.
_NOISE = {
    "role",
    "aria-roledescription",
    "aria-hidden",
    "pointer-events",
    "stroke-miterlimit",
    "font-family",
    "class",
    "display",
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawing, which is drawn when it is first looked at: a page in Markdown shows none."""

    name: str  #: unique in its report; part of the ids within the drawing
    title: str  #: what stands above it
    description: str  #: what a reader who cannot see it is told
    make: Callable[[], Any] = field(repr=False, compare=False)  #: gives the Altair chart, without a configuration

    def __post_init__(self) -> None:
        for text in ("title", "description"):
            object.__setattr__(self, text, visible(getattr(self, text)))

    @cached_property
    def svg(self) -> str:
        """The drawing, with invisible characters written out: one that XML cannot hold would end the process."""
        import vl_convert
        from altair.utils.schemapi import debug_mode

        with debug_mode(False):  # what comes out is checked, not every part on its way
            specification = _seen(self.make().to_dict(validate=False))
        specification["config"] = {
            "background": "transparent",
            "padding": 2,
            "view": {"stroke": None},
            "axis": {"labelFontSize": 12, "titleFontSize": 12},
        }
        return settle(vl_convert.vegalite_to_svg(specification), self.name, f"{self.title}. {self.description}")


def _seen(part: Any) -> Any:
    """A specification, or a part of one, without invisible characters in any text."""
    if isinstance(part, str):
        return visible(part)
    if isinstance(part, Mapping):
        return {_seen(name): _seen(value) for name, value in part.items()}
    return [_seen(one) for one in part] if isinstance(part, (list, tuple)) else part


def warm() -> None:
    """Load what draws: the first drawing of a process takes half a second longer than the next."""
    import altair as alt

    nothing = Chart(name="warm", title="", description="", make=lambda: alt.Chart({"values": [{}]}).mark_point())
    assert nothing.svg


def settle(svg: str, name: str, label: str) -> str:
    """Give a drawing the page's colours and type, its own ids, and titles that show on hover."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - vl-convert's own output, no document from outside
    width, height = root.attrib["width"], root.attrib["height"]
    with_ids = [element for element in root.iter() if "id" in element.attrib]
    ids = {element.attrib["id"]: f"{name}-{place}" for place, element in enumerate(with_ids)}
    for child in list(root):
        _slim(root, child, ids)
    root.attrib = {
        "class": "chart",
        "viewBox": f"0 0 {_short(width)} {_short(height)}",
        "style": f"max-width:{_short(width)}px",
        "role": "group",
        "aria-label": label,
    }
    root.tag = "svg"
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True).replace(" />", "/>")


def _slim(parent: ElementTree.Element, element: ElementTree.Element, ids: Mapping[str, str]) -> None:
    """Leave out what is not seen, name what is, and lift the content of groups that do nothing."""
    element.tag = element.tag.removeprefix(_SVG)
    spoken = element.attrib.get("role") == "graphics-symbol" and element.tag != "g"
    label = element.attrib.pop("aria-label", "") if spoken else ""
    unseen = element.attrib.get("display") == "none" or element.attrib.get("class") in ("background", "foreground")
    element.attrib = {key: _value(key, value, ids) for key, value in element.attrib.items() if key not in _NOISE}
    element.attrib.pop("aria-label", None)
    if element.attrib.get("opacity") == "1":
        del element.attrib["opacity"]
    element.tail = None
    if unseen and "fill" not in element.attrib:
        parent.remove(element)
        return
    for child in list(element):
        _slim(element, child, ids)
    if label:
        element.set("role", "img")
        ElementTree.SubElement(element, "title").text = label
    if element.tag == "g" and (
        not element.attrib or not len(element) or element.attrib.get("transform") == "translate(0,0)"
    ):
        _lift(parent, element)


def _lift(parent: ElementTree.Element, element: ElementTree.Element) -> None:
    """Put a group's content in its place, where the group itself changes nothing."""
    if len(element) and set(element.attrib) - {"transform"}:
        return
    place = list(parent).index(element)
    parent.remove(element)
    for offset, child in enumerate(list(element)):
        parent.insert(place + offset, child)


def _value(key: str, value: str, ids: Mapping[str, str]) -> str:
    if value in PALETTE:
        return PALETTE[value]
    if key == "id":
        return ids[value]
    if value.startswith("url(#"):
        return f"url(#{ids[value[5:-1]]})"
    return _NUMBER.sub(lambda found: _short(found[0]), value)


def _short(number: str) -> str:
    return f"{float(number) or 0.0:.1f}".removesuffix(".0")


def turn(place: int, of: int) -> int:
    """Where a series stands among that many shapes: one further wherever colours begin anew.

    >>> [turn(place, 6) for place in (0, 5, 6, 11, 12)]
    [0, 5, 1, 0, 2]
    """
    return (place + place // len(SERIES)) % of


def look(place: int) -> tuple[str, str]:
    """Colour and shape of a series by its place; no two of 36 have both in common."""
    return SERIES[place % len(SERIES)], SHAPES[turn(place, len(SHAPES))]


def layer(alt: Any, rows: Sequence[Row]) -> Any:
    """What marks are made of."""
    return alt.Chart(alt.InlineData(values=rows))


def looks(alt: Any, field: str, looking: Mapping[str, int]) -> tuple[Any, Any]:
    """Colour and shape of every value of a field, by its place among the series."""
    colours, shapes = zip(*(look(place) for place in looking.values()), strict=True)
    domain = list(looking)
    return (
        alt.Color(f"{field}:N", scale=alt.Scale(domain=domain, range=list(colours)), legend=None),
        alt.Shape(f"{field}:N", scale=alt.Scale(domain=domain, range=list(shapes)), legend=None),
    )


def width_of(label: str) -> int:
    """How wide a label is, in narrow characters: the page's font is not known where the chart is drawn."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in label)


def room_for(labels: Iterable[str], size: float = 6.9) -> float:
    """Room for labels as :func:`shortened` leaves them, counted out."""
    return 16 + size * max((min(width_of(label), LONGEST) for label in labels), default=0)


def shortened(names: Sequence[str]) -> list[str]:
    """Names as labels, each as short as leaves room for a drawing.

    Of longer ones the middle is left out, since beginnings and ends tell models apart. Different names that would then
    look alike are numbered.

    >>> shortened(["m", "a" * 30 + "b" * 30])
    ['m', 'aaaaaaaaaaaaaaaa…bbbbbbbbbbbbbbb']
    """
    cut = {name: _without_middle(name, LONGEST) for name in names}
    alike = Counter(cut.values())
    numbers: Counter[str] = Counter()
    for name, label in cut.items():
        if alike[label] > 1 and name != label:
            numbers[label] += 1
            number = f" {numbers[label]}"
            cut[name] = _without_middle(name, LONGEST - len(number)) + number
    return [cut[name] for name in names]


def _without_middle(name: str, most: int) -> str:
    if width_of(name) <= most:
        return name
    end = _beginning(name[::-1], (most - 1) // 2)[::-1]
    return f"{_beginning(name, most - 1 - width_of(end))}…{end}"


def _beginning(name: str, most: int) -> str:
    """As much of a name as is no wider than that."""
    length = 0
    while width_of(name[: length + 1]) <= most:
        length += 1
    return name[:length]


def width_beside(room: float) -> int:
    """How wide a drawing is beside labels that need so much room."""
    return round(min(max(WIDTH - room, 240), 370))
