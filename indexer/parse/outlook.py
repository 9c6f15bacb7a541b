"""Outlook messages (.msg): a folder of streams in an OLE file, named by property and type.

Source: [MS-OXMSG] and, for the packed rich text, [MS-OXRTFCP].
"""

import datetime
import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import format_datetime
from typing import Any

from indexer.parse import outline
from indexer.parse.archives import BROKEN, Entry
from indexer.parse.encoding import clean, decode
from indexer.parse.html import read_html
from indexer.parse.mail import DECORATION_BYTES, Part, written
from indexer.parse.media import OUTLOOK
from indexer.parse.nesting import NESTING
from indexer.parse.rtf import read_rtf
from indexer.parse.text import read_text
from pipeline.errors import DamagedDocument, TooLarge
from pipeline.types import Element, Parsed

_SUBJECT, _SENDER, _SENDER_MAIL, _SENDER_SMTP = "0037", "0C1A", "0C1F", "5D01"
_TO, _CC, _BODY, _HTML, _PACKED = "0E04", "0E03", "1000", "1013", "1009"
_FILE, _SHORT_FILE, _SHOWN, _DATA = "3707", "3704", "3001", "3701"
_MIME, _CONTENT_ID = "370E", "3712"
_SENT, _CODEPAGE, _BODY_CODEPAGE, _HIDDEN = 0x0039, 0x3FFD, 0x3FDE, 0x7FFE
_MAX_UNPACKED = 100_000_000
_MAX_DEPTH = 8
"""Messages in each other; each costs a third more bytes a level. Fewer archives may lie in each other
(indexer/ingest/members.py), so that the one behind is refused as such."""
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".emf", ".wmf")
_SEED = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)


class OutlookParser:
    """Reads MSG as EML is read; what is attached are documents of their own (`attached`)."""

    def __init__(self, *, nesting: int = NESTING) -> None:
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({OUTLOOK})

    def parse(self, data: bytes, name: str) -> Parsed:
        with _opened(data, name) as message:
            elements = outline.outlined(_read(message, self._nesting))
            return Parsed(elements, message.text(_SUBJECT) or None)


def attached(data: bytes, name: str) -> Iterator[Entry]:
    """The attachments of a message in their order, messages in it as .eml; decoration is left out.

    Raises DamagedDocument where the message cannot be taken apart.
    """
    try:
        with _opened(data, name) as message:
            for folder in _attachments(message):
                yield _entry(folder)
    except (*BROKEN, struct.error, AttributeError, TypeError) as error:
        raise DamagedDocument("its parts break the rules of Outlook messages") from error


def _entry(folder: "_Folder") -> Entry:
    title = _title(folder)
    inner = folder.message()
    content = folder.raw(_DATA, "0102") if inner is None else _as_mail(inner, 1)
    return Entry(title, lambda: io.BytesIO(content))


@contextmanager
def _opened(data: bytes, name: str) -> Iterator["_Folder"]:
    from olefile import OleFileIO

    with OleFileIO(io.BytesIO(data)) as file:
        # Streams may share their sectors, so that a small file would hold a thousand large ones.
        if sum(entry.size for entry in file.direntries if entry) > 2 * len(data):
            raise DamagedDocument(
                f"“{name}” is damaged: its parts overlap. Save the message again and upload it."
            )
        message = _Folder(file, file.root)
        message.learn(32)
        yield message


def _read(message: "_Folder", nesting: int) -> Iterator[Element]:
    names = [name for folder in _attachments(message) if (name := _title(folder))]
    fields = [*_fields(message, message.sent()), ("Attachments", ", ".join(names))]
    yield Element("\n".join(f"{label}: {value}" for label, value in fields if value))
    yield from _body(message, nesting)


def _fields(message: "_Folder", sent: str) -> list[tuple[str, str]]:
    return [
        ("From", _sender(message)),
        ("To", message.text(_TO)),
        ("Cc", message.text(_CC)),
        ("Date", sent),
        ("Subject", message.text(_SUBJECT)),
    ]


def _attachments(message: "_Folder") -> list["_Folder"]:
    """Those that are not decoration, each with its properties learnt."""
    found = message.folders("__attach_version1.0_")
    for folder in found:
        folder.learn(8, message.codepage)
    return [folder for folder in found if not _is_decoration(folder)]


def _is_decoration(folder: "_Folder") -> bool:
    """A small picture that the body shows: a logo, a signature."""
    picture = folder.text(_MIME).startswith("image/") or _file_name(folder).lower().endswith(
        _PICTURES
    )
    shown = folder.text(_CONTENT_ID) or folder.flag(_HIDDEN)
    return bool(picture and shown) and len(folder.raw(_DATA, "0102")) < DECORATION_BYTES


def _title(folder: "_Folder") -> str:
    name = _file_name(folder)
    if (inner := folder.message()) is None:
        return name or "attachment"
    subject = inner.text(_SUBJECT) or name or "message"
    return f"{subject.replace('/', '_')[:100].strip().removesuffix('.msg')}.eml"


def _as_mail(message: "_Folder", depth: int) -> bytes:
    """A message inside another as a mail of its own: in the file it is a folder, which nothing else reads."""
    parts = [_body_part(message)]
    for folder in _attachments(message):
        if inner := folder.message():
            content = _as_mail(inner, depth + 1) if depth < _MAX_DEPTH else b""
            parts.append(Part(_title(folder), content, "message/rfc822"))
        else:
            parts.append(Part(_title(folder), folder.raw(_DATA, "0102")))
    moment = message.moment()
    fields = _fields(message, format_datetime(moment) if moment else "")
    comma = {"To", "Cc"}  # Outlook divides addresses by semicolons, mail by commas
    return written([(f, v.replace(";", ",") if f in comma else v) for f, v in fields], parts)


