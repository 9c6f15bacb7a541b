"""Plain text and Markdown."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from indexer.parse import outline
from indexer.parse.encoding import decode
from indexer.parse.html import KNOWN, read_html
from indexer.parse.lines import BULLET
from indexer.parse.mend import join_lines, vocabulary
from indexer.parse.nesting import NESTING, TooDeep
from pipeline.types import Element, ElementKind, Parsed

if TYPE_CHECKING:
    from markdown_it.token import Token

_RULE = re.compile(r"^\s*([%*=_#~·—–\-])(\s*\1)*\s*$")
_CHAPTER = re.compile(
    r"^第\s*[〇零一二三四五六七八九十百千\d]{1,6}\s*([编篇部卷章回节節編])(?:\s|　|$|[^，。；！？,;]{0,30}$)"
)
_ENGLISH_CHAPTER = re.compile(
    r"^(part|chapter|section|appendix)\s+([ivxlc]+|\d+|[a-z])\b.{0,80}$", re.IGNORECASE
)
_LEVELS = {"编": 1, "編": 1, "篇": 1, "部": 1, "卷": 1, "章": 2, "回": 2, "节": 3, "節": 3}
_ENGLISH_LEVELS = {"part": 1, "chapter": 2, "appendix": 2, "section": 3}
_ENDS = tuple("。！？；.!?;:：…”’\"')）】》")
_WRAP_LEAST = 50
_LONG = 100


class TextParser:
    """Reads plain text: paragraphs at empty lines and indents, wrapped lines joined, verse kept."""

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({"text/plain"})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        return Parsed(outline.outlined(read_text(decode(data))))


def read_text(text: str) -> list[Element]:
    """The paragraphs of a plain text, in order."""
    lines = text.split("\n")
    words = vocabulary(lines)
    elements: list[Element] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip() and not _RULE.match(line):
            block.append(line)
        elif block:
            elements += _block(block, words)
            block = []
    return elements


def _block(lines: list[str], words: frozenset[str]) -> Iterator[Element]:
    """A run of lines without an empty one between them."""
    widest = max(_width(line) for line in lines)
    wrapped = _is_wrapped(lines, widest)
    margin = min(_indent(line) for line in lines)
    paragraph: list[str] = []
    for line in lines:
        heading = _heading(line)
        starts = (
            heading is not None
            or bool(BULLET.match(line))
            or _indent(line) > margin + 1
            or line.startswith("\u3000")
            or (not wrapped and widest > _LONG)
            or (wrapped and bool(paragraph) and _ends(paragraph[-1], line, widest))
        )
        hanging = bool(paragraph) and bool(BULLET.match(paragraph[0])) and not BULLET.match(line)
        if paragraph and starts and not (hanging and _indent(line) > _indent(paragraph[0])):
            yield _paragraph(paragraph, widest, words, wrapped=wrapped)
            paragraph = []
        if heading:
            yield heading
        else:
            paragraph.append(line)
    if paragraph:
        yield _paragraph(paragraph, widest, words, wrapped=wrapped)


def _is_wrapped(lines: list[str], widest: int) -> bool:
    """Whether an editor broke the lines at its margin: full lines that stop inside a sentence."""
    full = [line.rstrip() for line in lines[:-1] if _width(line) >= 0.8 * widest]
    open_ended = sum(not line.endswith(_ENDS) for line in full)
    return widest >= _WRAP_LEAST and open_ended * 2 > len(full)


def _short(before: str, after: str, widest: int) -> bool:
    """Whether the next word had room on the line, so that the break is meant."""
    word = re.match(rf"[{outline.HAN}]|[^\s{outline.HAN}]+", after.strip())
    return word is not None and _width(before) + 1 + _width(word[0]) < 0.9 * widest


def _ends(before: str, after: str, widest: int) -> bool:
    return before.rstrip().endswith(_ENDS) and _short(before, after, widest)


def _paragraph(lines: list[str], widest: int, words: frozenset[str], *, wrapped: bool) -> Element:
    kind = ElementKind.LIST_ITEM if BULLET.match(lines[0]) else ElementKind.PARAGRAPH
    if not wrapped:
        return Element(outline.tidy("\n".join(lines)), kind)
    runs = [[lines[0]]]
    for before, line in pairwise(lines):
        if _short(before, line, widest):
            runs.append([])
        runs[-1].append(line)
    return Element(outline.tidy("\n".join(join_lines(run, words) for run in runs)), kind)


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip(" "))


def _heading(line: str) -> Element | None:
    text = outline.tidy(line)
    if len(text) > 60 or text.endswith(("。", "；", "，", ",", ";")):
        return None
    if found := _CHAPTER.match(text):
        return Element(text, ElementKind.HEADING, level=_LEVELS[found[1]])
    if (found := _ENGLISH_CHAPTER.match(text)) and not text.endswith("."):
        return Element(text, ElementKind.HEADING, level=_ENGLISH_LEVELS[found[1].lower()])
    return None


def _width(line: str) -> int:
    """Columns of a terminal: a Han character takes two."""
    stripped = line.strip()
    if stripped.isascii():
        return len(stripped)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in stripped)


class MarkdownParser:
    """Reads CommonMark with tables, through the HTML that it stands for."""

    def __init__(self, *, nesting: int = NESTING) -> None:
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({"text/markdown"})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        matter, body = _front_matter(decode(data))
        elements, title = read_html(_rendered(body, self._nesting), self._nesting)
        head = [Element(outline.tidy(matter))] if matter else []
        named = re.search(r"^title:(.+)$", matter, re.MULTILINE)
        own = _unquoted(named[1].strip(" \t")) if named else ""
        return Parsed(outline.outlined([*head, *elements]), own or title)


def _unquoted(text: str) -> str:
    start = text[:1] in {'"', "'"}
    end = text[-1:] in {'"', "'"} and len(text) > start + 1
    return text[start : len(text) - end]


def _front_matter(text: str) -> tuple[str, str]:
    found = re.match(r"\A---\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text, re.DOTALL)
    return (found[1], text[found.end() :]) if found else ("", text)


def _rendered(text: str, nesting: int) -> str:
    """HTML. One level more than allowed is kept, so that it is refused: what is deeper is left out without a word."""
    from markdown_it import MarkdownIt

    parser: MarkdownIt = MarkdownIt("commonmark", {"maxNesting": nesting + 1}).enable(
        ["table", "strikethrough"]
    )
    try:
        tokens = parser.parse(text)
    except RecursionError as error:
        raise TooDeep(nesting) from error
    for token in tokens:
        for part in (token, *(token.children or ())):
            _keep_unknown(part)
    body: str = parser.renderer.render(tokens, parser.options, {})
    return f"<body>{body}</body>"


def _keep_unknown(token: "Token") -> None:
    """`<command>` is no HTML tag but a placeholder that someone wrote: it stays as text."""
    if token.type not in {"html_inline", "html_block"}:
        return
    tag = re.match(r"</?([A-Za-z][\w-]*)", token.content.lstrip())
    if tag and tag[1].lower() not in KNOWN:
        token.type = "text"
