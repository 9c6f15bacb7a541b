"""What a citation or hit points at, and the panel that shows it. Pure functions that return escaped HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Self
from urllib.parse import quote

from app.schemas import CitationOut, HitOut
from ui.highlight import window
from ui.words import Words


@dataclass(frozen=True, slots=True)
class Passage:
    """A place in one version of a document, with what is said about it: name, page, heading path, cells.

    `table` is the number of the table that it stands in, None outside tables.
    """

    document: str
    version: int
    start: int
    end: int
    filename: str
    page: int | None
    heading: str
    table: int | None = None
    cells: str = ""

    @classmethod
    def of(cls, source: CitationOut | HitOut) -> Self:
        """The place of a citation or of a hit."""
        return cls(
            document=source.document_id,
            version=source.version,
            start=source.start,
            end=source.end,
            filename=source.filename,
            page=source.page,
            heading=heading_path(source.heading),
            table=source.table,
            cells=source.cells or "",
        )

    @classmethod
    def parse(cls, data: Mapping[str, object]) -> Self | None:
        """The place that a click named in its `data-` attributes; None where they name none."""
        try:
            page, table = str(data.get("page", "")), str(data.get("table", ""))
            return cls(
                document=str(data["document"]),
                version=int(str(data["version"])),
                start=int(str(data["start"])),
                end=int(str(data["end"])),
                filename=str(data.get("filename", "")),
                page=int(page) if page else None,
                heading=str(data.get("heading", "")),
                table=int(table) if table else None,
                cells=str(data.get("cells", "")),
            )
        except (KeyError, ValueError):
            return None

    @property
    def href(self) -> str:
        """The original file; PDF viewers turn to the page."""
        page = f"#page={self.page}" if self.page else ""
        return f"/documents/{quote(self.document, safe='')}/content?version={self.version}{page}"

    @property
    def picture(self) -> str | None:
        """The picture of its page with the passage marked; None where it stands on no page."""
        if self.page is None:
            return None
        path = f"/documents/{quote(self.document, safe='')}/pages/{self.page}"
        return f"{path}?version={self.version}&highlight={self.start}-{self.end}"

    @property
    def slides(self) -> bool:
        """Whether the document's pages are slides."""
        return self.filename.lower().endswith((".pptx", ".ppt", ".pps", ".ppsx"))

    @property
    def attributes(self) -> str:
        """The `data-` attributes that `Passage.parse` reads back, escaped."""
        values = {
            "event": "click",
            "document": self.document,
            "version": self.version,
            "start": self.start,
            "end": self.end,
            "filename": self.filename,
            "page": "" if self.page is None else self.page,
            "heading": self.heading,
            "table": "" if self.table is None else self.table,
            "cells": self.cells,
        }
        return " ".join(f'data-{key}="{escape(str(value))}"' for key, value in values.items())


def heading_path(heading: list[str]) -> str:
    """The titles above a passage, outermost first, empty ones left out."""
    return " › ".join(title.strip() for title in heading if title.strip())


def place(passage: Passage, words: Words) -> str:
    """File, page or slide, heading path and cells in one line."""
    parts = [f'<bdi class="zn-file">{escape(passage.filename or words.untitled)}</bdi>']
    if passage.page is not None:
        page = (words.slide if passage.slides else words.page).format(page=passage.page)
        parts.append(f'<span class="zn-page">{page}</span>')
    if passage.heading:
        parts.append(f'<span class="zn-heading">{escape(passage.heading)}</span>')
    if passage.cells:
        parts.append(f'<span class="zn-page">{escape(_cells(passage, words))}</span>')
    return f'<span class="zn-place">{"".join(parts)}</span>'


def _cells(passage: Passage, words: Words) -> str:
    """A range of a sheet names its sheet; other tables are numbered where there is more to say than A1."""
    named = "!" in passage.cells or passage.table is None
    return (
        passage.cells
        if named
        else words.table_cells.format(table=passage.table, cells=passage.cells)
    )


def panel(passage: Passage, text: str, words: Words, table: str = "") -> str:
    """The passage marked in about 300 code points of its document on each side; `text` is the stored text.

    `table` is HTML that the API made and escaped: the table with the passage's cells marked. It takes the place of
    the text where the passage is nothing but rows of it.
    """
    shown = window(text, passage.start, passage.end)
    if shown is None:
        return panel_notice(words.passage, words.passage_gone, words)
    dots_before = '<span class="zn-cut">…</span>' if shown.cut_before else ""
    dots_after = '<span class="zn-cut">…</span>' if shown.cut_after else ""
    where = words.characters.format(start=passage.start, end=passage.end)
    context = (
        f'<div class="zn-context">{dots_before}{escape(shown.before.lstrip())}'
        f'<mark class="zn-quote">{escape(shown.quote)}</mark>'
        f"{escape(shown.after.rstrip())}{dots_after}</div>"
    )
    if table:
        rows = f'<div class="zn-table">{table}</div>'
        context = rows if "\n\n" not in shown.quote else context + rows
    about = f"{words.version.format(version=passage.version)} · {where}"
    foot = (
        f'<footer class="zn-panel-foot"><span>{about}</span><a class="zn-link" target="_blank" '
        f'rel="noopener noreferrer" href="{escape(passage.href)}">{words.open_original} ↗</a></footer>'
    )
    body = context + _picture(passage, words)
    return _frame(words.passage, place(passage, words), body, foot, words)


def _picture(passage: Passage, words: Words) -> str:
    """The page below the text. The page's script takes it away where the API draws none (slides)."""
    if passage.picture is None:
        return ""
    address = escape(passage.picture)
    says = words.page_picture.format(page=passage.page)
    return (
        f'<figure class="zn-picture"><figcaption>{says}</figcaption><a target="_blank" '
        f'rel="noopener noreferrer" href="{address}"><img src="{address}" alt="{says}"/></a></figure>'
    )


def panel_notice(title: str, sentence: str, words: Words) -> str:
    """The panel with a sentence instead of a passage."""
    return _frame(title, "", f'<p class="zn-panel-notice">{escape(sentence)}</p>', "", words)


def _frame(title: str, subtitle: str, body: str, foot: str, words: Words) -> str:
    return (
        f'<aside class="zn-panel" role="dialog" aria-label="{escape(title)}">'
        f'<header class="zn-panel-head"><div><h2>{escape(title)}</h2>{subtitle}</div>'
        f'<button type="button" class="zn-close" data-close="1" aria-label="{words.close}">×</button>'
        f'</header><div class="zn-panel-body">{body}</div>{foot}</aside>'
    )
