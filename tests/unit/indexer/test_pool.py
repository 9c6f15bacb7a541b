"""Whatever a file does to the process that reads it, only that file is lost, and its error names the reason."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ole_file import ole_file
from reportlab.pdfgen.canvas import Canvas

from indexer.parse import cage, pool
from indexer.parse.limits import Limits
from indexer.parse.outcomes import ParserMistake
from indexer.parse.parser import build_parser
from indexer.parse.pool import ParserPool
from pipeline import errors
from pipeline.errors import DamagedDocument, RagError, TooLarge, Unavailable
from tests.fixtures import wicked_child

WICKED = (str(Path(wicked_child.__file__)),)
LIMITS = Limits(
    memory_mb=200, cpu_seconds=60, seconds=60, open_files=64, written_mb=5, result_mb=1, files=100
)


@pytest.fixture(scope="module")
def wicked() -> Iterator[ParserPool]:
    made = ParserPool(LIMITS, program=WICKED)
    yield made
    made.close()


def said(readers: ParserPool, order: str) -> str:
    return readers.parse(order.encode(), "a.txt").elements[0].text


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    for _ in range(200):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        ("crash", DamagedDocument, "crash"),
        ("leave", DamagedDocument, "crash"),
        ("eat", TooLarge, "more than 200 MB of memory"),
        ("open", TooLarge, "more than 64 open files"),
        ("write", TooLarge, "a file of more than 5 MB"),
        ("tell 2000000", TooLarge, "more than 1 MB of text"),
    ],
)
def test_a_file_that_harms_its_reader_is_refused_with_the_reason_and_the_next_one_is_read(
    wicked: ParserPool, order: str, error: type[RagError], says: str
) -> None:
    with pytest.raises(error, match=f"“a.txt”.*{says}"):
        said(wicked, order)
    assert said(wicked, "tell 3") == "xxx"


@pytest.mark.parametrize("kind", [k.__name__ for k in vars(errors).values() if isinstance(k, type)])
def test_every_error_arrives_as_it_was_raised(wicked: ParserPool, kind: str) -> None:
    with pytest.raises(RagError, match="the sentence") as caught:
        said(wicked, f"refuse {kind}")
    assert type(caught.value).__name__ == kind


def test_a_mistake_of_ours_is_no_error_of_the_file_and_names_its_place(wicked: ParserPool) -> None:
    with pytest.raises(ParserMistake, match=r"(?s)in mistake.*a bug of ours"):
        said(wicked, "mistake")


def test_a_child_is_kept_until_it_has_read_its_share_of_files() -> None:
    readers = ParserPool(Limits(files=2), program=WICKED)
    pids = [said(readers, "pid") for _ in range(4)]
    readers.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_warm_child_that_dies_in_between_is_replaced(wicked: ParserPool) -> None:
    pid = int(said(wicked, "pid").split()[1])
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert said(wicked, "tell 2") == "xx"


@pytest.mark.parametrize("how", [cage.NAMESPACE, cage.GUARD])
def test_nothing_goes_over_the_network_and_no_program_is_started(how: str, tmp_path: Path) -> None:
    program = WICKED
    if how == cage.GUARD:  # as where the kernel allows no namespaces
        told = tmp_path / "guarded.py"
        told.write_text(
            "import runpy\nfrom indexer.parse import cage\n"
            f"cage.leave_network = lambda: cage.GUARD\nrunpy.run_path({WICKED[0]!r}, run_name='__main__')\n"
        )
        program = (str(told),)
    readers = ParserPool(LIMITS, program=program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        try:
            readers.start()
            if readers.network == cage.GUARD and how == cage.NAMESPACE:
                pytest.skip("this machine allows no namespaces")
            assert readers.network == how
            for order in (f"connect {port}", "resolve", "start", "shell"):
                with pytest.raises(DamagedDocument, match=r"Forbidden"):
                    said(readers, order)
            if how == cage.NAMESPACE:
                assert said(readers, f"connect_natively {port}") == "answered -1"
        finally:
            readers.close()
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_child_sees_no_key_of_ours(wicked: ParserPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/db")
    readers = ParserPool(LIMITS, program=WICKED)
    seen = json.loads(said(readers, "environment"))
    readers.close()
    assert "PATH" in seen
    assert not [name for name, value in seen.items() if "password" in value]


def test_children_end_when_their_parent_is_killed() -> None:
    told = (
        "import sys, time\nfrom indexer.parse.pool import ParserPool\n"
        f"readers = ParserPool(program={WICKED!r})\n"
        "print(readers.parse(b'pid', 'a.txt').elements[0].text, flush=True)\n"
        "readers.parse(b'spin', 'a.txt')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", told], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[1])
    time.sleep(0.5)  # until it reads the second file, and looks at nothing else
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def ends_unavailable(readers: ParserPool, act: Callable[[], None]) -> None:
    """What is being read when `act` happens ends with Unavailable."""
    caught: list[BaseException] = []

    def read() -> None:
        try:
            said(readers, "hang")
        except Unavailable as error:
            caught.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    while not readers._busy:
        time.sleep(0.01)
    act()
    reading.join(20)
    assert [type(error) for error in caught] == [Unavailable]


def test_closing_ends_what_is_being_read() -> None:
    readers = ParserPool(Limits(), program=WICKED)
    pid = int(said(readers, "pid").split()[1])
    ends_unavailable(readers, readers.close)
    assert gone(pid)
    with pytest.raises(Unavailable):
        said(readers, "pid")


def test_a_reading_is_interrupted_and_the_next_file_is_read() -> None:
    readers = ParserPool(Limits(), program=WICKED)
    ends_unavailable(readers, readers.interrupt)
    assert said(readers, "pid").startswith("pid")
    readers.close()


def scan(pages: int, *, crash: int = 0, tenths: int = 0) -> bytes:
    """What `wicked_child.Pages` takes for a picture of so many pages."""
    return b"II*\x00" + bytes([pages, crash, tenths])


def test_slow_pages_are_shared_by_the_children_and_stand_in_order() -> None:
    readers = ParserPool(Limits(), children=2, program=WICKED)
    parsed = readers.parse(scan(12, tenths=3), "a.tif")
    readers.close()
    texts = [element.text.split(" by ") for element in parsed.elements]
    assert [text[0] for text in texts] == [f"page {number}" for number in range(1, 13)]
    assert len({text[1] for text in texts}) == 2


class Noted:
    """Pages that outlive their reader, who is ended behind the first `last` of them."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.pieces: list[tuple[range, bytes]] = []
        self.told: list[range] = []

    def begin(self, total: int) -> list[tuple[range, bytes]]:
        return list(self.pieces)

    def note(self, pages: range, read: bytes) -> None:
        if self.last is not None and len(self.pieces) >= self.last:
            raise Unavailable("enough")
        self.pieces.append((pages, read))
        self.told.append(pages)


