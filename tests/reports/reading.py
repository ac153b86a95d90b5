"""Reads a report's HTML with the standard library's parser, as a browser would see its structure."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

#: Elements that have no end.
VOID = {"meta", "link", "br", "hr", "img", "input"}
#: Elements whose end tag may be left out -> what ends them: the beginning of one of these, or the end of their parent.
IMPLIED = {
    "td": {"td", "th", "tr", "tbody", "thead"},
    "th": {"td", "th", "tr", "tbody", "thead"},
    "tr": {"tr", "tbody", "thead"},
}


@dataclass(kw_only=True)
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: "list[Element]" = field(default_factory=list)

    def find(self, tag: str) -> "list[Element]":
        found = [child for child in self.children if child.tag == tag]
        return found + [deeper for child in self.children for deeper in child.find(tag)]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element(tag="root", attributes={})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while tag in IMPLIED.get(self._open[-1].tag, ()):
            self._open.pop()
        element = Element(tag=tag, attributes={name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag=tag, attributes={n: v or "" for n, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while self._open[-1].tag in IMPLIED and self._open[-1].tag != tag:
            self._open.pop()
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def read(text: str) -> Element:
    """The tree of a whole document, every element closed."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader._open == [reader.root], f"never closed: {[element.tag for element in reader._open[1:]]}"
    return reader.root
