"""Files made to harm: small ones that would swell, and texts that would take hours."""

import errno
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import docx
import openpyxl
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn

from indexer.parse import tabular, zipped
from indexer.parse.html import read_html
from indexer.parse.media import sniff
from indexer.parse.office import DocxParser
from indexer.parse.parser import FileParser, build_parser
from indexer.parse.sheets import SeparatedParser, SpreadsheetParser
from pipeline.errors import (
    DamagedDocument,
    EmptyDocument,
    TooLarge,
    Unavailable,
)
from pipeline.types import Element, ElementKind, Parsed

PARSER = build_parser()
RUN = 100_000
MEGABYTE = 1_000_000


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """Python's own memory, which pays for unpacked bytes and cells, stays under a limit."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * MEGABYTE
    finally:
        tracemalloc.stop()


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def archive(
    members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED, base: bytes | None = None
) -> bytes:
    """A zip of the members of `base`, replaced and followed by `members`."""
    kept: dict[str, bytes] = {}
    if base is not None:
        with zipfile.ZipFile(io.BytesIO(base)) as source:
            kept = {name: source.read(name) for name in source.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as target:
        for name, data in {**kept, **members}.items():
            target.writestr(name, data)
    return buffer.getvalue()


# Archives.


def test_the_type_of_an_archive_is_told_without_unpacking_it() -> None:
    bomb = archive({"mimetype": b"application/epub+zip" + b" " * 50 * MEGABYTE})
    with at_most(5):
        assert sniff(bomb, "a.epub") == "application/epub+zip"


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_packing_that_no_document_has_is_not_unpacked(packing: int) -> None:
    data = archive({"mimetype": b"application/epub+zip"}, packing)
    assert sniff(data, "a.bin") == "application/zip"
    data = archive({"word/document.xml": b"<w/>"}, packing)
    with pytest.raises(DamagedDocument, match="packed in a way"):
        PARSER.parse(data, "a.docx")


def test_a_broken_member_is_damage_and_no_bug() -> None:
    data = bytearray(archive({"mimetype": b"application/epub+zip" * 20}))
    at = data.index(b"mimetype") + len(b"mimetype")
    data[at : at + 8] = b"\xff" * 8
    with pytest.raises(DamagedDocument, match="damaged"):
        sniff(bytes(data), "a.epub")


def test_an_archive_of_too_many_members_is_refused_before_they_are_listed() -> None:
    many = b"PK\x03\x04" + b"PK\x01\x02" * (zipped.MAX_MEMBERS + 1)
    with pytest.raises(TooLarge, match="50,000 files"):
        sniff(many, "a.docx")


def test_markup_that_would_make_a_tree_of_gigabytes_is_too_large() -> None:
    swollen = archive({"word/document.xml": b"<w>" + b"<a/>" * 1000 + b"</w>"})
    with pytest.raises(TooLarge, match="500 pieces of markup"):
        zipped.check_size(swollen, "a.docx", max_tags=500)
    zipped.check_size(swollen, "a.docx", max_tags=1002)


def test_markup_is_counted_over_all_parts_and_in_any_encoding() -> None:
    parts = {f"{at}.bin": ("<a/>" * 300).encode("utf-16") for at in range(3)}
    with pytest.raises(TooLarge, match="markup"):
        zipped.check_size(archive(parts), "a.docx", max_tags=800)


def test_a_chapter_that_a_spine_names_many_times_is_read_once() -> None:
    book = archive(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:'
            b'container"><rootfiles><rootfile full-path="p.opf"/></rootfiles></container>',
            "p.opf": b'<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" '
            b'href="a.html" media-type="application/xhtml+xml"/></manifest><spine>'
            + b'<itemref idref="a"/>' * 500
            + b"</spine></package>",
            "a.html": b"<p>Once upon a time.</p>",
        }
    )
    assert texts(PARSER.parse(book, "a.epub")) == ["Once upon a time."]


# Whom an error blames.


class Failing:
    media_types = frozenset({"text/plain"})

    def __init__(self, error: Exception, *, wrapped: bool = False) -> None:
        self._error, self._wrapped = error, wrapped

    def parse(self, data: bytes, name: str) -> Parsed:
        try:
            self._fail()
        except Exception as error:
            if self._wrapped:
                raise KeyError(name) from error
            raise

    def _fail(self) -> None:
        raise self._error


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EIO])
def test_a_full_disk_is_not_the_fault_of_the_file(number: int, wrapped: bool) -> None:
    failing = Failing(OSError(number, "the machine"), wrapped=wrapped)
    with pytest.raises(Unavailable, match=r"“a.txt” .*try again later\.") as caught:
        FileParser(failing).parse(b"text", "a.txt")
    assert caught.value.retryable


@pytest.mark.parametrize("error", [MemoryError(), ImportError("x"), ModuleNotFoundError("x")])
def test_a_lack_of_memory_or_of_a_library_is_said_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)):
        FileParser(Failing(error)).parse(b"text", "a.txt")


def test_a_lack_of_memory_that_a_library_wraps_is_one_all_the_same() -> None:
    with pytest.raises(MemoryError):
        FileParser(Failing(MemoryError(), wrapped=True)).parse(b"text", "a.txt")


@pytest.mark.parametrize(
    "error",
    [OSError("cannot identify image file"), OSError(errno.EOVERFLOW, "a date"), ValueError("x")],
)
def test_what_libraries_say_of_bad_content_is_damage(error: Exception) -> None:
    with pytest.raises(DamagedDocument):
        FileParser(Failing(error)).parse(b"text", "a.txt")


def test_a_document_of_headers_and_footers_only_is_empty() -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Annual report"
    document.sections[0].footer.paragraphs[0].text = "Page 1"
    data = saved(document.save)
    assert {e.kind for e in DocxParser().parse(data, "a").elements} == {ElementKind.FURNITURE}
    with pytest.raises(EmptyDocument, match="no text"):
        PARSER.parse(data, "a.docx")


# Tables.


def sheet(rows: str) -> bytes:
    xml = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension '
        f'ref="A1:XFD1048576"/><sheetData>{rows}</sheetData></worksheet>'
    )
    book = saved(openpyxl.Workbook().save)
    return archive({"xl/worksheets/sheet1.xml": xml.encode()}, base=book)


def cell(place: str, text: object) -> str:
    return f'<c r="{place}" t="str"><v>{text}</v></c>'


def texts(parsed: Parsed) -> list[str]:
    return [element.text for element in parsed.elements]


def test_a_cell_at_the_end_of_a_sheet_costs_no_more_than_one_at_its_beginning() -> None:
    far = f'<row r="1">{cell("A1", "near")}</row><row r="1048576">{cell("XFD1048576", "far")}</row>'
    data = sheet(far)
    PARSER.parse(data, "a.xlsx")
    with at_most(3):
        assert texts(PARSER.parse(data, "a.xlsx")) == ["Sheet", "near", "far"]


def test_a_row_number_beyond_all_sheets_fills_no_gap() -> None:
    far = f'<row r="1">{cell("A1", "near")}</row><row r="{10**15}"><c t="str"><v>far</v></c></row>'
    assert texts(PARSER.parse(sheet(far), "a.xlsx")) == ["Sheet", "near", "far"]


def test_rows_with_one_cell_at_the_right_edge_are_not_filled_up() -> None:
    count = 2_000
    data = sheet("".join(f'<row r="{n}">{cell(f"XFD{n}", n)}</row>' for n in range(1, count + 1)))
    PARSER.parse(data, "a.xlsx")
    with at_most(20):
        found = PARSER.parse(data, "a.xlsx").elements[1].text
    assert found.split("\n") == [str(n) for n in range(1, count + 1)]


def test_more_cells_than_the_limit_are_too_large_over_all_sheets() -> None:
    book = openpyxl.Workbook()
    for _ in range(2):
        book.create_sheet().append(["甲", "乙"])
    data = saved(book.save)
    assert len(SpreadsheetParser(max_cells=4).parse(data, "a.xlsx").elements) == 4
    with pytest.raises(TooLarge, match=r"“a.xlsx” has more cells than the limit of 3"):
        SpreadsheetParser(max_cells=3).parse(data, "a.xlsx")


def test_a_row_of_endless_empty_cells_is_too_large_before_it_is_in_memory() -> None:
    data = sheet("<row>" + "<c/>" * 110_000 + "</row>")
    with pytest.raises(TooLarge, match="more cells"):
        PARSER.parse(data, "a.xlsx")


def test_csv_of_more_cells_than_the_limit_is_too_large_and_empty_cells_do_not_count() -> None:
    assert texts(SeparatedParser(max_cells=4).parse(b"a,b,\n,,\n1,2,\n", "a.csv")) == [
        "a | b\n1 | 2"
    ]
    with pytest.raises(TooLarge, match=r"“a.csv” has more cells than the limit of 3"):
        SeparatedParser(max_cells=3).parse(b"a,b\n1,2\n", "a.csv")
    with pytest.raises(TooLarge):
        SeparatedParser(max_cells=3).parse(b",,,,\n", "a.csv")


def test_a_table_with_a_cell_a_row_each_in_a_column_of_its_own_says_only_its_cells() -> None:
    rows = [{at: str(at)} for at in range(3_000)]
    with at_most(20):
        (found,) = tabular.sparse_table(rows)
    assert found.kind is ElementKind.PARAGRAPH
    assert found.text.split("\n") == [str(at) for at in range(3_000)]


def test_a_wide_header_over_many_short_rows_is_read() -> None:
    header = ",".join(f"h{at}" for at in range(20_000))
    found = PARSER.parse((header + "\n" + "x\n" * 20_000).encode(), "a.csv").elements
    assert found[0].text.count("x") == 20_000


def test_many_captions_above_a_table_are_all_read() -> None:
    lines = "".join(f'<row r="{n}">{cell(f"A{n}", n)}</row>' for n in range(1, 20_001))
    end = f'<row r="20001">{cell("A20001", "a")}{cell("B20001", "b")}</row>'
    found = texts(PARSER.parse(sheet(lines + end), "a.xlsx"))
    assert found[1:] == [*map(str, range(1, 20_001)), "a | b"]


@pytest.mark.parametrize(
    "table",
    [
        "<tr>" + "<td colspan=1000>x</td>" * 400 + "</tr>",
        "<tr>" + "<td colspan=1000>x</td>" * 100_000 + "</tr>",
        "<tr><td colspan=1000>x</td><td>y</td></tr>" * 400,
        f"<tr><td rowspan=1000>{'x' * 10_000}</td><td>y</td></tr>" + "<tr><td>y</td></tr>" * 999,
    ],
)
def test_merged_cells_that_spread_over_millions_are_too_large(table: str) -> None:
    with pytest.raises(TooLarge, match="merged cells"):
        read_html(f"<table>{table}</table>")


def test_the_merged_cells_of_many_tables_count_together() -> None:
    table = "<table><tr>" + "<td colspan=1000>x</td>" * 40 + "</tr></table>"
    with pytest.raises(TooLarge, match="merged cells"):
        read_html(table * 10)


def test_lines_that_reach_over_a_whole_table_cost_nothing() -> None:
    rows = "<tr><td colspan=1000>part</td></tr><tr><td>a</td><td>b</td></tr>" * 400
    (found,) = read_html(f"<table>{rows}</table>")[0]
    assert found.text.split("\n")[:2] == ["part |", "a | b"]


@pytest.mark.parametrize("tag", ["w:gridSpan", "w:gridBefore", "w:gridAfter"])
def test_a_cell_of_a_thousand_million_columns_is_one_cell(tag: str) -> None:
    document = docx.Document()
    table = document.add_table(2, 2)
    for at, text in enumerate(("a", "b", "c", "d")):
        table.cell(at // 2, at % 2).text = text
    span = OxmlElement(tag)
    span.set(qn("w:val"), str(10**9))
    row = table.rows[1]._tr
    (row.tc_lst[1].get_or_add_tcPr() if tag == "w:gridSpan" else row.get_or_add_trPr()).append(span)
    (found,) = PARSER.parse(saved(document.save), "a.docx").elements
    assert sorted(found.text.replace("|", " ").split()) == ["a", "b", "c", "d"]


# Runs: before they were bounded, each of these took from ten seconds to hours.

HEAD = b"From: a@example.org\nTo: b@example.org\nSubject: x\n"


def element_texts(elements: list[Element]) -> str:
    return "".join(element.text for element in elements)


@pytest.mark.parametrize("char", list("[](!_*`#\"':,=…~-"))
def test_a_page_with_a_run_of_one_mark_is_read_whole(char: str) -> None:
    assert char * RUN in element_texts(read_html(f"<p>word {char * RUN} word</p>")[0])


def test_paragraphs_that_look_like_american_towns_are_read() -> None:
    page = ("<p>" + "a" * 99) * (RUN // 100)
    assert element_texts(read_html(page)[0]) == "a" * 99 * (RUN // 100)


@pytest.mark.parametrize(
    ("piece", "expected"),
    [("<br>x", "x"), ("<script></script>x", "x"), ("<img>x", "x"), ("<br>", "")],
)
def test_a_page_of_tags_that_go_keeps_all_the_rest(piece: str, expected: str) -> None:
    found = element_texts(read_html("<p>a" + piece * 50_000 + "z</p>")[0])
    assert found.replace("\n", "") == "a" + expected * 50_000 + "z"


def test_an_instruction_without_an_end_hides_nothing_before_it() -> None:
    assert element_texts(read_html("<p>word</p><?xml " + " " * RUN)[0]) == "word"


def test_a_name_full_of_brackets_is_no_hindrance() -> None:
    page = f"<div class='{'<!--' * RUN}'>word</div>"
    assert element_texts(read_html(page)[0]) == "word"


def test_a_title_in_front_matter_may_hold_a_run_of_spaces() -> None:
    data = f"---\ntitle: 'a{' ' * RUN}b'  \n---\n\nbody\n".encode()
    assert PARSER.parse(data, "a.md").title == f"a{' ' * RUN}b"


@pytest.mark.parametrize("run", [".", ",", '"', "\\", "a, ", "<a", "- a"])
@pytest.mark.parametrize("field", ["To", "Subject", "Content-Type", "Content-Disposition"])
def test_a_mail_with_a_long_header_is_read(field: str, run: str) -> None:
    long = f"{field}: x{run * (RUN // len(run))}\n".encode()
    data = HEAD.replace(f"{field}: ".encode(), b"X: ") + long + b"\nbody of it\n"
    assert "body of it" in texts(PARSER.parse(data, "a.eml"))[-1]


def test_a_long_list_of_addresses_is_decoded() -> None:
    people = ", ".join(f"=?utf-8?b?5byg5LiJ?= <p{at}@example.org>" for at in range(300))
    data = f"From: a@example.org\nTo: {people}\nSubject: x\n\nbody\n".encode()
    head = texts(PARSER.parse(data, "a.eml"))[0]
    assert "张三 <p0@example.org>" in head
    assert "张三 <p299@example.org>" in head


@pytest.mark.parametrize("run", [".", " ", "7", "[", "资", ". ", "- ", "*"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.md"])
def test_a_text_with_a_run_of_one_mark_is_read_whole(name: str, run: str) -> None:
    data = f"word {run * (RUN // 2)} word".encode()
    found = texts(PARSER.parse(data, name))
    assert "".join(found).count("word") == 2
