"""DOCX through `unstructured`, after its blind spots have been moved into its sight."""

import io
import re
from typing import Any

from indexer.parse import outline, zipped
from indexer.parse.figures import figures
from indexer.parse.media import DOCX
from indexer.parse.offline import go_offline
from indexer.parse.parts import HEAD, converted
from pipeline.errors import TooLarge
from pipeline.types import Parsed

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SPANS = (f"{_W}gridSpan", f"{_W}gridBefore", f"{_W}gridAfter")
_WIDEST = 1_000
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_UNWRAPPED = ("ins", "moveTo", "smartTag", "customXml", "fldSimple")
_REMOVED = ("del", "moveFrom", "sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr", "fldData")
_NUMBERED_STYLE = re.compile(r"^(?:heading|标题|標題|Überschrift|Titre)\s*([1-9])$", re.IGNORECASE)
_CONTENT_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


class DocxParser:
    """Reads DOCX. Headings come from styles and outline levels, pages from Word's own page breaks.

    Headers and footers become FURNITURE; text boxes, foot- and endnotes and comments (after their
    author's name) follow the paragraph that they hang on; the numbers of charts come last.
    """

    def __init__(self, *, max_unpacked: int = zipped.MAX_UNPACKED) -> None:
        self._max_unpacked = max_unpacked

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({DOCX})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge and DamagedDocument as `zipped.check_size` does."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked)
        go_offline()
        from docx import Document
        from unstructured.partition.docx import partition_docx

        document = Document(io.BytesIO(data))
        _bound_spans(document, name)
        _prepare(document)
        for table in document.element.body.iter(f"{_W}tbl"):
            _mark_header(table)
        prepared = io.BytesIO()
        document.save(prepared)
        prepared.seek(0)
        parts = partition_docx(file=prepared, languages=[""])
        elements = [element for part in parts for element in converted(part)]
        elements += figures(document.part, None)
        title = outline.one_line(document.core_properties.title or "")
        if title == "Word Document":  # what python-docx says where the file says nothing
            title = ""
        pages = max((element.page for element in elements if element.page), default=None)
        return Parsed(outline.outlined(elements), title or outline.first_heading(elements), pages)


def _bound_spans(document: Any, name: str) -> None:  # noqa: ANN401 - python-docx ships no types
    """No cell may be wider than any table is: python-docx makes a cell of each step of its width."""
    total = 0
    for span in document.element.body.iter(*_SPANS):
        value = span.get(f"{_W}val", "1")
        steps = min(int(value[:9]) if value.isdecimal() else 1, _WIDEST)
        span.set(f"{_W}val", str(steps))
        total += steps
    if total > outline.MAX_CELLS:
        raise TooLarge(
            f"“{name}” has tables of more than {outline.MAX_CELLS:,} cells. Split it and upload the "
            "parts."
        )


def _prepare(document: Any) -> None:  # noqa: ANN401 - python-docx ships no types
    body = document.element.body
    for wrapped in list(body.iter(f"{_MC}AlternateContent")):
        for fallback in wrapped.findall(f"{_MC}Fallback"):
            wrapped.remove(fallback)  # the same content again, for older readers
    for tag in _REMOVED:
        for element in list(body.iter(_W + tag)):
            element.getparent().remove(element)
    for tag in (*_UNWRAPPED, "sdtContent", "sdt"):
        for element in list(body.iter(_W + tag)):
            _unwrap(element)
    for formula in list(body.iter(f"{_M}oMath")):
        _write_out(formula)
    for ruby in list(body.iter(f"{_W}ruby")):
        _keep_base(ruby)
    notes = _notes(document)
    for reference in list(body.iter(f"{_W}footnoteReference", f"{_W}endnoteReference")):
        _move_after(reference, notes.get((reference.tag, reference.get(f"{_W}id")), []))
    comments = _comments(document)
    for reference in list(body.iter(f"{_W}commentReference")):
        _move_after(reference, comments.get(reference.get(f"{_W}id"), []))
    for box in list(body.iter(f"{_W}txbxContent")):
        _move_after(box, list(box))
    _name_headings(document)


def _mark_header(table: Any) -> None:  # noqa: ANN401 - lxml elements
    """Rows that Word repeats on every page are the header."""
    count = 0
    for row in table.iterchildren(f"{_W}tr"):
        mark = row.find(f"{_W}trPr/{_W}tblHeader")
        if mark is None or mark.get(f"{_W}val") in {"0", "false", "off"}:
            break
        count += 1
    first = table.find(f"{_W}tr/{_W}tc/{_W}p")
    if count and first is not None:
        run = first.makeelement(f"{_W}r", {})
        _letters(run, HEAD * (count + 1))
        at = first.find(f"{_W}pPr")
        first.insert(0 if at is None else 1, run)


