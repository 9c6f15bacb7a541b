"""Columns of prose are read one after the other, however the file draws them; tables stay in rows."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.columns import in_reading_order
from indexer.parse.lines import Line, paragraphs


def line(text: str, base: float, x0: float, x1: float, parts: tuple[Line, ...] = ()) -> Line:
    return Line(text, x0, base - 8, x1, base + 2, base, 10, parts)


def texts(lines: tuple[Line, ...]) -> list[str]:
    return [each.text for each in lines]


@st.composite
def pages(draw: st.DrawFn) -> tuple[list[list[Line]], list[Line]]:
    """Columns of full lines, with some short ones that end a paragraph, and their rows as they are drawn."""
    count = draw(st.integers(2, 3))
    rows = draw(st.integers(6, 14))
    width = 470 / count - 16
    columns = []
    for number in range(count):
        left, column = 60 + number * (width + 16), []
        for row in range(rows - draw(st.integers(0, 2))):
            share = draw(st.sampled_from([1.0, 0.95, 0.4] if row % 3 == 2 else [1.0, 0.9]))
            # Columns need not stand on the same baselines.
            base = 140 + 13 * row + draw(st.sampled_from([0, 0, 3]))
            column.append(line(f"{number}.{row}", base, left, left + share * width))
        columns.append(column)
    drawn = [column[at] for at in range(rows) for column in columns if at < len(column)]
    return columns, drawn


def merged(drawn: list[Line]) -> list[Line]:
    """Neighbours on one baseline as pdfium gives them: one line, with its pieces beside."""
    found: list[list[Line]] = [[drawn[0]]]
    for before, after in pairwise(drawn):
        if after.base == before.base and after.x0 > before.x1:
            found[-1].append(after)
        else:
            found.append([after])
    return [
        group[0]
        if len(group) == 1
        else line(
            " ".join(texts(tuple(group))), group[0].base, group[0].x0, group[-1].x1, tuple(group)
        )
        for group in found
    ]


@given(page=pages(), joined=st.booleans())
@settings(deadline=None, max_examples=50)
def test_interleaved_columns_are_read_one_after_the_other(
    page: tuple[list[list[Line]], list[Line]], joined: bool
) -> None:
    columns, drawn = page
    title = line("title over all columns", 100, 60, 520)
    foot = line("a note under all columns", 420, 60, 520)
    read = in_reading_order([title, *(merged(drawn) if joined else drawn), foot])
    body = [each.text for column in columns for each in column]
    assert texts(read) == [title.text, *body, foot.text]


@given(page=pages())
@settings(deadline=None, max_examples=30)
def test_columns_drawn_one_after_the_other_keep_their_order(
    page: tuple[list[list[Line]], list[Line]],
) -> None:
    drawn = [each for column in page[0] for each in column]
    assert in_reading_order(drawn) == tuple(drawn)


def test_a_line_across_parts_the_page_into_what_stands_above_and_below() -> None:
    def block(name: str, top: float) -> list[Line]:
        return [
            line(f"{name}{side}{row}", top + 13 * row, left, left + 220)
            for row in range(5)
            for side, left in (("L", 60), ("R", 300))
        ]

    across = line("across", 180, 60, 520)
    read = texts(in_reading_order([*block("a", 100), across, *block("b", 200)]))
    expected = [f"a{side}{row}" for side in "LR" for row in range(5)] + ["across"]
    assert read == expected + [f"b{side}{row}" for side in "LR" for row in range(5)]


@pytest.mark.parametrize("cells", [("产品", "12 元"), ("a name", "a longer description of it")])
def test_a_table_stays_in_rows(cells: tuple[str, str]) -> None:
    rows = [
        line(f"{text}{row}", 100 + 13 * row, left, left + 8 * len(text) + 5 * (row % 3))
        for row in range(12)
        for text, left in zip(cells, (60, 300), strict=True)
    ]
    assert in_reading_order(rows) == tuple(rows)


def test_cells_of_several_full_lines_stay_in_rows() -> None:
    drawn = [
        line(f"{row}{side}{at}", 100 + 40 * row + 13 * at, left, left + 220)
        for row in range(4)
        for side, left in (("L", 60), ("R", 300))
        for at in range(3)
    ]
    assert in_reading_order(drawn) == tuple(drawn)


def test_a_title_over_two_columns_does_not_make_the_lines_of_the_first_one_short() -> None:
    left = [
        line(f"左栏第{row}行的文字写到栏边为止没有空", 100 + 13 * row, 60, 280) for row in range(4)
    ]
    right = [
        line(f"右栏第{row}行的文字写到栏边为止没有空", 100 + 13 * row, 300, 520) for row in range(4)
    ]
    title = line("一篇文章的题目占了两栏的宽度", 80, 60, 520)
    read = [each.text(frozenset()) for each in paragraphs([title, *left, *right], 1.3)]
    assert all("\n" not in text for text in read[1:])
    assert read[-1].startswith("右栏第0行")
