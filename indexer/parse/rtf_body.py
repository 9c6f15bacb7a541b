"""What a rich text says, in order: paragraphs, headings, tables, and the notes that follow their paragraph."""

import re
from dataclasses import dataclass, field

from indexer.parse import outline, tabular
from indexer.parse.encoding import clean
from indexer.parse.lines import BULLET
from indexer.parse.rtf_words import NOTE, REMARK, RUNNING
from pipeline.types import Element, ElementKind

_HEADING = re.compile(r"^(?:heading|标题|標題)\s*([1-9])\b", re.IGNORECASE)


@dataclass(slots=True)
class Paragraph:
    """A paragraph on its way, and what its control words said of it."""

    pieces: list[str] = field(default_factory=list)
    style: int | None = None
    level: int | None = None
    in_table: bool = False


class Body:
    """Takes texts and the ends of paragraphs, cells and rows; `elements` are what is whole.

    A note, a remark or a running line interrupts the paragraph that it stands in (`begin_inner`, `end_inner`).
    """

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.flow = Paragraph()
        self.author = ""
        self._outer: list[Paragraph] = []
        self._waiting: list[Element] = []
        self._rows: list[list[str]] = []
        self._cells: list[str] = []
        self._styles: dict[int, int] = {}

    @property
    def inside(self) -> bool:
        """Whether a note or the like is on its way."""
        return bool(self._outer)

    def name_style(self, number: int | None, name: str, level: int | None) -> None:
        """A style that is a heading by its name or its outline level, from 0."""
        named = _HEADING.match(name.strip())
        level = int(named[1]) - 1 if named else level
        if number is not None and level is not None and 0 <= level < 9:
            self._styles[number] = level

    def begin_inner(self) -> None:
        """A paragraph within the one on its way."""
        self._outer.append(self.flow)
        self.flow = Paragraph()

    def end_inner(self, destination: str) -> None:
        """It is over: the paragraph that it stood in goes on."""
        self.end_paragraph(destination)
        self.flow = self._outer.pop()

    def end_paragraph(self, destination: str) -> None:
        """What was said since the last end becomes an element, or a line of a cell."""
        flow = self.flow
        if flow.in_table and not self._outer:
            flow.pieces.append("\n")  # a cell of several paragraphs
            return
        text = _paired("".join(flow.pieces))
        flow.pieces.clear()
        if self._outer:
            self._keep_inner(text, destination)
            return
        if not text.strip() and not self._waiting:
            return
        self._end_table()
        level = flow.level if flow.level is not None else self._styles.get(flow.style or -1)
        if level is not None and 0 <= level < 9:
            heading = outline.one_line(text)
            self.elements.append(Element(heading, ElementKind.HEADING, level=level + 1))
        else:
            item = BULLET.match(text.strip())
            kind = ElementKind.LIST_ITEM if item else ElementKind.PARAGRAPH
            self.elements.append(Element(outline.tidy(text), kind))
        self.elements += self._waiting
        self._waiting.clear()

    def end_cell(self) -> None:
        """What was said is a cell of the row on its way."""
        self._cells.append("".join(self.flow.pieces))
        self.flow.pieces.clear()

    def end_row(self) -> None:
        """The cells so far are a row."""
        if self._cells:
            self._rows.append(self._cells)
        self._cells = []

    def end(self, destination: str) -> None:
        """The text is over, even in the middle of a note or a table."""
        while self._outer:
            self.end_inner(NOTE)
        self.flow.in_table = False
        self.end_paragraph(destination)
        self._end_table()

    def _keep_inner(self, text: str, destination: str) -> None:
        if not (tidied := outline.tidy(text)):
            return
        if destination == RUNNING:
            self.elements.append(Element(tidied, ElementKind.FURNITURE))
        elif destination == REMARK and self.author:
            self._waiting.append(Element(f"{self.author}: {tidied}"))
        else:
            self._waiting.append(Element(tidied))

    def _end_table(self) -> None:
        self.end_row()
        if self._rows:
            self.elements += tabular.table([[_paired(cell) for cell in row] for row in self._rows])
            self._rows = []


def _paired(text: str) -> str:
    """Two halves of a character beyond the first 65,536 come as two `\\u` words."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return clean(whole)
