"""What a zip-based document may unpack to, checked before anything unpacks it."""

import io
import lzma
import zipfile
import zlib
from contextlib import suppress

from pipeline.errors import DamagedDocument, TooLarge

MAX_UNPACKED = 500_000_000
"""Bytes."""
MAX_RATIO = 200
MAX_MEMBERS = 50_000
"""Documents have some hundreds; each costs about a kilobyte of memory before anything is read."""
MAX_TAGS = 6_000_000
"""Of XML; a thousand pages of Word have some 500,000. Each costs about 100 bytes in a tree."""
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    OSError,
    NotImplementedError,
    RuntimeError,
)
"""What the standard library raises for archives that break the rules."""
_HARMLESS = 20_000_000
_ENCRYPTED = 0x1
_USUAL = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENTRY = b"PK\x01\x02"
_STEP = 1 << 20


def opened(data: bytes, name: str) -> zipfile.ZipFile:
    """The archive, with nothing of it unpacked yet.

    Raises TooLarge for more than `MAX_MEMBERS` members, before the list of them is built, and
    DamagedDocument where the archive can't be opened.
    """
    if data.count(_ENTRY) > MAX_MEMBERS:
        raise TooLarge(
            f"“{name}” holds more than {MAX_MEMBERS:,} files, which no document does. Save it again "
            "or upload the files one by one."
        )
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except BROKEN as error:
        raise _damaged(name) from error


def beginning(archive: zipfile.ZipFile, member: str, size: int, name: str) -> bytes:
    """Up to `size` bytes of a member, without unpacking more; nothing of an unusual packing.

    Raises DamagedDocument where the member can't be read.
    """
    info = archive.getinfo(member)
    if info.compress_type not in _USUAL:
        return b""
    try:
        with archive.open(info) as stream:
            return stream.read(size)
    except BROKEN as error:
        raise _damaged(name) from error


def check_size(
    data: bytes,
    name: str,
    *,
    max_unpacked: int = MAX_UNPACKED,
    max_ratio: int = MAX_RATIO,
    max_tags: int = MAX_TAGS,
) -> None:
    """Raises TooLarge for a document that unpacks to more than `max_unpacked` bytes, to more than
    `max_ratio` times its size (from 20 MB on, since small XML packs well), or that has more than
    `max_tags` tags, since the tree of an XML file may take thirty times its bytes.

    Python's zipfile never reads more of a member than its header declares, so the declared sizes
    bound what is read. Raises DamagedDocument where the archive can't be opened, is encrypted or
    packed as no document is.
    """
    with opened(data, name) as archive:
        members = archive.infolist()
        if any(member.flag_bits & _ENCRYPTED for member in members):
            raise DamagedDocument(
                f"“{name}” is encrypted. Remove the password and upload it again."
            )
        if any(member.compress_type not in _USUAL for member in members):
            raise DamagedDocument(
                f"“{name}” is packed in a way that documents are not. Open it, save it again and "
                "upload it."
            )
        unpacked = sum(member.file_size for member in members)
        if unpacked > max_unpacked or (unpacked > _HARMLESS and unpacked > max_ratio * len(data)):
            raise TooLarge(
                f"“{name}” unpacks to {unpacked / 1e6:,.0f} MB, more than the limit of "
                f"{max_unpacked / 1e6:,.0f} MB or {max_ratio} times its size. Split it or save it "
                "again."
            )
        if unpacked > max_tags and _tags(archive, max_tags) > max_tags:
            raise TooLarge(
                f"“{name}” holds more than {max_tags:,} pieces of markup. Split it and upload the "
                "parts."
            )


def _tags(archive: zipfile.ZipFile, enough: int) -> int:
    """How many `<` the members hold in any encoding, counted until there are `enough`."""
    found = 0
    for member in archive.infolist():
        # A broken member may be a picture that nobody reads; whoever reads it will say so.
        with suppress(*BROKEN), archive.open(member) as stream:
            while found <= enough and (step := stream.read(_STEP)):
                found += step.count(b"<")
    return found


def _damaged(name: str) -> DamagedDocument:
    return DamagedDocument(
        f"“{name}” is damaged: it is cut off or was changed on its way. Upload it again from the "
        "original."
    )
