"""The plain dialect in which the sample documents are written, read into blocks.

A source file is a small part of Markdown: `#` headings, `- ` list items, `|` tables with one
header row, `> ` notes (speaker notes of a slide) and paragraphs of one line. Blank lines separate
blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; `level` 1 is the document's own title."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One line of running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Words for the speaker; printed documents leave them out."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, the header first; every row has as many cells as the header."""

    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Item | Note | Table


def blocks(source: str) -> Iterator[Block]:
    """Yield the blocks of `source` in order."""
    rows: list[tuple[str, ...]] = []
    for line in [*source.splitlines(), ""]:
        if line.startswith("|"):
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            if not all(set(cell) <= {"-"} for cell in cells):
                rows.append(cells)
            continue
        if rows:
            yield Table(tuple(rows))
            rows = []
        if line.strip():
            yield _line(line.strip())


def _line(line: str) -> Block:
    mark, _, rest = line.partition(" ")
    if mark and set(mark) == {"#"}:
        return Heading(rest, len(mark))
    match mark:
        case "-":
            return Item(rest)
        case ">":
            return Note(rest)
        case _:
            return Paragraph(line)
