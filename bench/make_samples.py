"""Write the sample documents of the product and the small documents of the tests.

    python -m bench.make_samples

The texts stand in `bench/samples_source`; this module only gives them the formats that a company
has. Two runs with the same libraries write the same bytes: every date is fixed, and Office files
are packed again with fixed times. Needs reportlab and Debian's `fonts-wqy-zenhei` (GPL-2 with an
exception that allows embedding the font in documents).
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from email import policy
from email.parser import Parser
from itertools import groupby
from pathlib import Path
from typing import Any  # the document libraries have no types

from bench.sample_blocks import Block, Heading, Item, Note, Paragraph, Table, blocks
from bench.sample_pdf import pdf

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path(__file__).resolve().parent / "samples_source"
WRITTEN = datetime(2026, 10, 20, 9, 0, tzinfo=UTC)
AUTHOR = "Chengxing Robotics"
UNUSED = ("/thumbnail", "/stylesWithEffects")
"""Parts of python-docx's template that describe other documents; they double the file."""


def main() -> None:
    """Write every sample that is not its own source, and say how large it is."""
    for target, content in documents():
        path = ROOT / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"{len(content):8,} bytes  {target}")


def documents() -> list[tuple[str, bytes]]:
    """Return the paths, relative to the repository root, and their bytes."""
    samples, tests = "app/samples", "tests/data"
    return [
        (f"{samples}/员工手册.docx", docx(_blocks("员工手册.md"), chinese=True)),
        (
            f"{samples}/产品保修说明.pdf",
            pdf(_blocks("产品保修说明.md"), chinese=True, header="澄星科技　产品保修说明"),
        ),
        (f"{samples}/2026年采购价目表.xlsx", xlsx(("备件", "服务"))),
        (
            f"{samples}/Employee travel policy.pdf",
            pdf(
                _blocks("Employee travel policy.md"),
                chinese=False,
                header="Chengxing Robotics  |  Employee travel policy",
            ),
        ),
        (
            f"{samples}/CX-200 service manual.docx",
            docx(_blocks("CX-200 service manual.md"), chinese=False),
        ),
        (
            f"{samples}/Quarterly review Q3 2026.pptx",
            pptx(_blocks("Quarterly review Q3 2026.md")),
        ),
        (f"{samples}/Support thread.eml", eml("Support thread.txt")),
        (f"{tests}/warranty.zh.pdf", pdf(_blocks("warranty.zh.md"), chinese=True)),
        (f"{tests}/warranty.en.pdf", pdf(_blocks("warranty.en.md"), chinese=False)),
        (f"{tests}/leave.zh.docx", docx(_blocks("leave.zh.md"), chinese=True)),
        (f"{tests}/meeting.en.eml", eml("meeting.en.txt")),
        (f"{tests}/notes.gb18030.txt", _text("notes.zh.txt").encode("gb18030")),
    ]


def docx(content: list[Block], *, chinese: bool) -> bytes:
    """Return a Word document with real heading, list and table styles."""
    import docx as word
    from docx.oxml.ns import qn
    from docx.shared import Pt

    document: Any = word.Document()
    normal = document.styles["Normal"]
    normal.font.name = "Calibri"
    normal.font.size = Pt(11)
    if chinese:
        normal.element.rPr.rFonts.set(qn("w:eastAsia"), "SimSun")
    for block in content:
        match block:
            case Heading(text, level):
                document.add_heading(text, level - 1)
            case Paragraph(text):
                document.add_paragraph(text)
            case Item(text):
                document.add_paragraph(text, style="List Bullet")
            case Table(rows):
                table = document.add_table(len(rows), len(rows[0]), style="Table Grid")
                _fill(table, rows)
                document.add_paragraph()
            case Note():
                pass
    _stamp(document.core_properties, _title(content), "zh-CN" if chinese else "en-GB")
    for links in (document.part.package.rels, document.part.rels):
        for key in [k for k, link in links.items() if link.reltype.endswith(UNUSED)]:
            del links[key]
    return _packed(document.save)


