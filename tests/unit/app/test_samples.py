"""The committed sample documents say what their questions expect, and what their sources say."""

import csv
import email
import email.policy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import docx
import openpyxl
import pptx
import pypdfium2
import pytest

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "app" / "samples"
DATA = ROOT / "tests" / "data"
SOURCES = ROOT / "bench" / "samples_source"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def pages(path: Path) -> list[str]:
    """The text of a document, a string for each page or slide (one for formats without pages)."""
    match path.suffix:
        case ".pdf":
            with pypdfium2.PdfDocument(path) as document:
                return [page.get_textpage().get_text_range() for page in document]
        case ".docx":
            document = docx.Document(str(path))
            cells = [c.text for t in document.tables for row in t.rows for c in row.cells]
            return ["\n".join([*(p.text for p in document.paragraphs), *cells])]
        case ".pptx":
            return [slide_text(slide) for slide in pptx.Presentation(str(path)).slides]
        case ".xlsx":
            book = openpyxl.load_workbook(path)
            rows = (row for sheet in book for row in sheet.iter_rows(values_only=True))
            return ["\n".join(" ".join(map(str, row)) for row in rows)]
        case ".eml":
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            return [message.get_content()]
        case ".html":
            words = Words()
            words.feed(path.read_text("utf-8"))
            return ["".join(words.pieces)]
        case _:
            return [path.read_text("gb18030" if "gb18030" in path.name else "utf-8")]


def slide_text(slide) -> str:
    texts = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
    tables = [shape.table for shape in slide.shapes if shape.has_table]
    cells = [cell.text for table in tables for row in table.rows for cell in row.cells]
    return "\n".join([*texts, *cells, slide.notes_slide.notes_text_frame.text])


def bare(text: str) -> str:
    """Text without white space, so that line breaks of a page do not matter."""
    return re.sub(r"\s", "", text)


def source_of(path: Path) -> list[str]:
    return (SOURCES / path.name).with_suffix(".md").read_text("utf-8").splitlines()


def words_of(line: str) -> list[str]:
    """What a line of a source says: the cells of a table's row, or the line without its mark."""
    if line.startswith("|"):
        return [cell for cell in line.split("|") if cell.strip("- ")]
    return [re.sub("^(#+|-|>) ", "", line)]


QUESTIONS = lines(SAMPLES / "questions.jsonl")
TEST_QUESTIONS = lines(DATA / "questions.jsonl")


def test_half_of_the_questions_are_chinese_and_a_quarter_have_no_answer() -> None:
    counts = {
        (language, answerable): sum(
            q["language"] == language and (q["file"] is not None) == answerable for q in QUESTIONS
        )
        for language in ("zh", "en")
        for answerable in (True, False)
    }
    assert counts == {("zh", True): 12, ("en", True): 12, ("zh", False): 4, ("en", False): 4}


@pytest.mark.parametrize("asked", [q for q in QUESTIONS if q["file"]], ids=lambda q: q["answer"])
def test_the_answer_stands_on_the_named_page_of_the_sample(asked: dict) -> None:
    texts = pages(SAMPLES / asked["file"])
    text = "".join(texts) if asked["page"] is None else texts[asked["page"] - 1]
    assert bare(asked["answer"]) in bare(text)


def test_a_question_without_a_file_has_no_answer() -> None:
    assert all(q["answer"] is None for q in QUESTIONS if q["file"] is None)


def test_every_sample_is_asked_about_and_together_they_stay_small() -> None:
    files = {p for p in SAMPLES.iterdir() if p.name != "questions.jsonl"}
    assert {p.name for p in files} == {q["file"] for q in QUESTIONS if q["file"]}
    assert all(p.stat().st_size > 1000 for p in files)
    assert sum(p.stat().st_size for p in files) < 700_000


@pytest.mark.parametrize("name", ["产品保修说明.pdf", "Employee travel policy.pdf"])
def test_a_printed_sample_has_pages_bookmarks_and_running_lines(name: str) -> None:
    headings = [w for line in source_of(SAMPLES / name) if line[:1] == "#" for w in words_of(line)]
    with pypdfium2.PdfDocument(SAMPLES / name) as document:
        marks = [bookmark.get_title() for bookmark in document.get_toc()]
        texts = [page.get_textpage().get_text_range() for page in document]
    assert marks == headings
    assert len(texts) >= 3
    assert len({text.splitlines()[0] for text in texts}) == 1
    numbers = [re.search(r"(?m)^(?:第 (\d+) 页|Page (\d+))\r?$", text) for text in texts]
    assert [int(n[1] or n[2]) for n in numbers if n] == list(range(1, len(texts) + 1))


@pytest.mark.parametrize(
    "path",
    [
        SAMPLES / "员工手册.docx",
        SAMPLES / "产品保修说明.pdf",
        SAMPLES / "Employee travel policy.pdf",
        SAMPLES / "CX-200 service manual.docx",
        SAMPLES / "Quarterly review Q3 2026.pptx",
        DATA / "warranty.zh.pdf",
        DATA / "warranty.en.pdf",
        DATA / "leave.zh.docx",
    ],
    ids=lambda path: path.name,
)
def test_a_document_says_every_word_of_its_source(path: Path) -> None:
    text = bare(re.sub("第 \\d+ 页|Page \\d+", "", "".join(pages(path))))
    for header in ("澄星科技　产品保修说明", "Chengxing Robotics | Employee travel policy"):
        text = text.replace(bare(header), "")
    said = [words for line in source_of(path) for words in words_of(line)]
    assert [words for words in said if bare(words) not in text] == []


def test_the_price_list_keeps_its_sheets_and_its_numbers_as_numbers() -> None:
    book = openpyxl.load_workbook(SAMPLES / "2026年采购价目表.xlsx")
    assert book.sheetnames == ["备件", "服务"]
    for sheet in book:
        source = (SOURCES / f"{sheet.title}.csv").read_text("utf-8").splitlines()
        expected = [[int(c) if c.isdecimal() else c for c in row] for row in csv.reader(source)]
        assert [list(row) for row in sheet.iter_rows(values_only=True)] == expected


def test_every_small_document_has_three_answers_and_two_unrelated_questions() -> None:
    files = sorted({q["file"] for q in TEST_QUESTIONS})
    for file in files:
        asked = [q for q in TEST_QUESTIONS if q["file"] == file]
        assert (DATA / file).stat().st_size < 40_000  # the embedded Chinese font takes 31,000
        assert [q["answerable"] for q in asked] == [True, True, True, False, False]
        text = bare("".join(pages(DATA / file)))
        assert all(bare(q["answer"]) in text for q in asked if q["answerable"])
        assert all(q["answer"] is None for q in asked if not q["answerable"])
    assert len(files) == 9


@pytest.mark.parametrize(("language", "least"), [("zh", 110), ("en", 105)])
def test_the_background_text_has_many_paragraphs_and_never_repeats_one(
    language: str, least: int
) -> None:
    text = (ROOT / "bench" / "background" / f"{language}.txt").read_text("utf-8")
    paragraphs = [p for p in text.split("\n\n") if p.strip()]
    assert len(paragraphs) >= least
    assert len(set(paragraphs)) == len(paragraphs)
