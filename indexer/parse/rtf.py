"""Rich text: control words, groups and bytes in code pages to paragraphs, tables and notes.

The format is that of the Rich Text Format Specification 1.9.1. Libraries for it drop footnotes, text
boxes and headings and take one code page for all; a reader of its own is short.
"""

import codecs
import re
from dataclasses import dataclass, field, replace

from indexer.parse import outline, tabular
from indexer.parse.encoding import clean
from indexer.parse.lines import BULLET
from indexer.parse.media import RTF
from pipeline.types import Element, ElementKind, Parsed

_TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
_CHARACTERS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "emdash": "—", "endash": "–", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ",
    "enspace": " ", "qmspace": " ", "nestcell": " ", "nestrow": "\n", "zwj": "\u200d",
    "zwnj": "\u200c",
}  # fmt: skip
_SYMBOLS = {"\\": "\\", "{": "{", "}": "}", "~": "\u00a0", "_": "-", "-": ""}
_CHARSETS = {
    128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "big5hkscs", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251",
    222: "cp874", 238: "cp1250",
}  # fmt: skip
_WIDER = {936: "gb18030", 950: "big5hkscs", 65001: "utf-8"}
_BODY, _SKIPPED, _FONTS, _STYLES, _TITLE, _AUTHOR = "body skipped fonts styles title author".split()
_RUNNING, _NOTE, _REMARK = "running note remark".split()
_OWN_TEXT = frozenset({_RUNNING, _NOTE, _REMARK})
_DESTINATIONS = {
    "fonttbl": _FONTS, "stylesheet": _STYLES, "title": _TITLE, "footnote": _NOTE, "shptxt": _NOTE,
    "annotation": _REMARK, "atnauthor": _AUTHOR,
    **dict.fromkeys(
        ("header headerl headerr headerf footer footerl footerr footerf").split(), _RUNNING
    ),
    **dict.fromkeys(
        "colortbl info pict fldinst listtable listoverridetable revtbl rsidtbl generator xmlnstbl "
        "themedata colorschememapping datastore latentstyles objdata sp shprslt nonshppict "
        "nonesttables nesttableprops bkmkstart bkmkend filetbl pn tc xe upr atnid atnref atntime "
        "atndate atnparent atnicn ftnsep ftnsepc aftnsep aftnsepc private mmathPr".split(),
        _SKIPPED,
    ),
}  # fmt: skip
_TRANSPARENT = frozenset({"shpinst", "ud"})
"""Groups that old readers may skip, with text that is shown."""
_HEADING = re.compile(r"^(?:heading|标题|標題)\s*([1-9])\b", re.IGNORECASE)
_DEEPEST = 5_000
_LONGEST_NAME = 1_000


@dataclass(slots=True)
class _State:
    """What a group inherits and takes back at its end."""

    destination: str = _BODY
    font: int | None = None
    fallback: int = 1
    hidden: bool = False
    opened: bool = True


@dataclass(slots=True)
class _Paragraph:
    """A paragraph on its way, and what its control words said of it."""

    pieces: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    style: int | None = None
    level: int | None = None
    in_table: bool = False


class RtfParser:
    """Reads RTF in any code page; headings by outline level or style, notes after their paragraph."""

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({RTF})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        elements, title = read_rtf(data)
        return Parsed(outline.outlined(elements), title or outline.first_heading(elements))


def read_rtf(data: bytes) -> tuple[list[Element], str | None]:
    """The elements of a rich text in order, without paths, and the title of its properties."""
    reader = _Reader()
    reader.read(data.decode("latin-1"))
    return reader.elements, reader.title or None


