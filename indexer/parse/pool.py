"""Files are read in child processes: what a file does to its reader, it does to nobody else.

A PDF's pages are handed out in steps of about a second. When that takes longer than a second, other children help, as
many as are allowed and as memory allows. No page's text is looked at here: one of the children joins all pages.
"""

import dataclasses
import json
import logging
import os
import selectors
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from indexer.parse import archives, wire
from indexer.parse.limits import DEFAULT_LIMITS, Limits
from indexer.parse.media import EXTENSIONS
from indexer.parse.outcomes import decoded, ended, nonsense, over
from indexer.parse.spawned import Broken, Reply, Spawned
from indexer.parse.steps import Steps
from indexer.parse.unpack import Member, looked_at
from indexer.parse.wire import Kind
from pipeline.errors import Unavailable
from pipeline.ports import Pages
from pipeline.types import Box, Parsed

_STEP_S = 1.0
_MOST_PAGES = 64
"""Of a step: the file is opened anew for each, so that what pdfium keeps of its pages does not grow."""
_LIGHT = 220_000_000
"""Bytes. A child that holds more has loaded what pages don't need, and has no room for OCR."""
_OCR_LOADED = 150_000_000
"""Bytes. A child that has held more has read a picture, and others will: a full page of that takes `_OCR` bytes."""
_OCR = 700_000_000
_WARM = 2
"""Kept idle at least: one that reads pages, one that reads other files."""
_WAIT_S = 0.05
_log = logging.getLogger("zhinao.parser")


