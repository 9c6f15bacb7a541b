import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, UploadFile
from library import Library
from starlette.requests import Request

from app.queue import CeleryQueue
from app.settings import Settings
from app.state import State
from app.uploads import BodyLimit, sweep, take, take_bytes, take_file
from app.wiring import Core, Services
from indexer.catalog.recent import RecentQueries
from indexer.jobs.schedules import Schedules
from indexer.parse.media import PDF
from pipeline.answer import Answerer
from pipeline.errors import EmptyDocument, InvalidInput, NotFound, Unavailable

TEXT = b"The walrus sleeps on the ice.\n" * 90_000  # more than two pieces


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library.open(tmp_path)
    yield made
    made.close()


@pytest.fixture
def state(library: Library, tmp_path: Path) -> Iterator[State]:
    """Real stores, and a queue whose Redis is not there: uploads are taken all the same."""
    core = Core(
        Settings(data=tmp_path),
        library.folders,
        library.database,
        library.catalog,
        library.jobs,
        library.control,
        Schedules(library.database),
    )
    answerer = Answerer(library.retriever, None)
    recent = RecentQueries(library.database, kept=0, days=1)
    services = Services(
        core, library.embedder, library.snapshots, library.retriever, answerer, None, recent
    )
    queue = CeleryQueue(f"redis+socket://{tmp_path}/none.sock")
    yield State(services, queue)
    queue.close()


def stored(library: Library) -> list[Path]:
    """Every file and folder that an upload may leave."""
    collections = library.folders.data / "collections"
    return [*library.folders.uploads.glob("*"), *collections.rglob("originals/*")]


def test_a_file_is_stored_piece_by_piece_and_waits_without_redis(
    state: State, library: Library
) -> None:
    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 < size <= 2**20
            return super().read(size)

    row = take_file(state, "default", "walrus.txt", Pieces(TEXT))
    assert (row.status, row.duplicate, row.error) == ("queued", False, None)
    [original] = stored(library)
    assert original.read_bytes() == TEXT
    again = take_bytes(state, "default", "copy.txt", TEXT)
    assert (again.id, again.duplicate) == (row.id, True)
    assert stored(library) == [original]


def test_kinds_are_known_by_the_stored_bytes(state: State, library: Library) -> None:
    data = Path(__file__).parents[2] / "data"
    pdf = take_bytes(state, "default", "a.bin", (data / "warranty.en.pdf").read_bytes())
    assert library.catalog.document(pdf.id).media_type == PDF
    samples = Path(__file__).parents[3] / "app" / "samples"
    office = next(samples.glob("*.docx"))
    row = take_bytes(state, "default", "b.docx", office.read_bytes() + bytes(0))
    assert "wordprocessingml" in library.catalog.document(row.id).media_type


def test_a_refused_file_leaves_nothing(state: State, library: Library) -> None:
    with pytest.raises(EmptyDocument):
        take_bytes(state, "default", "empty.txt", b"")
    with pytest.raises(InvalidInput):
        take_bytes(state, "default", "a.exe", b"MZ\x90\x00" + bytes(200))
    with pytest.raises(InvalidInput, match="501 characters"):
        take_bytes(state, "default", "n" * 501, TEXT)
    with pytest.raises(InvalidInput, match="no name"):
        take_bytes(state, "default", "", TEXT)
    with pytest.raises(NotFound):
        take_bytes(state, "missing", "a.txt", TEXT)
    assert stored(library) == []


def test_a_file_that_breaks_off_leaves_nothing(state: State, library: Library) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise OSError(28, "No space left on device")
            return super().read(size)

    with pytest.raises(Unavailable, match="No space left"):
        take_file(state, "default", "a.txt", Broken(TEXT))
    assert stored(library) == []


def test_an_original_whose_row_was_refused_does_not_stay(state: State, library: Library) -> None:
    class Deleting(io.BytesIO):
        """The collection goes while its file arrives."""

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 0:
                library.catalog.delete_collection("gone")
            return super().read(size)

    library.catalog.create_collection("gone")
    with pytest.raises(NotFound):
        take_file(state, "gone", "a.txt", Deleting(TEXT))
    assert stored(library) == []
    assert list((library.folders.data / "collections").glob("*")) == []


def test_a_refused_row_leaves_the_original_of_another(state: State, library: Library) -> None:
    kept = take_bytes(state, "default", "a.txt", TEXT)
    before = stored(library)
    with pytest.raises(InvalidInput):
        take_bytes(state, "default", " ", TEXT)
    assert stored(library) == before
    assert library.catalog.document(kept.id).name == "a.txt"


async def test_a_long_name_is_refused_in_its_row_before_the_file_is_read(
    state: State, library: Library
) -> None:
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("it was read")

    row = await take(state, "default", UploadFile(Unread(TEXT), filename="n" * 600))
    assert row.status == "failed"
    assert row.error
    assert "500" in row.error
    assert stored(library) == []


async def test_two_files_are_stored_at_the_same_time_and_no_more(
    state: State, library: Library
) -> None:
    lock = threading.Lock()
    open_now, most = 0, 0
    both = threading.Barrier(2)

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal open_now, most
            first = self.tell() == 0
            if first:
                with lock:
                    open_now += 1
                    most = max(most, open_now)
                both.wait(20)  # a second one comes, or this breaks
            piece = super().read(size)
            if not piece:
                with lock:
                    open_now -= 1
            return piece

    files = [UploadFile(Counted(f"Note {n}.".encode()), filename=f"{n}.txt") for n in range(6)]
    rows = await asyncio.gather(*(take(state, "default", file) for file in files))
    assert [row.error for row in rows] == [None] * 6
    assert most == 2


def test_what_a_crash_left_is_swept(library: Library) -> None:
    library.folders.uploads.mkdir()
    (library.folders.uploads / "half").write_bytes(b"half")
    sweep(library.folders)
    sweep(library.folders)
    assert not library.folders.uploads.exists()


async def body(mib: int) -> AsyncIterator[bytes]:
    for _ in range(mib * 16):
        yield bytes(2**16)


@pytest.mark.parametrize("path", ["/form", "/raw"])
async def test_a_body_without_a_length_is_refused_while_it_arrives(path: str) -> None:
    app = FastAPI()

    @app.post("/form")
    async def form(file: UploadFile) -> int:
        return file.size or 0

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    kind = "multipart/form-data; boundary=x" if path == "/form" else "application/octet-stream"
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def content(mib: int) -> AsyncIterator[bytes]:
        if path == "/form":
            yield start
        async for piece in body(mib):
            yield piece
        if path == "/form":
            yield b"\r\n--x--\r\n"

    transport = httpx.ASGITransport(BodyLimit(app, most_mib=1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        headers = {"content-type": kind}
        taken = await http.post(path, content=content(1), headers=headers)
        assert taken.status_code == 200
        refused = await http.post(path, content=content(3), headers=headers)
        assert refused.status_code == 413
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:zhinao:too-large"
        assert "1 MiB" in refused.json()["detail"]
        assert "all its files together" in refused.json()["detail"]