def _body_part(message: "_Folder") -> Part:
    if html := _html(message):
        return Part("", html.encode("utf-8", "replace"), "text/html; charset=utf-8")
    text = message.long_text(_BODY, message.body_codepage())
    if not text:
        text = "\n\n".join(element.text for element in _body(message, NESTING))
    return Part("", text.encode("utf-8", "replace"), "text/plain; charset=utf-8")


class _Folder:
    """A message, or one of its attachments: its streams by name."""

    def __init__(self, file: Any, entry: Any) -> None:  # noqa: ANN401 - olefile has no types
        self._file = file
        self._entries: Mapping[str, Any] = {child.name: child for child in entry.kids}
        self._fixed: dict[int, bytes] = {}
        self.codepage: str | None = None

    def learn(self, header: int, codepage: str | None = None) -> None:
        """The properties of a fixed size, which stand in one stream after `header` bytes."""
        data = self._bytes("__properties_version1.0")
        for at in range(header, len(data) - 15, 16):
            tag, _, value = struct.unpack_from("<II8s", data, at)
            self._fixed[tag >> 16] = value
        self.codepage = self._page(_CODEPAGE) or codepage

    def body_codepage(self) -> str | None:
        return self._page(_BODY_CODEPAGE) or self.codepage

    def _page(self, number: int) -> str | None:
        page = int.from_bytes(self._fixed.get(number, b"")[:4], "little")
        return {0: None, 65001: "utf-8"}.get(page, f"cp{page}")

    def folders(self, prefix: str) -> list["_Folder"]:
        return [
            _Folder(self._file, self._entries[name])
            for name in sorted(self._entries)
            if name.startswith(prefix) and self._entries[name].entry_type == 1
        ]

    def raw(self, number: str, kind: str) -> bytes:
        return self._bytes(f"__substg1.0_{number}{kind}")

    def _bytes(self, name: str) -> bytes:
        entry = self._entries.get(name)
        if entry is None or entry.entry_type != 2:
            return b""
        with self._file._open(entry.isectStart, entry.size) as stream:  # noqa: SLF001 - by entry
            data: bytes = stream.read()
        return data

    def long_text(self, number: str, codepage: str | None) -> str:
        """A text of several lines, in UTF-16 or in a code page."""
        if wide := self.raw(number, "001F"):
            return wide.decode("utf-16-le", "replace").removesuffix("\x00")
        narrow = self.raw(number, "001E").removesuffix(b"\x00")
        return decode(narrow, codepage) if narrow else ""

    def text(self, number: str) -> str:
        return outline.one_line(self.long_text(number, self.codepage))

    def message(self) -> "_Folder | None":
        """The message that this attachment is, None for a file."""
        inner = self.folders(f"__substg1.0_{_DATA}000D")
        if not inner:
            return None
        inner[0].learn(24)
        return inner[0]

    def flag(self, number: int) -> bool:
        return any(self._fixed.get(number, b"")[:1])

    def moment(self) -> datetime.datetime | None:
        """When the message was sent."""
        ticks = int.from_bytes(self._fixed.get(_SENT, b""), "little")
        if not ticks:
            return None
        start = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
        try:
            return start + datetime.timedelta(microseconds=ticks // 10)
        except OverflowError:
            return None

    def sent(self) -> str:
        """When the message was sent, by the clock of Greenwich."""
        moment = self.moment()
        return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def _sender(message: _Folder) -> str:
    name = message.text(_SENDER)
    address = message.text(_SENDER_SMTP) or message.text(_SENDER_MAIL)
    if not address or "@" not in address or address == name:
        return name or address
    return f"{name} <{address}>" if name else address


def _file_name(folder: _Folder) -> str:
    return folder.text(_FILE) or folder.text(_SHORT_FILE) or folder.text(_SHOWN)


def _html(message: _Folder) -> str:
    page = message.body_codepage()
    raw = message.raw(_HTML, "0102")
    return decode(raw, page) if raw else message.long_text(_HTML, page)


def _body(message: _Folder, nesting: int) -> list[Element]:
    page = message.body_codepage()
    if html := _html(message):
        return read_html(html, nesting)[0]
    if text := message.long_text(_BODY, page):
        return read_text(clean(text))
    if packed := message.raw(_PACKED, "0102"):
        return read_rtf(unpacked(packed), nesting)[0]
    return []


def unpacked(data: bytes) -> bytes:
    """Rich text as Outlook packs it: copies out of the last 4,096 bytes, [MS-OXRTFCP] 2.2.

    Raises TooLarge where it would unpack to more than `_MAX_UNPACKED` bytes.
    """
    _, size, kind, _ = struct.unpack_from("<IIII", data)
    if size > _MAX_UNPACKED:
        raise TooLarge("The text of this message is too large. Save the message as .eml.")
    if kind == 0x414C454D:
        return data[16 : 16 + size]
    window = bytearray(_SEED.ljust(4096, b"\x00"))
    write = len(_SEED)
    out = bytearray()
    at = 16
    while at < len(data) and len(out) < size:
        control = data[at]
        at += 1
        for bit in range(8):
            if control >> bit & 1:
                if at + 1 >= len(data):
                    return bytes(out)
                offset, length = divmod(data[at] << 8 | data[at + 1], 16)
                at += 2
                if offset == write:
                    return bytes(out)
                copied = [(offset + step) % 4096 for step in range(length + 2)]
            else:
                if at >= len(data):
                    return bytes(out)
                copied = [write]
                window[write] = data[at]
                at += 1
            for place in copied:
                byte = window[place]
                window[write] = byte
                out.append(byte)
                write = (write + 1) % 4096
    return bytes(out[:size])
