import pytest

from indexer.parse.tabular import sparse_table
from indexer.text.stored import Stored, store
from indexer.text.table_html import MOST_ROWS, table_html
from pipeline.errors import NotFound
from pipeline.types import Element, Parsed, Span


def stored(rows: int, sheet: str = "数据") -> Stored:
    cells = [{0: "名", 3: "值"}, *({0: f"键{n}", 3: f"<i>{n}</i>"} for n in range(rows))]
    return store(Parsed((Element("文"), *sparse_table(cells, sheet=sheet))))


def test_words_are_escaped_and_the_cells_of_a_span_are_marked() -> None:
    made = stored(2, "<数据>")
    start = made.text.index("<i>1")
    assert table_html(made, 1, Span(start, start + 8)) == (
        '<table><caption>&lt;数据&gt;</caption><thead><tr data-row="1"><th>名</th><th>值</th></tr></thead><tbody>'
        '<tr data-row="2"><td>键0</td><td>&lt;i&gt;0&lt;/i&gt;</td></tr>'
        '<tr data-row="3"><td>键1</td><td><mark>&lt;i&gt;1&lt;/i&gt;</mark></td></tr></tbody></table>'
    )


def test_of_a_long_table_the_rows_around_the_span_are_shown() -> None:
    made = stored(1000)
    start = made.text.index("键500")
    html = table_html(made, 1, Span(start, start + 4))
    assert [f"键{n}<" in html or f"键{n}</" in html for n in (491, 492, 508, 509)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert html.count('<tr class="cut"><td colspan="2">…</td></tr>') == 2
    assert table_html(made, 1, None).count("<tr data-row") == MOST_ROWS + 1
    whole = table_html(made, 1, Span(0, len(made.text)))
    assert whole.count("<tr data-row") == MOST_ROWS + 1


def test_a_table_that_is_not_there_is_not_found() -> None:
    for number in (0, 2, -1):
        with pytest.raises(NotFound, match="no table"):
            table_html(stored(1), number, None)
