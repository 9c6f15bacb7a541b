"""Outlook messages (.msg): a folder of streams in an OLE file, named by property and type.

Source: [MS-OXMSG] and, for the packed rich text, [MS-OXRTFCP].
"""

import datetime
import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from indexer.parse import outline
from indexer.parse.encoding import clean, decode
from indexer.parse.html import read_html
from indexer.parse.mail import ATTACHMENT_LEVEL, MAX_DEPTH, deeper
from indexer.parse.media import OUTLOOK
from indexer.parse.rtf import read_rtf
from indexer.parse.text import read_text
from pipeline.errors import DamagedDocument, InvalidInput, TooLarge
from pipeline.ports import Parser
from pipeline.types import Element, ElementKind, Parsed

_SUBJECT, _SENDER, _SENDER_MAIL, _SENDER_SMTP = "0037", "0C1A", "0C1F", "5D01"
_TO, _CC, _BODY, _HTML, _PACKED = "0E04", "0E03", "1000", "1013", "1009"
_FILE, _SHORT_FILE, _SHOWN, _DATA = "3707", "3704", "3001", "3701"
_SENT, _CODEPAGE, _BODY_CODEPAGE = 0x0039, 0x3FFD, 0x3FDE
_MAX_UNPACKED = 100_000_000
_SEED = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)


class OutlookParser:
    """Reads MSG as EML is read; `attachments` reads the attached files, those it refuses are named."""

    def __init__(self, attachments: Parser) -> None:
        self._attachments = attachments

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({OUTLOOK})

    def parse(self, data: bytes, name: str) -> Parsed:
        from olefile import OleFileIO

        with OleFileIO(io.BytesIO(data)) as file:
            # Streams may share their sectors, so that a small file would hold a thousand large ones.
            if sum(entry.size for entry in file.direntries if entry) > 2 * len(data):
                raise DamagedDocument(
                    f"“{name}” is damaged: its parts overlap. Save the message again and upload it."
                )
            message = _Folder(file, file.root)
            elements = outline.outlined(self._read(message, 32, 1))
            return Parsed(elements, message.text(_SUBJECT) or None)

    def _read(self, message: "_Folder", header: int, depth: int) -> Iterator[Element]:
        message.learn(header)
        attached = message.folders("__attach_version1.0_")
        for folder in attached:
            folder.learn(8, message.codepage)
        names = [name for folder in attached if (name := _file_name(folder))]
        fields = (
            ("From", _sender(message)),
            ("To", message.text(_TO)),
            ("Cc", message.text(_CC)),
            ("Date", message.sent()),
            ("Subject", message.text(_SUBJECT)),
            ("Attachments", ", ".join(names)),
        )
        yield Element("\n".join(f"{label}: {value}" for label, value in fields if value))
        yield from _body(message)
        for folder in attached:
            yield from self._attachment(folder, depth)

    def _attachment(self, folder: "_Folder", depth: int) -> Iterator[Element]:
        name = _file_name(folder)
        if inner := folder.folders(f"__substg1.0_{_DATA}000D"):
            if depth < MAX_DEPTH:
                below = list(self._read(inner[0], 24, depth + 1))
                title = inner[0].text(_SUBJECT) or name or "message"
                yield Element(title, ElementKind.HEADING, level=ATTACHMENT_LEVEL)
                yield from deeper(below)
            return
        data = folder.raw(_DATA, "0102")
        if not data or not name:
            return
        try:
            parsed = self._attachments.parse(data, name)
        except InvalidInput:
            return  # a picture or a damaged file: the message's own text names it
        yield Element(name, ElementKind.HEADING, level=ATTACHMENT_LEVEL)
        yield from deeper(parsed.elements)


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

    def sent(self) -> str:
        """When the message was sent, by the clock of Greenwich."""
        ticks = int.from_bytes(self._fixed.get(_SENT, b""), "little")
        if not ticks:
            return ""
        start = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
        try:
            moment = start + datetime.timedelta(microseconds=ticks // 10)
        except OverflowError:
            return ""
        return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _sender(message: _Folder) -> str:
    name = message.text(_SENDER)
    address = message.text(_SENDER_SMTP) or message.text(_SENDER_MAIL)
    if not address or "@" not in address or address == name:
        return name or address
    return f"{name} <{address}>" if name else address


def _file_name(folder: _Folder) -> str:
    return folder.text(_FILE) or folder.text(_SHORT_FILE) or folder.text(_SHOWN)


def _body(message: _Folder) -> list[Element]:
    page = message.body_codepage()
    if html := message.raw(_HTML, "0102"):
        return read_html(decode(html, page))[0]
    if text := message.long_text(_HTML, page):
        return read_html(text)[0]
    if text := message.long_text(_BODY, page):
        return read_text(clean(text))
    if packed := message.raw(_PACKED, "0102"):
        return read_rtf(unpacked(packed))[0]
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
