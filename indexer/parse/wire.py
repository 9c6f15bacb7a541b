"""What a parser child and its pool say to each other: frames over a socket, JSON inside, never pickle."""

import array
import functools
import json
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from indexer.parse.lines import Sheet
from pipeline import errors
from pipeline.errors import RagError
from pipeline.types import Parsed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from indexer.parse.unpack import Member

HEAD = struct.Struct(">BQQd")
"""Kind, length of what follows in bytes, the child's greatest resident memory in bytes, its CPU seconds."""
_REQUEST = struct.Struct(">I")
_MOST_FDS = 2
_LONGEST_REQUEST = 1 << 24


class Kind(IntEnum):
    """What a reply is."""

    READY = 1
    """How the network is off, as text."""
    PARSED = 2
    """A `Parsed`."""
    PAGES = 3
    """The file has pages to be asked for: {"pages": how many}."""
    SHEETS = 4
    """Pages that were read, for the child that joins them; nobody else looks inside."""
    BYTES = 5
    """A picture, or the members of an archive."""
    REFUSED = 6
    """A RagError: {"kind": its class, "says": its sentence}."""
    LIMIT = 7
    """A limit that the child ran into itself: {"limit": a name}."""
    BUG = 8
    """A traceback."""


def ask(sock: socket.socket, request: Mapping[str, object], fds: Sequence[int]) -> None:
    """Send a request with open files. Raises OSError when the child is gone."""
    body = json.dumps(request).encode()
    socket.send_fds(sock, [_REQUEST.pack(len(body))], list(fds))
    sock.sendall(body)


def asked(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next request and its files; None when there is none any more."""
    room = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)
    head, ancillary, _, _ = sock.recvmsg(_REQUEST.size, room)
    if not head:
        return None
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    (size,) = _REQUEST.unpack(head + _exactly(sock, _REQUEST.size - len(head)))
    if size > _LONGEST_REQUEST:
        raise ValueError(f"a request of {size} bytes")
    return json.loads(_exactly(sock, size)), list(fds)


def _exactly(sock: socket.socket, size: int) -> bytes:
    read = bytearray()
    while len(read) < size:
        piece = sock.recv(size - len(read))
        if not piece:
            raise EOFError("the pool hung up")
        read += piece
    return bytes(read)


def encode_parsed(parsed: Parsed) -> bytes:
    return _parsed().dump_json(parsed)


def decode_parsed(data: bytes | bytearray) -> Parsed:
    """Raises ValueError for anything but a `Parsed`."""
    return _parsed().validate_json(data)


def encode_sheets(sheets: Iterable[Sheet]) -> bytes:
    """One line, so that the pieces of a document can be put one after another."""
    return _sheets().dump_json(tuple(sheets)) + b"\n"


def decode_sheets(data: bytes) -> tuple[Sheet, ...]:
    """The sheets of one or more pieces, in the order of their pages."""
    found = [sheet for line in data.splitlines() for sheet in _sheets().validate_json(line)]
    return tuple(sorted(found, key=lambda sheet: sheet.number))


def encode_members(members: Sequence["Member"]) -> bytes:
    return _members().dump_json(tuple(members))


def decode_members(data: bytes | bytearray) -> "tuple[Member, ...]":
    """Raises ValueError for anything but members."""
    return _members().validate_json(data)


def encode_error(error: RagError) -> bytes:
    return json.dumps({"kind": type(error).__name__, "says": str(error)}).encode()


def decode_error(data: bytes | bytearray) -> RagError:
    """The error with the class of `pipeline.errors` that it had. Raises ValueError for anything else."""
    told = json.loads(data)
    kind = getattr(errors, str(told["kind"]), None)
    if isinstance(kind, type) and issubclass(kind, RagError):
        return kind(str(told["says"]))
    raise ValueError(f"{told['kind']} is no error of ours")


@functools.cache
def _parsed() -> "TypeAdapter[Parsed]":
    from pydantic import TypeAdapter

    return TypeAdapter(Parsed)


@functools.cache
def _members() -> "TypeAdapter[tuple[Member, ...]]":
    from pydantic import TypeAdapter

    from indexer.parse.unpack import Member

    return TypeAdapter(tuple[Member, ...])


@functools.cache
def _sheets() -> "TypeAdapter[tuple[Sheet, ...]]":
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Sheet, ...])
