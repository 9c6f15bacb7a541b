"""The files inside ZIP, TAR and packed files, one after another, read no further than the limits allow.

Names are as the archive holds them; nothing is written under them. Declared sizes are never trusted: every byte is
counted where it is unpacked.
"""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from indexer.parse import zipped
from indexer.parse.media import BZIP2, GZIP, TAR, XZ, ZIP, is_tar
from indexer.parse.names import unicode_path
from pipeline.errors import DamagedDocument, TooLarge

LINK = "it is a link to another file, which is not followed"
ENCRYPTED = "it is encrypted: remove the password and upload it again"
BROKEN = (*zipped.BROKEN, tarfile.TarError, ArithmeticError, LookupError)
"""What the standard library raises for archives that break the rules."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
"""LZMA in a ZIP may ask for a dictionary of 4 GB by four bytes."""
_XZ_MEMORY = 256 * 2**20
_HARMLESS = 20_000_000
_STEP = 1 << 20
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may hold. `unpacked` and `member` are bytes; `ratio` counts from 20 MB on."""

    members: int = 5_000
    unpacked: int = 2 * 2**30
    member: int = 200 * 2**20
    ratio: int = 200


class Readable(Protocol):
    """A stream of bytes; `read` gives at least one until the end."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive: its name, in bytes where the archive does not say what they mean, and its content.

    `open` may be called until the next entry is asked for. Without it `problem` says why the file is not read.
    """

    name: bytes | str
    open: Callable[[], Readable] | None = None
    problem: str | None = None


class Meter:
    """Counts what is unpacked, and raises TooLarge where it is too much."""

    def __init__(self, packed: int, limits: Limits) -> None:
        self._packed = packed
        self._limits = limits
        self._unpacked = 0

    def add(self, count: int) -> None:
        self._unpacked += count
        over = self._unpacked > max(_HARMLESS, self._limits.ratio * self._packed)
        if over or self._unpacked > self._limits.unpacked:
            raise TooLarge(
                f"it unpacks to more than {self._unpacked / 1e6:,.0f} MB, over the limit of "
                f"{self._limits.unpacked / 1e6:,.0f} MB or {self._limits.ratio} times its size: what follows is not "
                "read. Split it and upload the parts"
            )


def entries(data: bytes, name: str, media_type: str, limits: Limits) -> Iterator[Entry]:
    """The files of an archive in its order; folders are left out.

    Raises DamagedDocument or TooLarge, also halfway: what came before is good.
    """
    try:
        if media_type == ZIP:
            yield from _of_zip(data, name)
            return
        stream = _Metered(_unpacking(data, media_type), Meter(len(data), limits))
        head = stream.peek(_BLOCK)
        if is_tar(head):
            yield from _of_tar(stream)
        elif media_type == TAR:
            raise DamagedDocument("it is damaged: its first file has no header")
        else:
            yield Entry(_unpacked_name(data, name, media_type), lambda: stream)
    except BROKEN as error:
        raise DamagedDocument(
            "it is damaged or cut off: what follows could not be read. Upload it again from the original"
        ) from error


def _of_zip(data: bytes, name: str) -> Iterator[Entry]:
    with zipped.opened(data, name) as archive:
        for info in archive.infolist():
            yield from _zip_entry(archive, info)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[Entry]:
    given: bytes | str = info.orig_filename
    if not info.flag_bits & 0x800:  # the standard library read the bytes as cp437
        raw = info.orig_filename.encode("cp437")
        given = unicode_path(raw, info.extra) or raw
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    if info.is_dir() or info.orig_filename.endswith(("/", "\\")) or stat.S_ISDIR(mode):
        return
    if stat.S_ISLNK(mode):
        yield Entry(given, problem=LINK)
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        yield Entry(given, problem="it is a device and no file")
    elif info.flag_bits & 0x1:
        yield Entry(given, problem=ENCRYPTED)
    elif info.compress_type not in _METHODS:
        yield Entry(given, problem="it is packed in a way that is not read here: pack it as usual")
    else:
        yield Entry(given, lambda: archive.open(info))


def _of_tar(stream: "_Metered") -> Iterator[Entry]:
    with tarfile.open(
        fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
            given = _tar_name(info.name)
            if info.isdir():
                continue
            if info.issym() or info.islnk():
                yield Entry(given, problem=LINK)
            elif not info.isfile():
                yield Entry(given, problem="it is a device and no file")
            else:
                yield Entry(given, lambda info=info: _content(archive, info))  # type: ignore[misc]
        rest = archive.fileobj
        while rest is not None and (piece := rest.read(_STEP)):
            if piece.strip(b"\x00"):  # the standard library stops at a broken header without a word
                raise tarfile.ReadError("something follows the end")
    if stream.last.strip(b"\x00"):
        raise tarfile.ReadError("the end is missing")


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Readable:
    content = archive.extractfile(info)
    if content is None:  # pragma: no cover - files have content
        raise tarfile.ReadError("a file without content")
    return content


def _tar_name(name: str) -> bytes | str:
    """Bytes that were no UTF-8 stand in the name as surrogates."""
    raw = name.encode("utf-8", "surrogateescape")
    return raw if any("\udc80" <= char <= "\udcff" for char in name) else name


def _unpacking(data: bytes, media_type: str) -> Readable:
    source = io.BytesIO(data)
    match media_type:
        case _ if media_type == GZIP:
            return gzip.GzipFile(fileobj=source)
        case _ if media_type == BZIP2:
            return bz2.BZ2File(source)
        case _ if media_type == XZ:
            return io.BufferedReader(_Xz(source), _STEP)
        case _:
            return source


def _unpacked_name(data: bytes, name: str, media_type: str) -> bytes | str:
    """The packed file's own name without its ending, else the one in the header of gzip (RFC 1952)."""
    path = PurePosixPath(name)
    if path.suffix.lower() in {".gz", ".bz2", ".xz"} and path.stem:
        return path.stem
    if media_type == GZIP and data[3] & 0x08 and not data[3] & 0x04:
        return data[10:].split(b"\x00", 1)[0][:255]
    return path.stem or "content"


class _Metered(io.RawIOBase):
    """A stream whose bytes are counted as they come; `last` are the newest of them, up to a block."""

    def __init__(self, source: Readable, meter: Meter) -> None:
        super().__init__()
        self._source = source
        self._meter = meter
        self._ahead = b""
        self.last = b""

    def peek(self, size: int) -> bytes:
        """The first bytes, which are read again afterwards."""
        while len(self._ahead) < size and (piece := self._source.read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = _STEP
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        piece = piece or self._source.read(size)
        self._meter.add(len(piece))
        self.last = (self.last + piece[-_BLOCK:])[-_BLOCK:]
        return piece


class _Xz(io.RawIOBase):
    """A .xz file unpacked with little memory, which the standard library's reader does not offer."""

    def __init__(self, source: io.BytesIO) -> None:
        super().__init__()
        self._source = source
        self._unpacker = _xz_unpacker()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._unpacker.eof:
                rest = (self._unpacker.unused_data + self._source.read()).lstrip(b"\x00")
                if not rest:
                    return 0
                self._source, self._unpacker = io.BytesIO(rest), _xz_unpacker()
            packed = self._source.read(_STEP) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not packed:
                raise EOFError("cut off")
            piece = self._unpacker.decompress(packed, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)


def _xz_unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
