"""Rich text: control words, groups and bytes in code pages to paragraphs, tables and notes.

The format is that of the Rich Text Format Specification 1.9.1. Libraries for it drop footnotes, text
boxes and headings and take one code page for all; a reader of its own is short.
"""

from dataclasses import dataclass, replace

from indexer.parse import outline
from indexer.parse.media import RTF
from indexer.parse.nesting import NESTING, TooDeep
from indexer.parse.rtf_body import Body
from indexer.parse.rtf_words import (
    AUTHOR,
    BODY,
    CHARACTERS,
    CHARSETS,
    DESTINATIONS,
    FONTS,
    OWN_TEXT,
    SKIPPED,
    STYLES,
    SYMBOLS,
    TOKEN,
    TRANSPARENT,
    WIDER,
    known,
)
from pipeline.types import Element, Parsed

_LONGEST_NAME = 1_000


@dataclass(slots=True)
class _State:
    """What a group inherits and takes back at its end."""

    destination: str = BODY
    font: int | None = None
    fallback: int = 1
    hidden: bool = False
    opened: bool = True


class RtfParser:
    """Reads RTF in any code page; headings by outline level or style, notes after their paragraph."""

    def __init__(self, *, nesting: int = NESTING) -> None:
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({RTF})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        elements, title = read_rtf(data, self._nesting)
        return Parsed(outline.outlined(elements), title or outline.first_heading(elements))


def read_rtf(data: bytes, nesting: int = NESTING) -> tuple[list[Element], str | None]:
    """The elements of a rich text in order, without paths, and the title of its properties.

    Raises TooDeep for more than `nesting` groups in each other.
    """
    reader = _Reader(nesting)
    reader.read(data.decode("latin-1"))
    return reader.elements, reader.title or None


