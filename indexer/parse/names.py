"""The names of files inside archives and of uploads: decoded together, without anything that climbs."""

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

from indexer.parse.encoding import likeliest

_CODECS = MappingProxyType(
    {
        "utf-8": 4.0,
        "cp437": -0.6,
        "gb18030": 0.7,
        "big5hkscs": -0.3,
        "cp932": 0.3,
        "cp949": 0.4,
        "cp1252": -1.0,
    }
)
"""What names without a mark may be written in, and how much more is expected of each. Names are short: a few
characters of the alphabet are no proof of Latin, and Chinese Windows is where most such names come from. Bytes
that obey UTF-8 are rarely anything else, but 通知 in GBK does."""
_DOUBLED = re.compile(rb"[\x80-\xff]{2}")
"""Bytes over 127 beside each other, as in nearly all Chinese names and few Western ones."""
_NOISE = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx", "@eadir"})
_UNICODE_PATH = 0x7075
_DRIVE = re.compile(r"^[A-Za-z]:(?=[/\\])")


def decode_names(names: Sequence[bytes | str]) -> list[str]:
    """The names of one archive in their order; those in bytes have one encoding, told by all together."""
    raw = [name for name in names if isinstance(name, bytes) and not name.isascii()]
    codec = _codec(b"\n".join(raw))
    return [name if isinstance(name, str) else name.decode(codec, "replace") for name in names]


def _codec(joined: bytes) -> str:
    if _DOUBLED.search(joined):
        return likeliest(joined, _CODECS)
    return likeliest(joined, {**_CODECS, "gb18030": -0.6, "big5hkscs": -0.6})


def unicode_path(raw: bytes, extra: bytes) -> str | None:
    """The name in Info-ZIP's extra field 0x7075, None where there is none or it is of another name.

    Source: APPNOTE.TXT 4.6.9: version 1, the CRC-32 of the name in the header, the name in UTF-8.
    """
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + size]
        at += 4 + size
        if kind == _UNICODE_PATH and len(field) == size > 5 and field[0] == 1:
            if int.from_bytes(field[1:5], "little") != zlib.crc32(raw):
                return None
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


def clean_name(name: str) -> str:
    """A file's name or relative path, without anything that climbs.

    >>> clean_name("..\\\\..\\\\报告\\\\a.pdf"), clean_name("/etc/passwd"), clean_name("C:\\\\a.txt")
    ('报告/a.pdf', 'etc/passwd', 'a.txt')
    """
    printable = "".join(
        c
        for c in _DRIVE.sub("", name).replace("\\", "/")
        if ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000
    )
    parts = [part.strip() for part in printable.split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def is_noise(name: str) -> bool:
    """Whether a system left the file behind rather than a person: nobody misses it.

    >>> is_noise("__MACOSX/a/._b.pdf"), is_noise("docs/Thumbs.db"), is_noise("docs/a.pdf")
    (True, True, False)
    """
    parts = PurePosixPath(name.lower()).parts
    return any(part in _NOISE for part in parts) or name.rsplit("/", 1)[-1].startswith(("._", "~$"))


def told_apart(names: Iterable[str]) -> list[str]:
    """The names in their order; one that was there before gets a number.

    >>> told_apart(["a.txt", "b", "a.txt"])
    ['a.txt', 'b', 'a (2).txt']
    """
    seen: set[str] = set()
    apart: list[str] = []
    for name in names:
        path = PurePosixPath(name or "file")
        given, number = str(path), 1
        while given in seen:
            number += 1
            given = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        seen.add(given)
        apart.append(given)
    return apart