class ParserPool:
    """The port `Parser` by way of child processes that stay warm; each is replaced after a fault, a limit, or
    `limits.files` files. Safe to call from several threads.

    `children` may work on one file together, while their memory stays under `total_mb`.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        children: int = 2,
        total_mb: int = 1_000,
        layout_model: Path | None = None,
        program: Sequence[str] = ("-m", "indexer.parse.child"),
    ) -> None:
        self._limits = limits
        self._children = children
        self._total = total_mb * 1_000_000
        self._layout_model = layout_model
        self._program = tuple(program)
        self._idle: list[Spawned] = []
        self._busy: set[Spawned] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.network = ""
        """How the children's network is off, once one has started."""
        self.peak = 0
        """Bytes of the greatest resident memory of a child that worked on the newest file."""

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset(EXTENSIONS.values())

    def start(self) -> None:
        """Start a first child, which finds out whether reading works at all. Raises Unavailable or ModelUnavailable."""
        self._release(self._taken(light=True))

    def parse(self, data: bytes, name: str) -> Parsed:
        """As `FileParser.parse`; besides, TooLarge names the limit that was reached, and DamagedDocument a crash.

        Raises Unavailable where no child can be started, and ParserMistake for a bug.
        """
        return self._read(data, name, None)

    def parse_pages(self, data: bytes, name: str, pages: Pages) -> Parsed:
        """As `parse`; `pages` is told of the pages of a document that has some, and gives those that it holds."""
        return self._read(data, name, pages)

    def _read(self, data: bytes, name: str, pages: Pages | None) -> Parsed:
        self.peak = 0
        with _handed(data) as file, self._workers() as busy:
            child = self._work(busy, light=_has_pages(data))
            reply = self._answer(child, {"wish": "read", "name": name}, [file.fileno()], name)
            if reply.kind is Kind.PAGES:
                count = int(json.loads(reply.body)["pages"])
                kept = pages.begin(count) if pages is not None else ()
                reply = self._joined(busy, file, name, Steps(count, kept, pages))
                if kept and reply.kind is Kind.BUG:
                    _log.warning("what was kept of “%s” cannot be joined: it is read anew", name)
                    reply = self._joined(busy, file, name, Steps(count, (), None))
            return decoded(reply)

    def _joined(self, busy: list[Spawned], file: BinaryIO, name: str, steps: Steps) -> Reply:
        """All pages, read and joined; a bug in the joining is a reply like any other."""
        with self._sheets(busy, file, name, steps) as sheets:
            fds = [file.fileno(), sheets.fileno()]
            told = {"wish": "join", "name": name}
            return self._answer(busy[0], told, fds, name, bugs=True)

    def draw(
        self,
        file: BinaryIO,
        media_type: str,
        name: str,
        number: int,
        boxes: Sequence[Box],
    ) -> bytes:
        """As `drawing.drawn_page`, with the limits of `parse`."""
        told = {
            "wish": "draw",
            "name": name,
            "media_type": media_type,
            "number": number,
            "boxes": [dataclasses.astuple(box) for box in boxes],
        }
        with self._workers() as busy:
            child = self._work(busy, light=True)
            return self._answer(child, told, [file.fileno()], name).body

    def unpack(
        self, data: bytes, name: str, media_type: str, into: Path, limits: archives.Limits
    ) -> tuple[Member, ...]:
        """As `unpack.unpack`, with the limits of `parse`; the files are looked at again here."""
        told = {
            "wish": "unpack",
            "name": name,
            "media_type": media_type,
            "into": str(into),
            "limits": dataclasses.asdict(limits),
        }
        with _handed(data) as file, self._workers() as busy:
            child = self._work(busy, light=False)
            reply = self._answer(child, told, [file.fileno()], name)
        try:
            return looked_at(wire.decode_members(reply.body), into)
        except ValueError as error:
            raise nonsense() from error

    def interrupt(self) -> None:
        """What is being read ends with Unavailable; the next file finds other children."""
        with self._lock:
            busy = list(self._busy)
        for child in busy:
            child.stop()

    def close(self) -> None:
        """Kill all children; what is being read ends with Unavailable."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for child in idle:
            child.kill()
        for child in busy:
            child.stop()

    @contextmanager
    def _workers(self) -> Generator[list[Spawned], None, None]:
        """The children that work on one file, the first one first. At the end those that still work are killed."""
        busy: list[Spawned] = []
        try:
            yield busy
        finally:
            for child in busy:
                child.files += 1
                self.peak = max(self.peak, child.peak)
                self._drop(child) if child.waiting else self._release(child)

    def _work(self, busy: list[Spawned], *, light: bool) -> Spawned:
        child = self._taken(light=light)
        busy.append(child)
        return child

    def _taken(self, *, light: bool) -> Spawned:
        """A warm child, else a new one; a `light` one has room for what a page takes."""
        with self._lock:
            if self._closed:
                raise Unavailable("the reading of files has been ended")
            dead = [child for child in self._idle if not child.alive]
            fit = [
                child
                for child in self._idle
                if child.alive and not (light and child.resident() > _LIGHT)
            ]
            chosen = (min if light else max)(fit, key=Spawned.resident, default=None)
            self._idle = [c for c in self._idle if c is not chosen and c not in dead]
            if chosen is not None:
                self._busy.add(chosen)
        for child in dead:
            child.kill()
        return chosen or self._spawned()

    def _spawned(self) -> Spawned:
        child = Spawned(self._limits, self._layout_model, self._program)
        with self._lock:
            self._busy.add(child)
        answer = child.ready()
        if isinstance(answer, Reply) and answer.kind is Kind.READY:
            self.network = answer.body.decode()
            return child
        self._drop(child)
        if isinstance(answer, Reply):
            decoded(answer)
        _log.error("a process that reads files did not start: %s", answer)
        raise Unavailable(
            "the process that reads files does not start: the worker's log says more, then try again"
        )

    def _release(self, child: Spawned) -> None:
        """Keep a child for the next file, unless it has read enough or there are others."""
        worn = child.files >= self._limits.files
        with self._lock:
            self._busy.discard(child)
            kept = (
                not (worn or self._closed or len(self._idle) >= max(_WARM, self._children))
                and child.alive
            )
            if kept:
                self._idle.append(child)
        if not kept:
            child.kill()

    def _drop(self, child: Spawned) -> None:
        with self._lock:
            self._busy.discard(child)
        child.kill()

    def _answer(
        self,
        child: Spawned,
        request: Mapping[str, object],
        fds: Sequence[int],
        name: str,
        *,
        bugs: bool = False,
    ) -> Reply:
        """One answer of one child; a bug of its is raised, unless `bugs` are wanted as they are."""
        self._ask(child, request, fds)
        while True:
            for answered, reply in _looked([child]):
                if bugs and isinstance(reply, Reply) and reply.kind is Kind.BUG:
                    return reply
                return self._good(answered, reply, name)

    def _ask(self, child: Spawned, request: Mapping[str, object], fds: Sequence[int]) -> None:
        try:
            child.ask(request, fds)
        except OSError as error:
            child.kill()
            raise Unavailable(
                "the process that reads files has ended: the file is tried again"
            ) from error

    @contextmanager
    def _sheets(
        self, busy: list[Spawned], file: BinaryIO, name: str, steps: Steps
    ) -> Generator[BinaryIO, None, None]:
        """A file with what was read of all pages, in any order."""
        begun = time.monotonic()
        idle = list(busy)
        asked: dict[Spawned, tuple[range, float]] = {}
        rate = 1.0  # pages a second
        with _nameless() as sheets:
            for piece in steps.kept:
                sheets.write(piece)
            while steps.left or asked:
                now = time.monotonic()
                if now - begun > self._limits.document_seconds:
                    raise over("document_seconds", self._limits, name)
                at_once = self._at_once(busy)
                if steps.left and not idle and now - begun > _STEP_S and len(busy) < at_once:
                    idle.append(self._work(busy, light=True))
                while steps.left and idle and len(asked) < at_once:
                    child = idle.pop()
                    step = steps.step(max(1, min(_MOST_PAGES, int(rate * _STEP_S))))
                    asked[child] = (step, time.monotonic())
                    told = {"wish": "sheets", "name": name, "first": step.start, "last": step.stop}
                    self._ask(child, told, [file.fileno()])
                for child, reply in _looked(list(asked)):
                    good = self._good(child, reply, name)
                    sheets.write(good.body)
                    step, since = asked.pop(child)
                    steps.note(step, good.body)
                    rate = len(step) / max(time.monotonic() - since, 0.01)
                    idle.append(child)
            sheets.flush()
            yield sheets

    def _at_once(self, busy: Sequence[Spawned]) -> int:
        """How many children may read pages at the same time, if each takes what the one that took most has taken."""
        peak = max(child.peak for child in busy)
        each = peak if peak < _OCR_LOADED else max(peak, _OCR)
        return max(1, min(self._children, self._total // max(each, 1)))

    def _good(self, child: Spawned, answer: Reply | Broken, name: str) -> Reply:
        """The reply; raises what it says, or what the end of the child means."""
        if isinstance(answer, Broken):
            with self._lock:
                closed = self._closed
            if closed:
                raise Unavailable("the reading of files has been ended")
            _log.warning("a process that read “%s” was ended: %s", name, answer)
            raise ended(answer, self._limits, name)
        if answer.kind is Kind.LIMIT:
            child.kill()
            raise over(str(json.loads(answer.body)["limit"]), self._limits, name)
        if answer.kind in {Kind.REFUSED, Kind.BUG}:
            decoded(answer)
        return answer


def _looked(children: Sequence[Spawned]) -> list[tuple[Spawned, Reply | Broken]]:
    """Wait a moment; the children that have answered or broken, each with its answer."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child, selectors.EVENT_READ)
        selector.select(_WAIT_S)
    answers = ((child, child.look()) for child in children)
    return [(child, answer) for child, answer in answers if answer is not None]


def _has_pages(data: bytes) -> bool:
    """A guess from the first bytes: whether the file is a PDF or a picture."""
    head = data[:1024]
    return (
        b"%PDF-" in head
        or head[:4] in {b"\x89PNG", b"II*\x00", b"MM\x00*", b"RIFF"}
        or (head[:3] == b"\xff\xd8\xff")
    )


@contextmanager
def _handed(data: bytes) -> Generator[BinaryIO, None, None]:
    """A file without a name that holds `data`."""
    with _nameless() as file:
        file.write(data)
        file.flush()
        yield file


def _nameless() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("zhinao"), "w+b")  # noqa: PTH123 - it has no path
    return tempfile.TemporaryFile()
