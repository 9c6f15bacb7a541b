"""Cancelling stops what runs within two seconds of computing: the process that reads the file, and the batch that is
embedded.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from processes import children_of
from rest import Api

from app.running import Server

STOPS_IN_S = 2.0
LOOK_S = 0.25
TICKS = os.sysconf("SC_CLK_TCK")
_FEW = 2
"""Ticks of such a time, a hundredth of a second each: who works takes more, on a busy machine too."""


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    made = Api(server.url)
    made.upload(made.collection(), ("warm.txt", b"The first file loads the model."))
    yield made
    made.http.close()


def workers(server: Server) -> dict[int, str]:
    """The processes of the worker that reads files, and below them those that it reads them in."""
    below = children_of(server.process.pid)
    [main] = [p for p, words in below.items() if "--queues ingest" in words and os.getpgid(p) == p]
    return children_of(main)


def computed(pid: int) -> int:
    """Ticks of computing of all threads of a process; none where it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13]))
    return 0


def busy(pids: dict[int, str]) -> set[int]:
    before = {pid: computed(pid) for pid in pids}
    time.sleep(LOOK_S)
    return {pid for pid in pids if computed(pid) - before[pid] > _FEW}


def cancelled(api: Api, server: Server, text: bytes, is_at_it: Callable[[dict], bool]) -> set[int]:
    """A file's job that is cancelled when it is at its work; returns the processes that had worked for it.

    When this returns, nothing works any more, and not for long.
    """
    row = api.send(api.collection(), ("long.txt", text)).json()["documents"][0]
    end = time.monotonic() + 60
    while True:
        job = api.http.get(f"/jobs/{row['job_id']}").json()
        at_it = busy(workers(server)) if is_at_it(job) else set()
        if at_it:
            break
        assert time.monotonic() < end, job
    assert api.http.post(f"/jobs/{row['job_id']}/cancel").status_code == 200
    before = {pid: computed(pid) for pid in workers(server)}
    while busy(workers(server)):  # how long that takes is a matter of who else computes
        assert time.monotonic() < end + 60, "it goes on"
    more = sum(max(0, computed(pid) - ticks) for pid, ticks in before.items())
    assert more < (STOPS_IN_S + LOOK_S) * TICKS, "it went on"
    told = api.http.get(f"/jobs/{row['job_id']}").json()
    assert (told["status"], told["stage"]) == ("cancelled", job["stage"])
    return at_it


def test_the_process_that_reads_a_cancelled_file_is_gone(api: Api, server: Server) -> None:
    lines = b"".join(
        b"The walrus number %d sleeps on the ice of bay %d.\n\n" % (n, n % 97)
        for n in range(400_000)
    )
    readers = cancelled(api, server, lines, lambda job: job["stage"] == "parse")
    assert not readers & {pid for pid, words in workers(server).items() if "--queues" not in words}


def test_a_batch_of_long_passages_is_not_embedded_to_its_end(api: Api, server: Server) -> None:
    words = " ".join(f"walrus{n}" for n in range(130))
    text = "\n\n".join(f"{n} {words}" for n in range(64)).encode()
    cancelled(api, server, text, lambda job: job["stage"] == "embed")
    [following] = api.upload(api.collection(), ("b.txt", b"The teapot stands in the kitchen."))
    assert following["job"]["status"] == "done"
