"""The parsers of the contract on files that are broken, hostile, empty or of another kind."""

import io
from pathlib import Path
from subprocess import run
from sys import executable

import docx
import openpyxl
import pytest
from drafts import FORMATS, PARSER, Draft, Section, as_pdf, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.parser import FileParser
from pipeline.errors import DamagedDocument, EmptyDocument, RagError, TooLarge, UnsupportedMedia
from pipeline.types import Parsed

MAKE_BAD = Path("../shared/data/documents/bad/make_bad.py")


class Exploding:
    media_types = frozenset({"text/plain"})

    def parse(self, data: bytes, name: str) -> Parsed:
        raise KeyError(name)


def test_an_error_of_a_library_becomes_a_sentence_and_keeps_its_cause() -> None:
    with pytest.raises(DamagedDocument, match="save it again") as caught:
        FileParser(Exploding()).parse(b"text", "a.txt")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("data", "name"),
    [(b" \n\t\xef\xbb\xbf\n", "a.txt"), (b"<html><script>x</script></html>", "a.html"), (b"--", "a.md"),
     (saved(openpyxl.Workbook().save), "a.xlsx"), (saved(docx.Document().save), "a.docx")],
)  # fmt: skip
def test_a_document_without_a_letter_is_empty(data: bytes, name: str) -> None:
    with pytest.raises(EmptyDocument, match="no text"):
        PARSER.parse(data, name)


def test_too_many_pages_are_refused() -> None:
    from indexer.parse.pdf import PdfParser

    data = as_pdf(Draft("手册", (Section("甲", ("一。", "二。")), Section("乙", ("三。", "四。")))))
    with pytest.raises(TooLarge, match="2 pages"):
        PdfParser(max_pages=1).parse(data, "a.pdf")


@pytest.mark.parametrize("extension", FORMATS)
@given(at=st.floats(0.02, 0.98), flips=st.integers(0, 2**32))
@settings(deadline=None, max_examples=4)
def test_a_broken_file_ends_in_a_sentence_or_in_elements(
    extension: str, at: float, flips: int
) -> None:
    data = bytearray(FORMATS[extension](Draft("手册", (Section("甲", ("一。", "two.", "三。")),))))
    place = int(len(data) * at)
    data[place : place + 4] = flips.to_bytes(5, "big")[-4:]
    for broken in (bytes(data), bytes(data[:place])):
        assert outcome(broken, f"a{extension}").endswith(".")


def outcome(data: bytes, name: str) -> str:
    try:
        return f"{len(PARSER.parse(data, name).elements)} elements."
    except RagError as error:
        return str(error)


EXPECTED = {
    "empty.txt": EmptyDocument,
    "empty.docx": EmptyDocument,
    "blank.txt": EmptyDocument,
    "good-12-pages.pdf": 12,
    "truncated.pdf": DamagedDocument,
    "header-only.pdf": DamagedDocument,
    "encrypted.pdf": DamagedDocument,
    "pdf-named-docx.docx": 12,
    "html-named-pdf.pdf": DamagedDocument,
    "exe-named-pdf.pdf": DamagedDocument,
    "junk.txt": DamagedDocument,
    "nul-bytes.txt": "Line one",
    "bad-utf8.txt": "保修期为二十四个",
    "utf16-with-bom.txt": "保修期为二十四个月。",
    "gb18030.txt": "退货须在十五日内提出",
    "one-line-5MB.txt": "fox number 9999 jumps",
    "one-line-no-spaces-1MB.txt": "资料资料",
    "surrogates-and-emoji.md": "👩‍👩‍👧 family",
    "bomb.docx": TooLarge,
    "many-entries.pptx": DamagedDocument,
    "entity-expansion.docx": DamagedDocument,
    "external-entity.docx": DamagedDocument,
    "zip-slip.docx": "Paths that climb out.",
    "formula.csv": '=HYPERLINK("http://localhost/x") | 1',
    "ragged.csv": "1 | 2 | 3 | 4",
    "injection.html": "商品可在签收后十五日内退货。",
    "injection.md": "The office opens at 9:00.",
    "fake-citations.txt": "The limit is 40 units.",
}


@pytest.mark.skipif(not MAKE_BAD.exists(), reason="the shared measuring data is not here")
def test_every_bad_file_ends_as_it_must(tmp_path: Path) -> None:
    run([executable, str(MAKE_BAD), "--out", str(tmp_path)], check=True, capture_output=True)
    for path in sorted(tmp_path.iterdir()):
        if path.name in {"EXPECTED.tsv", "UPLOAD_NAMES.txt"}:
            continue
        match EXPECTED.get(path.name, ""):
            case type() as error:
                with pytest.raises(error):
                    PARSER.parse(path.read_bytes(), path.name)
            case int() as pages:
                assert PARSER.parse(path.read_bytes(), path.name).pages == pages
            case str() as words:
                parsed = PARSER.parse(path.read_bytes(), path.name)
                assert words in "\n".join(element.text for element in parsed.elements)
                assert "\x00" not in "".join(element.text for element in parsed.elements)


def test_an_encrypted_pdf_asks_for_the_password_to_go() -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption

    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption("secret", ownerPassword="owner"))
    canvas.drawString(72, 700, "Hidden")
    canvas.save()
    with pytest.raises(DamagedDocument, match="Remove the password"):
        PARSER.parse(buffer.getvalue(), "a.pdf")


def test_a_picture_says_what_to_do() -> None:
    with pytest.raises(UnsupportedMedia, match="Save it as PDF"):
        PARSER.parse(b"GIF89a" + bytes(50), "a.gif")
