"""Takes the files out of an archive or a mail and lays them into a folder, under numbers and never under their names.

Pure but for that folder: a child process of little rights can run `unpack`.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.parse import mail, outlook
from indexer.parse.archives import BROKEN, Entry, Limits, Meter, Readable, entries
from indexer.parse.encoding import clean
from indexer.parse.media import ARCHIVES, EXTENSIONS, MAIL, OUTLOOK, sniff, sniff_file
from indexer.parse.names import clean_name, decode_names, is_noise, told_apart
from indexer.parse.nesting import NESTING
from pipeline.errors import InvalidInput, TooLarge, Unavailable
from pipeline.types import LISTING, Element, ElementKind, Parsed

LIMITS = Limits()
HOLDING = ARCHIVES | {MAIL, OUTLOOK}
"""Media types that may have files inside which become documents of their own."""
_STEP = 1 << 20
_DAMAGED = "it is damaged: pack it again from the original"


@dataclass(frozen=True, slots=True)
class Member:
    """A file that was inside: its path there, and its bytes as `file` in the folder, or why it is not read.

    A `problem` without a name is about all that was not reached.
    """

    name: str
    problem: str | None = None
    file: str | None = None
    sha256: str = ""
    size: int = 0
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    sha256: str
    size: int


def unpack(
    data: bytes,
    name: str,
    media_type: str,
    into: Path,
    limits: Limits = LIMITS,
    *,
    nesting: int = NESTING,
) -> tuple[Member, ...]:
    """The files inside, in their order and named apart; what systems leave behind (Thumbs.db) is left out.

    Raises DamagedDocument or TooLarge where nothing can be read at all, Unavailable where the disk refuses.
    """
    names: list[bytes | str] = []
    kept: list[_Kept | str] = []
    meter = Meter(len(data), limits)
    ending: str | None = None
    try:
        for entry in _inside(data, name, media_type, limits, nesting):
            if _left_behind(entry.name):
                continue
            if len(names) >= limits.members:
                raise TooLarge(
                    f"it holds more than {limits.members:,} files: the others are not read. Split it and "
                    "upload the parts"
                )
            names.append(entry.name)
            kept.append(_keep(entry, into / str(len(names)), limits, meter))
    except InvalidInput as error:
        if not any(isinstance(one, _Kept) for one in kept):
            raise type(error)(f"“{name}” cannot be unpacked: {error}.") from error
        if len(kept) < len(names):  # the file at which it stopped says so
            kept.append(str(error))
        else:
            ending = str(error)
    paths = told_apart(map(clean_name, decode_names(names)))
    members = [
        _member(path, one, into / str(number))
        for number, (path, one) in enumerate(zip(paths, kept, strict=True), 1)
    ]
    return (*members, Member("", ending)) if ending else tuple(members)


def looked_at(members: Sequence[Member], into: Path) -> tuple[Member, ...]:
    """The members as they are in the folder, whatever the process says that unpacked them.

    Raises ValueError for what `unpack` would never have made.
    """
    return tuple(_looked_at(member, into) for member in members)


def _looked_at(member: Member, into: Path) -> Member:
    if member.file is None:
        if not member.problem:
            raise ValueError("a member without content and without a reason")
        return Member(clean_name(member.name), clean(member.problem))
    if not member.file.isdecimal() or member.media_type not in EXTENSIONS.values():
        raise ValueError(f"no file of an archive: {member.file!r}, {member.media_type!r}")
    digest, size = hashlib.sha256(), 0
    try:
        handle = os.open(into / member.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError("a file that cannot be opened") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("what was unpacked is no file")
        while piece := file.read(_STEP):
            digest.update(piece)
            size += len(piece)
    name = clean_name(member.name) or "file"
    return Member(name, None, member.file, digest.hexdigest(), size, member.media_type)


def listing(members: Sequence[tuple[str, str | None]]) -> Parsed:
    """The text of an archive: a line for each (name, problem), so that a file's name is found."""
    lines = (
        Element(
            " – not read: ".join(part for part in (name, problem) if part),
            _kind(name),
            heading=LISTING,
        )
        for name, problem in members
    )
    return Parsed(tuple(lines))


class ArchiveParser:
    """Reads the names of what an archive holds. Its files are documents of their own (`unpack`)."""

    @property
    def media_types(self) -> frozenset[str]:
        return ARCHIVES

    def parse(self, data: bytes, name: str) -> Parsed:
        found = []
        for entry in entries(data, name, sniff(data, name), LIMITS):
            if not _left_behind(entry.name):
                found.append((entry.name, entry.problem))
            if len(found) > LIMITS.members:
                raise TooLarge(f"“{name}” holds more than {LIMITS.members:,} files.")
        names = decode_names([given for given, _ in found])
        return listing(
            [(clean_name(path), problem) for path, (_, problem) in zip(names, found, strict=True)]
        )


def _kind(name: str) -> ElementKind:
    return ElementKind.LIST_ITEM if name else ElementKind.PARAGRAPH


def _inside(
    data: bytes, name: str, media_type: str, limits: Limits, nesting: int
) -> Iterator[Entry]:
    match media_type:
        case _ if media_type == MAIL:
            return mail.attached(data, nesting)
        case _ if media_type == OUTLOOK:
            return outlook.attached(data, name)
        case _:
            return entries(data, name, media_type, limits)


def _left_behind(name: bytes | str) -> bool:
    return is_noise(name if isinstance(name, str) else name.decode("ascii", "replace"))


def _keep(entry: Entry, path: Path, limits: Limits, meter: Meter) -> _Kept | str:
    """The file's digest and size, or why it is not read."""
    if entry.open is None:
        return entry.problem or _DAMAGED
    try:
        stream = entry.open()
        try:
            return _write(stream, path, limits, meter)
        finally:
            stream.close()
    except OSError as error:
        if error.errno is not None:  # the disk's, where an archive's errors have words only
            raise Unavailable(
                f"the files inside cannot be stored ({error.strerror}): free some disk space"
            ) from error
        return _DAMAGED
    except BROKEN:
        return _DAMAGED


def _write(stream: Readable, path: Path, limits: Limits, meter: Meter) -> _Kept | str:
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        while piece := stream.read(_STEP):
            meter.add(len(piece))
            size += len(piece)
            if size > limits.member:
                return f"it is larger than {limits.member / 2**20:,.0f} MiB, the limit of a file"
            digest.update(piece)
            file.write(piece)
    return _Kept(digest.hexdigest(), size)


def _member(name: str, kept: _Kept | str, path: Path) -> Member:
    if isinstance(kept, str):
        path.unlink(missing_ok=True)
        return Member(name, kept)
    try:
        media_type = sniff_file(path, name.rsplit("/", 1)[-1])
    except InvalidInput as error:
        path.unlink(missing_ok=True)
        return Member(name, str(error))
    return Member(name, None, path.name, kept.sha256, kept.size, media_type)