def test_a_reading_that_was_ended_goes_on_behind_the_pages_that_were_kept() -> None:
    noted = Noted(last=2)
    first = ParserPool(Limits(), children=1, program=WICKED)
    with pytest.raises(Unavailable, match="enough"):
        first.parse_pages(scan(12, tenths=3), "a.tif", noted)
    assert not first._busy
    first.close()
    kept = {page for pages, _ in noted.pieces for page in pages}
    noted.last, noted.told = None, []
    second = ParserPool(Limits(), children=1, program=WICKED)
    parsed = second.parse_pages(scan(12, tenths=3), "a.tif", noted)
    second.close()
    texts = [element.text.split(" by ") for element in parsed.elements]
    assert [text[0] for text in texts] == [f"page {number}" for number in range(1, 13)]
    readers = [text[1] for text in texts]
    assert {readers[page] for page in kept} | {readers[-1]} == set(readers)
    assert len({readers[page] for page in kept}) == 1
    assert readers[-1] not in {readers[page] for page in kept}
    assert sorted(page for pages in noted.told for page in pages) == sorted({*range(12)} - kept)


def test_what_was_kept_and_cannot_be_joined_is_read_anew() -> None:
    noted = Noted()
    noted.pieces.append((range(4), b'{"of": "another version"}\n'))
    readers = ParserPool(Limits(), children=1, program=WICKED)
    parsed = readers.parse_pages(scan(6), "a.tif", noted)
    readers.close()
    told = [element.text.split(" by ")[0] for element in parsed.elements]
    assert told == [f"page {number}" for number in range(1, 7)]