class _Reader:
    def __init__(self, nesting: int) -> None:
        self.title = ""
        self._nesting = nesting
        self._body = Body()
        self._raw = bytearray()
        self._stack: list[_State] = []
        self._state = _State()
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._default: int | None = None
        self._style: int | None = None
        self._style_level: int | None = None
        self._skip = 0
        self._optional = False

    @property
    def elements(self) -> list[Element]:
        return self._body.elements

    def read(self, text: str) -> None:
        at = 0
        while found := TOKEN.search(text, at):
            at = found.end()
            word, number, code, symbol, brace, plain = found.groups()
            if brace == "{":
                self._open()
            elif brace == "}":
                self._close()
            elif word == "bin":
                at += max(0, int(number or 0))
            elif word:
                self._word(word, int(number) if number else None)
            elif code:
                self._bytes(bytes.fromhex(code))
            elif symbol:
                self._symbol(symbol)
            elif plain:
                self._bytes(plain.encode("latin-1"))
        self._flush()
        self._body.end(BODY)

    def _open(self) -> None:
        self._flush()
        if len(self._stack) >= self._nesting:
            raise TooDeep(self._nesting)
        self._stack.append(self._state)
        self._state = replace(self._state, opened=True)
        self._skip = 0

    def _close(self) -> None:
        self._flush()
        self._skip = 0
        if not self._stack:
            return
        inner, self._state = self._state, self._stack.pop()
        if inner.destination == self._state.destination:
            return
        if inner.destination in OWN_TEXT:
            self._body.end_inner(inner.destination)

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self._optional = True
        elif symbol in "\r\n":
            self._end_paragraph()
        else:
            self._say(SYMBOLS.get(symbol, ""))

    def _word(self, word: str, number: int | None) -> None:
        optional, self._optional = self._optional, False
        if self._skip and word != "u":
            self._skip -= 1
        state = self._state
        if state.destination == SKIPPED and word not in TRANSPARENT and word != "title":
            return
        if word in TRANSPARENT:
            if state.destination == SKIPPED and word == "ud":
                state.destination = self._outside()
            return
        if word in DESTINATIONS and state.opened:
            self._begin(DESTINATIONS[word])
        elif optional:
            state.destination = SKIPPED
        elif word == "u" and number is not None:
            self._unicode(number)
        elif word in CHARACTERS:
            self._say(CHARACTERS[word])
        else:
            self._control(word, number)

    def _outside(self) -> str:
        return next(
            (state.destination for state in reversed(self._stack) if state.destination != SKIPPED),
            BODY,
        )

    def _begin(self, destination: str) -> None:
        self._flush()
        if destination in OWN_TEXT and destination != self._state.destination:
            self._body.begin_inner()
        self._state.destination = destination
        if destination == AUTHOR:
            self._body.author = ""

    def _end_paragraph(self) -> None:
        self._flush()
        self._body.end_paragraph(self._state.destination)

    def _control(self, word: str, number: int | None) -> None:
        state = self._state
        if state.destination in {FONTS, STYLES}:
            self._declared(word, number)
            return
        match word:
            case "ansicpg" if number:
                self._codec = known(WIDER.get(number, f"cp{number}")) or self._codec
            case "mac":
                self._codec = "mac-roman"
            case "deff":
                self._default = number
            case "f":
                self._flush()
                state.font = number
            case "uc":
                state.fallback = max(0, number or 0)
            case "v" | "deleted":
                self._flush()
                state.hidden = number != 0
            case "plain":
                self._flush()
                state.font, state.hidden = None, False
            case _:
                self._layout(word, number)

    def _declared(self, word: str, number: int | None) -> None:
        """What the tables of fonts and styles say of the one on its way."""
        in_fonts = self._state.destination == FONTS
        match word:
            case "f" if in_fonts:
                self._font = number or 0
            case "f":
                self._state.font = number
            case "fcharset" if in_fonts and number in CHARSETS:
                self._fonts[self._font] = CHARSETS[number]
            case "cpg" if in_fonts and number:
                codec = known(WIDER.get(number, f"cp{number}"))
                if codec:
                    self._fonts[self._font] = codec
            case "s" if not in_fonts:
                self._style = number
            case "outlinelevel" if not in_fonts:
                self._style_level = number

    def _layout(self, word: str, number: int | None) -> None:
        flow = self._body.flow
        match word:
            case "par" | "sect" | "page" | "column":
                self._end_paragraph()
            case "pard":
                flow.style, flow.level, flow.in_table = None, None, False
            case "s":
                flow.style = number
            case "outlinelevel":
                flow.level = number
            case "intbl":
                flow.in_table = True
            case "cell" | "row" if self._body.inside:
                self._end_paragraph()
            case "cell":
                self._flush()
                self._body.end_cell()
            case "row":
                self._flush()
                self._body.end_row()

    def _unicode(self, number: int) -> None:
        self._flush()
        self._skip = 0
        self._say(chr(number % 65_536))
        self._skip = self._state.fallback

    def _bytes(self, data: bytes) -> None:
        self._state.opened = self._state.opened and not data.strip()
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._state.destination != SKIPPED and not self._state.hidden:
            self._raw += data

    def _say(self, text: str) -> None:
        self._flush()
        if self._skip and text:
            self._skip -= 1
            return
        self._take(text)

    def _flush(self) -> None:
        """What has come as bytes becomes text in the code page of its font."""
        raw = bytes(self._raw)
        self._raw.clear()
        if raw:
            font = self._default if self._state.font is None else self._state.font
            codec = self._fonts.get(font if font is not None else -1, self._codec)
            self._take(raw.decode("ascii" if raw.isascii() else codec, "replace"))

    def _take(self, text: str) -> None:
        match self._state.destination:
            case _ if self._state.hidden:
                return
            case "title":
                self.title = outline.one_line(self.title + text)[:_LONGEST_NAME]
            case "author":
                self._body.author = outline.one_line(self._body.author + text)[:_LONGEST_NAME]
            case "styles":
                self._name_style(text)
            case "body" | "running" | "note" | "remark":
                self._body.flow.pieces.append(text)

    def _name_style(self, text: str) -> None:
        """The name of a style ends its group with a semicolon."""
        self._body.name_style(self._style, text, self._style_level)
        if ";" in text:
            self._style, self._style_level = None, None
