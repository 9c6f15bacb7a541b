"""The stored text of a version: made once from its elements, never changed, and the place of every part of it."""

import json
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from indexer.text.joined import continued
from pipeline.rows import Table, named
from pipeline.types import Box, Element, ElementKind, Grid, Parsed, TableRows


@dataclass(frozen=True, slots=True)
class Placed:
    """An element and where it stands: `text[start:end]` is its text."""

    element: Element
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored text and its elements in order; running headers and page numbers come behind the body."""

    text: str
    placed: tuple[Placed, ...]


def store(parsed: Parsed) -> Stored:
    """Join the elements; furniture goes to the end, so that a sentence that crosses a page stays whole.

    Tables get their numbers, and a grid where the parser gave none; a header that repeats on the next page is left out.
    """
    body = continued(e for e in parsed.elements if e.kind is not ElementKind.FURNITURE)
    furniture = [e for e in parsed.elements if e.kind is ElementKind.FURNITURE]
    text: list[str] = []
    placed: list[Placed] = []
    length = 0
    tables = 0
    last: Element | None = None
    for element in [*body, *furniture]:
        if element.kind is ElementKind.TABLE:
            grid = _grid(element)
            tables += not grid.repeated
            element = replace(element, grid=replace(grid, number=tables))
        if last is not None:
            items = last.kind is element.kind is ElementKind.LIST_ITEM
            gap = "\n" if items else "\n\n"
            text.append(gap)
            length += len(gap)
        text.append(element.text)
        placed.append(Placed(element, length, length + len(element.text)))
        length += len(element.text)
        last = element
    return Stored("".join(text), tuple(placed))


def _grid(element: Element) -> Grid:
    if element.grid is not None:
        return element.grid
    lines = element.text.split("\n")
    width = max(line.count("|") for line in lines) + 1
    return Grid(
        tuple(range(1, len(lines) + 1)),
        tuple(range(1, width + 1)),
        named(element.columns),
        header=1 if element.columns else 0,
    )


def encode_layout(placed: Sequence[Placed]) -> bytes:
    """Compact JSON, compressed: what `decode_layout` reads."""
    rows = [
        [
            p.start,
            p.end,
            p.element.kind.value,
            p.element.page,
            p.element.level,
            list(p.element.heading),
            list(p.element.columns),
            [[b.page, *(round(v, 4) for v in (b.x0, b.y0, b.x1, b.y1))] for b in p.element.boxes],
            None if p.element.grid is None else grid_json(p.element.grid),
            list(p.element.starts),
        ]
        for p in placed
    ]
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())


def decode_layout(text: str, layout: bytes) -> Stored:
    """The stored text with its elements, as `store` made it."""
    placed = tuple(
        Placed(
            Element(
                text[start:end],
                ElementKind(kind),
                page,
                tuple(heading),
                level,
                tuple(columns),
                tuple(Box(*box) for box in boxes),
                grid_of(more[0]) if more and more[0] else None,  # older layouts have none
                tuple(more[1]) if len(more) > 1 else (),
            ),
            start,
            end,
        )
        for start, end, kind, page, level, heading, columns, boxes, *more in json.loads(
            zlib.decompress(layout)
        )
    )
    return Stored(text, placed)


def grid_json(grid: Grid) -> list[Any]:
    """A grid as JSON; the numbers of rows and columns as runs, which are few."""
    return [
        _runs(grid.rows),
        _runs(grid.columns),
        list(grid.labels),
        grid.header,
        list(grid.bars),
        grid.sheet,
        grid.number,
        grid.repeated,
    ]


def grid_of(value: list[Any]) -> Grid:
    """The grid that `grid_json` wrote."""
    rows, columns, labels, header, bars, sheet, number, repeated = value
    return Grid(
        _numbers(rows),
        _numbers(columns),
        tuple(labels),
        header,
        tuple(bars),
        sheet,
        number,
        repeated,
    )


def tables_json(tables: Sequence[TableRows]) -> str | None:
    """The tables of a chunk as JSON, None where it has none."""
    if not tables:
        return None
    rows = [[t.start, t.end, t.first, grid_json(t.grid)] for t in tables]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def tables_of(text: str | None) -> tuple[TableRows, ...]:
    """The tables that `tables_json` wrote."""
    if text is None:
        return ()
    return tuple(
        TableRows(start, end, grid_of(grid), first) for start, end, first, grid in json.loads(text)
    )


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """[first, how many] of each run of numbers that rise by one."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def _numbers(runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(number for first, count in runs for number in range(first, first + count))


class Tables:
    """The tables of a stored text, to be cut."""

    def __init__(self, stored: Stored) -> None:
        self._tables = [
            Table(stored.text, placed.start, placed.end, placed.element.grid)
            for placed in stored.placed
            if placed.element.grid is not None
        ]

    def within(self, start: int, end: int) -> tuple[TableRows, ...]:
        """The rows of tables in `text[start:end]`, in offsets of that piece."""
        first = bisect_right(self._tables, start, key=lambda table: table.end)
        found: list[TableRows] = []
        for table in islice(self._tables, first, None):
            if table.start >= end:
                break
            found.append(table.part(start, end))
        return tuple(found)


def locate(stored: Stored, start: int, end: int) -> tuple[int | None, tuple[Box, ...]]:
    """The page where `text[start:end]` begins, and the boxes of its lines.

    Where an element does not say where its lines begin, each one's share of the boxes is taken to be its share of the
    text.
    """
    inside = [p for p in stored.placed if p.start < end and p.end > start]
    boxes: list[Box] = []
    for p in inside:
        first, last = _lines(p, max(0, start - p.start), min(end, p.end) - p.start)
        boxes.extend(p.element.boxes[first : max(last, first + 1)])
    page = boxes[0].page if boxes else next((p.element.page for p in inside), None)
    return page, tuple(boxes)


def _lines(placed: Placed, start: int, end: int) -> tuple[int, int]:
    """The first line of an element that its `text[start:end]` touches, and the one behind the last."""
    starts, lines = placed.element.starts, len(placed.element.boxes)
    if starts:
        return max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)
    length = max(1, placed.end - placed.start)
    return int(start / length * lines), -int(-end / length * lines // 1)
