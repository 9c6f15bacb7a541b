from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.tabular import sparse_table
from pipeline.rows import Table, cells, cited, letters, passage, prompted, read, reading, rows
from pipeline.types import Chunk, Grid, Script, Span, TableRows

WORD = st.sampled_from(["甲", "a b", "12 元", "x|y", "|", "2026-11-24", "C: d; e", "长" * 30])
SHEET = "Sheet1"


@st.composite
def grids(draw: st.DrawFn) -> list[dict[int, str]]:
    """At least two rows with a word in each; columns anywhere."""
    columns = draw(st.lists(st.integers(0, 40), min_size=2, max_size=5, unique=True))
    row = st.dictionaries(st.sampled_from(sorted(columns)), WORD, min_size=1)
    return [dict(sorted(r.items())) for r in draw(st.lists(row, min_size=2, max_size=8))]


def whole(found: list[dict[int, str]]) -> tuple[str, TableRows]:
    (table,) = sparse_table(found, sheet=SHEET, header=1)
    assert table.grid is not None
    return table.text, TableRows(0, len(table.text), table.grid)


@given(grids())
@settings(deadline=None, max_examples=150)
def test_every_cell_is_found_again_in_its_row_and_column(found: list[dict[int, str]]) -> None:
    text, table = whole(found)
    read_back: list[dict[int, str]] = [{} for _ in found]
    for cell in cells(text, table):
        if cell.start < cell.end:
            column = table.grid.columns[cell.index] - 1
            read_back[table.grid.rows[cell.line] - 1][column] = text[cell.start : cell.end]
    assert read_back == found


@given(grids(), st.data())
@settings(deadline=None, max_examples=150)
def test_a_row_is_cited_by_exactly_the_range_of_its_cells(
    found: list[dict[int, str]], data: st.DataObject
) -> None:
    text, table = whole(found)
    lines = rows(text, table)
    for number, (row, line) in enumerate(zip(found[1:], lines, strict=True), start=2):
        first, last = f"{letters(min(row) + 1)}{number}", f"{letters(max(row) + 1)}{number}"
        shown = f"{SHEET}!{first}" if first == last else f"{SHEET}!{first}:{last}"
        assert cited(text, [table], line.start, line.end) == (None, shown)
    start = data.draw(st.sampled_from([at for at, char in enumerate(text) if not char.isspace()]))
    end = data.draw(st.integers(start + 1, len(text)))
    piece = Table(text, 0, len(text), table.grid).part(start, end)
    assert cited(text[start:end], [piece]) == cited(text, [table], start, end)


@given(grids())
@settings(deadline=None, max_examples=100)
def test_a_row_reads_with_the_names_of_its_columns_and_its_words_are_found_in_it(
    found: list[dict[int, str]],
) -> None:
    text, table = whole(found)
    made = read(text, [table])
    names = dict(zip(table.grid.columns, table.grid.labels, strict=False))
    lines = made.text.split("\n")
    for row, line in zip(found[table.grid.header :], lines[table.grid.header :], strict=True):
        said = [
            f"{names[at + 1]}: {word}" if names.get(at + 1) not in (None, "", word) else word
            for at, word in row.items()
        ]
        if table.grid.labels:
            assert line == "; ".join(said)
    for cell in cells(text, table):
        if cell.start < cell.end:
            assert made.of(Span(cell.start, cell.end)).endswith(text[cell.start : cell.end])


def test_words_around_a_table_stay_as_they_are() -> None:
    text = "价目\n\n品名 | 单价\n螺栓 | 3 元\n\n以上含税。"
    grid = Grid((1, 2), (1, 2), ("品名", "单价"), header=1, number=1)
    chunk = Chunk(
        "c", 1, "d", "a.docx", 1, text, 0, len(text), None, (), "手册", Script.HAN,
        (TableRows(4, 22, grid),),
    )  # fmt: skip
    assert passage(chunk).text == "价目\n\n品名 | 单价\n品名: 螺栓; 单价: 3 元\n\n以上含税。"
    assert reading(chunk).of(Span(0, 2)) == "价目"
    assert reading(chunk).of(Span(len(text) - 5, len(text))) == "以上含税。"
    assert prompted(chunk).context == "手册 (A1:B2)"


def test_a_piece_of_one_wide_row_keeps_only_its_own_columns() -> None:
    found = [{at: f"h{at}" for at in range(500)}, {at: f"v{at}" for at in range(500)}]
    text, table = whole(found)
    start = text.index("v250")
    piece = Table(text, 0, len(text), table.grid).part(start, start + 11)
    assert text[start : start + 11] == "v250 | v251"
    assert read(text[start : start + 11], [piece]).text == "h250: v250; h251: v251"
    assert len(piece.grid.labels) == 2


def test_names_of_sheets_are_quoted_as_spreadsheets_do() -> None:
    for sheet, shown in (
        ("数据", "数据!A1"),
        ("A1", "'A1'!A1"),
        ("Bob's", "'Bob''s'!A1"),
        ("", "A1"),
    ):
        grid = Grid((1,), (1,), sheet=sheet)
        assert cited("x", [TableRows(0, 1, grid)]) == (None, shown)