def pptx(content: list[Block]) -> bytes:
    """Return a presentation: every level-1 heading opens a slide, notes go to its notes page."""
    from pptx import Presentation
    from pptx.util import Inches

    deck: Any = Presentation()
    for number, slide_blocks in enumerate(_slides(content)):
        texts = [b.text for b in slide_blocks if isinstance(b, Item | Paragraph)]
        tables = [b for b in slide_blocks if isinstance(b, Table)]
        layout = 0 if number == 0 else 5 if tables else 1
        slide = deck.slides.add_slide(deck.slide_layouts[layout])
        slide.shapes.title.text = _title(slide_blocks)
        if texts:
            slide.placeholders[1].text = "\n".join(texts)
        for table in tables:
            shape = slide.shapes.add_table(
                len(table.rows),
                len(table.rows[0]),
                Inches(0.7),
                Inches(1.6),
                Inches(8.6),
                Inches(3),
            )
            _fill(shape.table, table.rows)
        notes = [b.text for b in slide_blocks if isinstance(b, Note)]
        slide.notes_slide.notes_text_frame.text = "\n".join(notes)
    _stamp(deck.core_properties, _title(content), "en-GB")
    return _packed(deck.save)


def xlsx(sheets: tuple[str, ...]) -> bytes:
    """Return a workbook with one sheet for each CSV source, numbers kept as numbers."""
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book: Any = Workbook()
    book.remove(book.active)
    for name in sheets:
        sheet = book.create_sheet(name)
        for row in csv.reader(io.StringIO(_text(f"{name}.csv"))):
            sheet.append([int(cell) if cell.isdecimal() else cell for cell in row])
        for cell in sheet[1]:
            cell.font = Font(bold=True)
        for column in sheet.columns:
            width = max(len(str(cell.value)) for cell in column)
            sheet.column_dimensions[column[0].column_letter].width = 2 * width + 2
        sheet.freeze_panes = "A2"
    book.properties.creator = AUTHOR
    book.properties.created = WRITTEN.replace(tzinfo=None)
    return _packed(book.save)


def eml(name: str) -> bytes:
    """Return a mail in its wire form from a source of header lines, a blank line and the text."""
    message = Parser(policy=policy.default).parsestr(_text(name))
    text = message.get_payload()
    message.set_content(text, cte="quoted-printable")
    return message.as_bytes(policy=policy.SMTP)


def _slides(content: list[Block]) -> list[list[Block]]:
    opened = 0
    numbers: list[int] = []
    for block in content:
        opened += isinstance(block, Heading)
        numbers.append(opened)
    pairs = groupby(zip(numbers, content, strict=True), key=lambda pair: pair[0])
    return [[block for _, block in group] for _, group in pairs]


def _title(content: list[Block]) -> str:
    return next(block.text for block in content if isinstance(block, Heading))


# Tables of python-docx and python-pptx fill alike; neither library has types.
def _fill(table: Any, rows: tuple[tuple[str, ...], ...]) -> None:  # noqa: ANN401
    for y, row in enumerate(rows):
        for x, text in enumerate(row):
            table.cell(y, x).text = text


def _stamp(properties: Any, title: str, language: str) -> None:  # noqa: ANN401
    properties.title = title
    properties.author = properties.last_modified_by = AUTHOR
    properties.language = language
    properties.created = properties.modified = WRITTEN.replace(tzinfo=None)
    properties.comments = ""


def _packed(save: Callable[[io.BytesIO], object]) -> bytes:
    """Save an Office file and pack it again with one fixed time, so that its bytes repeat."""
    saved = io.BytesIO()
    save(saved)
    packed = io.BytesIO()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                stamp = f"{WRITTEN:%Y-%m-%dT%H:%M:%SZ}".encode()
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content)
            entry = zipfile.ZipInfo(name, WRITTEN.timetuple()[:6])
            new.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def _blocks(name: str) -> list[Block]:
    return list(blocks(_text(name)))


def _text(name: str) -> str:
    return (SOURCES / name).read_text("utf-8")


if __name__ == "__main__":
    main()