def _unwrap(element: Any) -> None:  # noqa: ANN401 - lxml elements
    parent = element.getparent()
    if parent is None or parent.tag == f"{_W}rPr" or parent.tag == f"{_W}trPr":
        return  # the mark of an inserted paragraph or row, which holds nothing
    at = parent.index(element)
    for child in reversed(list(element)):
        parent.insert(at + 1, child)
    parent.remove(element)


def _write_out(formula: Any) -> None:  # noqa: ANN401 - lxml elements
    """A formula's letters become a run, since its structure is not read."""
    text = "".join(letter.text or "" for letter in formula.iter(f"{_M}t"))
    parent = formula.getparent()
    if parent is not None and text:
        run = parent.makeelement(f"{_W}r", {})
        _letters(run, text)
        parent.replace(formula, run)
        if parent.tag == f"{_M}oMathPara":
            _unwrap(parent)


def _keep_base(ruby: Any) -> None:  # noqa: ANN401 - lxml elements
    """Of characters with their reading above them, the characters stay in their run."""
    parent = ruby.getparent()
    base = ruby.find(f"{_W}rubyBase")
    text = "".join(part.text or "" for part in base.iter(f"{_W}t")) if base is not None else ""
    if parent is not None:
        letters = parent.makeelement(f"{_W}t", {})
        letters.text = text
        parent.replace(ruby, letters)


def _letters(run: Any, text: str) -> None:  # noqa: ANN401 - lxml elements
    letters = run.makeelement(f"{_W}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"})
    letters.text = text
    run.append(letters)


def _move_after(anchor: Any, blocks: list[Any]) -> None:  # noqa: ANN401 - lxml elements
    host = None
    for ancestor in anchor.iterancestors(f"{_W}p"):
        host = ancestor  # the outermost: a text box may lie in a text box
    if host is None:
        return
    for block in reversed(blocks):
        host.addnext(block)


def _notes(document: Any) -> dict[tuple[str, str], list[Any]]:  # noqa: ANN401 - python-docx
    from docx.oxml import parse_xml  # resolves no entities; its elements can be moved into the body

    found: dict[tuple[str, str], list[Any]] = {}
    for relation in document.part.rels.values():
        kind = relation.reltype.rsplit("/", 1)[-1]
        if kind not in {"footnotes", "endnotes"} or relation.is_external:
            continue
        singular = kind[:-1]
        root = parse_xml(relation.target_part.blob)
        for note in root.iter(_W + singular):
            if note.get(f"{_W}type") in {None, "normal"}:
                key = (f"{_W}{singular}Reference", note.get(f"{_W}id"))
                found[key] = list(note.iter(f"{_W}p"))
    return found


def _comments(document: Any) -> dict[str, list[Any]]:  # noqa: ANN401 - python-docx
    from docx.oxml import parse_xml

    found: dict[str, list[Any]] = {}
    for relation in document.part.rels.values():
        if relation.is_external or not relation.reltype.endswith("/relationships/comments"):
            continue
        for comment in parse_xml(relation.target_part.blob).iter(f"{_W}comment"):
            blocks = list(comment.iter(f"{_W}p"))
            author = outline.one_line(comment.get(f"{_W}author", ""))
            if blocks and author:
                run = blocks[0].makeelement(f"{_W}r", {})
                _letters(run, f"{author}: ")
                mark = blocks[0].find(f"{_W}pPr")
                blocks[0].insert(0 if mark is None else 1, run)
            found[comment.get(f"{_W}id", "")] = blocks
    return found


def _name_headings(document: Any) -> None:  # noqa: ANN401 - python-docx ships no types
    """Styles with an outline level, and localized heading styles, get the names that mean headings."""
    from docx.enum.style import WD_STYLE_TYPE

    by_level: dict[int, str] = {}
    for style in document.styles:
        if style.type != WD_STYLE_TYPE.PARAGRAPH:
            continue
        level = _outline_level(style)
        if level is None:
            continue
        by_level.setdefault(level, style.style_id)
        if not re.match(r"^(?:Heading \d|Title|Subtitle)$", style.name or ""):
            style.element.name_val = f"heading {level}"
    for level_mark in list(document.element.body.iter(f"{_W}outlineLvl")):
        paragraph = next(level_mark.iterancestors(f"{_W}p"), None)
        value = level_mark.get(f"{_W}val", "")
        if paragraph is not None and value.isdigit() and int(value) + 1 in by_level:
            paragraph.style = by_level[int(value) + 1]


def _outline_level(style: Any) -> int | None:  # noqa: ANN401 - python-docx ships no types
    """1 to 9, from the name or from the outline level of the style or of those it is based on."""
    if named := _NUMBERED_STYLE.match(style.name or ""):
        return int(named[1])
    seen = 0
    while style is not None and seen < 10:
        for mark in style.element.iter(f"{_W}outlineLvl"):
            value = mark.get(f"{_W}val", "")
            return int(value) + 1 if value.isdigit() and int(value) < 9 else None
        if named := _NUMBERED_STYLE.match(style.name or ""):
            return int(named[1])
        style, seen = style.base_style, seen + 1
    return None