def test_where_memory_is_short_one_child_reads_all_pages() -> None:
    readers = ParserPool(Limits(), children=4, total_mb=30, program=WICKED)
    parsed = readers.parse(scan(6, tenths=4), "a.tif")
    readers.close()
    assert len({element.text.split(" by ")[1] for element in parsed.elements}) == 1


def test_one_bad_page_refuses_the_file_and_ends_all_who_read_it() -> None:
    readers = ParserPool(Limits(), children=2, program=WICKED)
    with pytest.raises(DamagedDocument, match="crash"):
        readers.parse(scan(30, crash=12, tenths=3), "a.tif")
    assert not readers._busy
    assert said(readers, "tell 1") == "x"
    readers.close()


def test_a_document_of_slow_pages_ends_at_its_own_limit() -> None:
    readers = ParserPool(Limits(document_seconds=1), children=1, program=WICKED)
    with pytest.raises(TooLarge, match="1 seconds to be read as a whole"):
        readers.parse(scan(200, tenths=3), "a.tif")
    assert not readers._busy
    readers.close()


def test_a_pdf_read_in_steps_is_what_one_parser_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_MOST_PAGES", 7)
    canvas = Canvas(str(tmp_path / "a.pdf"))
    canvas.setTitle("保修手册 Warranty")
    for page in range(1, 41):
        canvas.bookmarkPage(str(page))
        canvas.addOutlineEntry(f"Chapter {page}", str(page))
        canvas.drawString(60, 800, "Running header of the book")
        canvas.drawString(60, 700, f"Chapter {page}")
        canvas.drawString(60, 650, f"What stands on page {page} of all and goes on over")
        canvas.drawString(60, 30, str(page))
        canvas.showPage()
    canvas.save()
    data = (tmp_path / "a.pdf").read_bytes()
    readers = ParserPool(children=2)
    parsed = readers.parse(data, "a.pdf")
    readers.close()
    assert parsed == build_parser().parse(data, "a.pdf")
    assert parsed.pages == 40


def test_what_a_file_s_program_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = tmp_path / "soffice"
    office.write_text(
        f"#!{sys.executable}\nimport subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\ntime.sleep(300)\n"
    )
    office.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    readers = ParserPool(Limits(seconds=5))
    with pytest.raises(TooLarge, match="5 seconds to be read"):
        readers.parse(ole_file({"WordDocument": b"old"}), "a.doc")
    readers.close()
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_talks_nonsense_is_refused(tmp_path: Path) -> None:
    told = tmp_path / "liar.py"
    told.write_text(
        "import socket, sys\nfrom indexer.parse.wire import HEAD, Kind, asked\n"
        "pool = socket.socket(fileno=int(sys.argv[1]))\n"
        "def say(kind, body): pool.sendall(HEAD.pack(kind, len(body), 0, 0.0) + body)\n"
        "say(Kind.READY, b'no network')\n"
        "while (request := asked(pool)):\n"
        '    say(Kind.PARSED, b\'{"elements": [{"text": 3}]}\')\n'
    )
    readers = ParserPool(program=(str(told),))
    with pytest.raises(DamagedDocument, match="nonsense"):
        readers.parse(b"anything", "a.txt")
    readers.close()


def test_where_no_child_starts_the_file_waits(tmp_path: Path) -> None:
    readers = ParserPool(program=("-c", "import sys; sys.exit(1)"))
    with pytest.raises(Unavailable, match="does not start"):
        readers.start()
