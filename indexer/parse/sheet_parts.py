"""What a sheet of an XLSX file holds beside its cells: comments, text boxes, titles of charts."""

import re
from collections.abc import Iterator
from typing import Any

from indexer.parse.blocks import Remark
from indexer.parse.figures import titles, written

_CELL = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_THREAD = "{http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments}"
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def remarks(sheet: Any) -> Iterator[Remark]:  # noqa: ANN401 - openpyxl has no types
    """The comments of a sheet in the order of its parts; of a thread its own texts, not the note for old programs."""
    path = sheet._worksheet_path  # noqa: SLF001
    related = list(_related(sheet, path, {"threadedComment", "comments"}))
    threaded = set()
    for tree in (tree for kind, _, tree in related if kind == "threadedComment"):
        for comment in tree.iter(f"{_THREAD}threadedComment"):
            threaded.add(comment.get("ref"))
            yield from _remark(comment.get("ref"), comment.findtext(f"{_THREAD}text") or "")
    for tree in (tree for kind, _, tree in related if kind == "comments"):
        authors = [author.text or "" for author in tree.iter(f"{_SHEET}author")]
        for comment in tree.iter(f"{_SHEET}comment"):
            if comment.get("ref") not in threaded:
                words = "".join(letters.text or "" for letters in comment.iter(f"{_SHEET}t"))
                by = comment.get("authorId", "")
                author = authors[int(by)] if by.isdecimal() and int(by) < len(authors) else ""
                if author and not words.startswith(author):
                    words = f"{author}: {words}"
                yield from _remark(comment.get("ref"), words)


def drawn(sheet: Any) -> Iterator[str]:  # noqa: ANN401 - openpyxl has no types
    """The texts of a sheet's boxes, and the titles of its charts, whose numbers stand in cells."""
    for _, path, drawing in _related(sheet, sheet._worksheet_path, {"drawing"}):  # noqa: SLF001
        yield from written(drawing)
        for _, _, chart in _related(sheet, path, {"chart"}):
            yield from titles(chart)


def column_of(letters: str) -> int:
    """A column's number from 0 by its letters.

    >>> [column_of(letters) for letters in ("A", "Z", "AA")]
    [0, 25, 26]
    """
    at = 0
    for letter in letters:
        at = at * 26 + ord(letter) - ord("A") + 1
    return at - 1


def _related(sheet: Any, path: str, kinds: set[str]) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401
    """The parts that a part of a workbook names: their kind, path and tree."""
    from lxml import etree
    from openpyxl.packaging.relationship import get_dependents, get_rels_path

    archive = sheet.parent._archive  # noqa: SLF001
    rels = get_rels_path(path)
    if rels not in archive.namelist():
        return
    for relation in get_dependents(archive, rels):
        kind, target = relation.Type.rsplit("/", 1)[-1], relation.Target
        if kind in kinds and relation.TargetMode != "External" and target in archive.namelist():
            parser = etree.XMLParser(resolve_entities=False, no_network=True)
            yield kind, target, etree.fromstring(archive.read(target), parser)


def _remark(reference: str | None, text: str) -> Iterator[Remark]:
    place = _CELL.fullmatch(reference or "")
    if place is not None:
        yield int(place[2]), column_of(place[1]), text