class _Reader:
    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.title = ""
        self._stack: list[_State] = []
        self._state = _State()
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._default: int | None = None
        self._styles: dict[int, int] = {}
        self._style: int | None = None
        self._style_level: int | None = None
        self._author = ""
        self._waiting: list[Element] = []
        self._rows: list[list[str]] = []
        self._cells: list[str] = []
        self._flow = _Paragraph()
        self._outer: list[_Paragraph] = []
        self._skip = 0
        self._optional = False

    def read(self, text: str) -> None:
        at = 0
        while found := _TOKEN.search(text, at):
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
        while self._outer:  # the file is cut off
            self._end_destination(_NOTE)
        self._flow.in_table = False
        self._end_paragraph(_BODY)
        self._end_table()

    def _open(self) -> None:
        self._flush()
        if len(self._stack) >= _DEEPEST:
            raise ValueError("the groups are nested too deeply")
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
        if inner.destination in _OWN_TEXT:
            self._end_destination(inner.destination)

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self._optional = True
        elif symbol in "\r\n":
            self._end_paragraph(self._state.destination)
        else:
            self._say(_SYMBOLS.get(symbol, ""))

    def _word(self, word: str, number: int | None) -> None:
        optional, self._optional = self._optional, False
        if self._skip and word != "u":
            self._skip -= 1
        state = self._state
        if state.destination == _SKIPPED and word not in _TRANSPARENT and word != "title":
            return
        if word in _TRANSPARENT:
            if state.destination == _SKIPPED and word == "ud":
                state.destination = self._outside()
            return
        if word in _DESTINATIONS and state.opened:
            self._begin(_DESTINATIONS[word])
        elif optional:
            state.destination = _SKIPPED
        elif word == "u" and number is not None:
            self._unicode(number)
        elif word in _CHARACTERS:
            self._say(_CHARACTERS[word])
        else:
            self._control(word, number)

    def _outside(self) -> str:
        return next(
            (state.destination for state in reversed(self._stack) if state.destination != _SKIPPED),
            _BODY,
        )

    def _begin(self, destination: str) -> None:
        self._flush()
        if destination in _OWN_TEXT and destination != self._state.destination:
            self._outer.append(self._flow)
            self._flow = _Paragraph()
        self._state.destination = destination
        if destination == _AUTHOR:
            self._author = ""

    def _end_destination(self, destination: str) -> None:
        """A note or a running line is over: the paragraph that it stood in goes on."""
        self._end_paragraph(destination)
        self._flow = self._outer.pop()

    def _control(self, word: str, number: int | None) -> None:
        state = self._state
        if state.destination in {_FONTS, _STYLES}:
            self._declared(word, number)
            return
        match word:
            case "ansicpg" if number:
                self._codec = _known(_WIDER.get(number, f"cp{number}")) or self._codec
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
        in_fonts = self._state.destination == _FONTS
        match word:
            case "f" if in_fonts:
                self._font = number or 0
            case "f":
                self._state.font = number
            case "fcharset" if in_fonts and number in _CHARSETS:
                self._fonts[self._font] = _CHARSETS[number]
            case "cpg" if in_fonts and number:
                codec = _known(_WIDER.get(number, f"cp{number}"))
                if codec:
                    self._fonts[self._font] = codec
            case "s" if not in_fonts:
                self._style = number
            case "outlinelevel" if not in_fonts:
                self._style_level = number

    def _layout(self, word: str, number: int | None) -> None:
        flow = self._flow
        match word:
            case "par" | "sect" | "page" | "column":
                self._end_paragraph(self._state.destination)
            case "pard":
                flow.style, flow.level, flow.in_table = None, None, False
            case "s":
                flow.style = number
            case "outlinelevel":
                flow.level = number
            case "intbl":
                flow.in_table = True
            case "cell" | "row" if self._outer:
                self._end_paragraph(self._state.destination)
            case "cell":
                self._flush()
                self._cells.append("".join(flow.pieces))
                flow.pieces.clear()
            case "row":
                self._flush()
                if self._cells:
                    self._rows.append(self._cells)
                self._cells = []

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
        if self._state.destination != _SKIPPED and not self._state.hidden:
            self._flow.raw += data

    def _say(self, text: str) -> None:
        self._flush()
        if self._skip and text:
            self._skip -= 1
            return
        self._take(text)

    def _flush(self) -> None:
        """What has come as bytes becomes text in the code page of its font."""
        raw = bytes(self._flow.raw)
        self._flow.raw.clear()
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
                self._author = outline.one_line(self._author + text)[:_LONGEST_NAME]
            case "styles":
                self._name_style(text)
            case "body" | "running" | "note" | "remark":
                self._flow.pieces.append(text)

    def _name_style(self, text: str) -> None:
        """The name of a style ends its group with a semicolon."""
        named = _HEADING.match(text.strip())
        level = int(named[1]) - 1 if named else self._style_level
        if self._style is not None and level is not None and 0 <= level < 9:
            self._styles[self._style] = level
        if ";" in text:
            self._style, self._style_level = None, None

    def _end_paragraph(self, destination: str) -> None:
        self._flush()
        flow = self._flow
        if flow.in_table and not self._outer:
            flow.pieces.append("\n")  # a cell of several paragraphs
            return
        text = _paired("".join(flow.pieces))
        flow.pieces.clear()
        if self._outer:
            self._end_inner(text, destination)
            return
        if not text.strip() and not self._waiting:
            return
        self._end_table()
        level = flow.level if flow.level is not None else self._styles.get(flow.style or -1)
        if level is not None and 0 <= level < 9:
            heading = outline.one_line(text)
            self.elements.append(Element(heading, ElementKind.HEADING, level=level + 1))
        else:
            item = BULLET.match(text.strip())
            kind = ElementKind.LIST_ITEM if item else ElementKind.PARAGRAPH
            self.elements.append(Element(outline.tidy(text), kind))
        self.elements += self._waiting
        self._waiting.clear()

    def _end_inner(self, text: str, destination: str) -> None:
        if not (tidied := outline.tidy(text)):
            return
        match destination:
            case "running":
                self.elements.append(Element(tidied, ElementKind.FURNITURE))
            case "remark":
                head = f"{self._author}: " if self._author else ""
                self._waiting.append(Element(head + tidied))
            case _:
                self._waiting.append(Element(tidied))

    def _end_table(self) -> None:
        if self._cells:
            self._rows.append(self._cells)
            self._cells = []
        if self._rows:
            self.elements += tabular.table([[_paired(cell) for cell in row] for row in self._rows])
            self._rows = []


def _known(codec: str) -> str | None:
    try:
        return codecs.lookup(codec).name
    except LookupError:
        return None


def _paired(text: str) -> str:
    """Two halves of a character beyond the first 65,536 come as two `\\u` words."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return clean(whole)
