"""Workers and servers are exchanged one after another while files are read: nothing is lost, and nothing done twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, fleet, text
from library import Library
from processes import children_of, until


@pytest.fixture
def processes(tmp_path: Path, database_url: str) -> Iterator[Fleet]:
    with fleet(tmp_path, database_url) as made:
        yield made


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(
        Path(
            f"/proc/{pid}/cmdline"
        ).read_bytes()  # empty once it has ended and waits for its parent
    )


def test_new_workers_and_a_new_server_take_over_without_losing_or_repeating_a_file(
    processes: Fleet,
) -> None:
    server, old = processes.serve(), processes.work()
    names = [f"{n}.txt" for n in range(8)]
    processes.upload([(name, text(n, 60)) for n, name in enumerate(names[:4])])
    until(lambda: processes.running("embed"), 60)
    below = children_of(old.pid)
    assert any("--queues ingest" in words for words in below.values())
    old.send_signal(signal.SIGTERM)
    processes.work()
    assert old.wait(30) == 0
    assert not any(map(alive, below))
    given_back = {name for name, row in processes.rows().items() if row.token >= 2}
    assert given_back

    processes.upload([(name, text(n, 10)) for n, name in enumerate(names[4:6], 4)])
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    processes.serve()
    processes.upload([(name, text(n, 10)) for n, name in enumerate(names[6:], 6)])
    until(processes.ended, 120)
    rows = processes.done_once(names)
    assert {row.attempts for row in rows.values()} == {1}
    assert {name for name, row in rows.items() if row.token > 1} == given_back


def test_a_second_signal_ends_workers_at_once(processes: Fleet, database_url: str) -> None:
    library = Library.open(processes.data, database_url)
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    library.close()
    processes.knock(job)
    [original] = processes.data.glob("collections/*/originals/*")
    original.unlink()
    os.mkfifo(original)  # whoever reads it waits for ever
    worker = processes.work()
    until(lambda: processes.running("parse"), 60)
    below = children_of(worker.pid)
    worker.send_signal(signal.SIGTERM)
    until(
        lambda: not processes.running("parse")
    )  # the first signal is heard: the job is given back
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 128 + signal.SIGTERM
    until(lambda: not any(map(alive, below)))
    [row] = processes.rows().values()
    assert (row.status, row.attempts) == ("queued", 0)
