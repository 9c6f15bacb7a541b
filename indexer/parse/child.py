"""A process that reads files for `indexer.parse.pool` and can do no harm: `python -m indexer.parse.child`.

It is started anew rather than forked, so that nothing of the worker (models, connections, keys) is in its memory.
"""

import contextlib
import ctypes
import errno
import functools
import gc
import json
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.parse import cage

if TYPE_CHECKING:
    from indexer.parse.limits import Limits
    from indexer.parse.parser import FileParser
    from indexer.parse.wire import Kind

_LONG_S = 0.2
"""Looking through all that the parsers have loaded takes longer than a small file does."""


def main(build: "Callable[[Limits, Path | None], FileParser] | None" = None) -> None:
    """Answer requests until the pool hangs up. Arguments: socket, lifeline, and what else is set, as JSON.

    `build` makes the parser at the first file; a layout model is loaded at once, so that its absence is told.
    """
    how = cage.leave_network()
    cage.end_with(int(sys.argv[2]))
    given = json.loads(sys.argv[3])

    from indexer.parse.legacy import installed
    from indexer.parse.limits import Limits
    from indexer.parse.wire import Kind, asked

    limits = Limits(**given["limits"])
    cage.bound(limits)
    cage.guard(installed)
    pool = socket.socket(fileno=int(sys.argv[1]))
    try:
        layout_model = Path(given["layout_model"]) if given["layout_model"] else None
        reader = _Reader(build or _build, limits, layout_model)
        _send(pool, Kind.READY, how.encode())
    except Exception as error:  # noqa: BLE001  (entry point: the pool says why nothing can be read)
        _send(pool, *_ended(error))
        return
    while (request := asked(pool)) is not None:
        told, fds = request
        begun = time.process_time()
        cage.bound_cpu(limits.cpu_seconds)
        try:
            reply = reader.answer(told, fds)
        except Exception as error:  # noqa: BLE001  (entry point: the pool gets every error)
            reply = _ended(error)
        finally:
            for fd in fds:
                os.close(fd)
        _send(pool, *reply)
        del reply
        if time.process_time() - begun > _LONG_S:
            _tidy()


def _build(limits: "Limits", layout_model: "Path | None") -> "FileParser":
    from indexer.parse.layout import HiResLayout
    from indexer.parse.parser import build_parser

    seeing = HiResLayout.load(layout_model if layout_model.name else None) if layout_model else None
    return build_parser(seeing, limits)


class _Reader:
    """Answers one request after another; the parsers are there from the first on."""

    def __init__(
        self,
        build: "Callable[[Limits, Path | None], FileParser]",
        limits: "Limits",
        layout_model: "Path | None",
    ) -> None:
        self._build = functools.partial(build, limits, layout_model)
        self._nesting = limits.nesting
        self._parser = self._build() if layout_model else None

    def _files(self) -> "FileParser":
        if self._parser is None:
            self._parser = self._build()
        return self._parser

    def answer(self, told: dict[str, Any], fds: list[int]) -> tuple["Kind", bytes]:
        from indexer.parse import wire
        from indexer.parse.wire import Kind

        name = str(told["name"])
        match told["wish"]:
            case "read":
                data = _content(fds[0])
                pages = self._files().pages(data, name)
                if pages is not None and pages > 1:
                    return Kind.PAGES, json.dumps({"pages": pages}).encode()
                return Kind.PARSED, wire.encode_parsed(self._files().parse(data, name))
            case "sheets":
                sheets = self._files().sheets(_content(fds[0]), name, told["first"], told["last"])
                return Kind.SHEETS, wire.encode_sheets(sheets)
            case "join":
                sheets = wire.decode_sheets(_content(fds[1]))
                parsed = self._files().joined(_content(fds[0]), name, sheets)
                return Kind.PARSED, wire.encode_parsed(parsed)
            case "draw":
                from indexer.parse.drawing import drawn_page
                from pipeline.types import Box

                boxes = [Box(*box) for box in told["boxes"]]
                data, media_type = _content(fds[0]), told["media_type"]
                return Kind.BYTES, drawn_page(data, media_type, name, told["number"], boxes)
            case "unpack":
                from indexer.parse import archives
                from indexer.parse.unpack import unpack

                bounds = archives.Limits(**told["limits"])
                into, data = Path(told["into"]), _content(fds[0])
                kind, nesting = told["media_type"], self._nesting
                members = unpack(data, name, kind, into, bounds, nesting=nesting)
                return Kind.BYTES, wire.encode_members(members)
            case other:
                raise ValueError(f"nobody here can {other}")


def _content(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def _ended(error: Exception) -> tuple["Kind", bytes]:
    """How the pool learns of an error."""
    from indexer.parse.wire import Kind, encode_error
    from pipeline.errors import RagError, causes

    limit = next(filter(None, map(_limit, causes(error))), None)
    if limit is not None:
        return Kind.LIMIT, json.dumps({"limit": limit}).encode()
    if isinstance(error, RagError):
        return Kind.REFUSED, encode_error(error)
    return Kind.BUG, "".join(traceback.format_exception(error)).encode("utf-8", "replace")


def _limit(error: BaseException) -> str | None:
    """The limit of this process that an error comes from."""
    from pipeline.errors import memory_ran_out

    if memory_ran_out(error):
        return "memory_mb"
    known = {
        errno.ENOMEM: "memory_mb",
        errno.EMFILE: "open_files",
        errno.EFBIG: "written_mb",
    }
    return known.get(error.errno or 0) if isinstance(error, OSError) else None


def _send(pool: socket.socket, kind: "Kind", body: bytes) -> None:
    from indexer.parse.wire import HEAD

    used = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime + below.ru_utime + below.ru_stime
    pool.sendall(HEAD.pack(kind, len(body), cage.peak_bytes(), seconds))
    pool.sendall(body)


def _tidy() -> None:
    """Give memory back between files."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
