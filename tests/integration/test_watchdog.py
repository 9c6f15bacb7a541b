"""The watchdog on real rows and a real child: a worker that takes nothing starts anew, whatever else waits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from databases import on_both
from library import Library
from processes import until

from app.children import Children, Program
from app.watchdog import STILL_S, Watchdog
from indexer.jobs.kinds import Queue

pytestmark = on_both


@dataclass
class Waiting:
    """Implements JobQueue: messages wait, and nobody takes one."""

    now: float = 0.0

    def submit(self, job_id: str, *, queue: str) -> None:
        raise AssertionError("a watchdog sends nothing")

    def waiting(self, queue: str) -> int:
        return 1

    def clock(self) -> float:
        return self.now


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    made.start(Program("worker", ["/bin/sleep", "600"]))
    yield made
    made.stop()


@pytest.fixture
def look(library: Library, children: Children) -> Callable[[float], None]:
    """Look every ten seconds for so many of them."""
    messages = Waiting()
    program = Program("worker", ["/bin/sleep", "600"])
    watchdog = Watchdog(
        children, {Queue.INGEST: program}, library.database, messages, clock=messages.clock
    )

    def looked(seconds: float) -> None:
        end = messages.now + seconds
        while messages.now <= end:
            watchdog.look()
            messages.now += 10.0

    return looked


def test_a_deaf_worker_is_started_anew_while_an_archive_waits_for_its_members(
    look: Callable[[float], None], children: Children, waiting_archive: str
) -> None:
    look(STILL_S + 10)
    until(lambda: children.restarts == {"worker": 1})


def test_a_worker_that_has_a_job_is_left_alone(
    look: Callable[[float], None],
    children: Children,
    library: Library,
    waiting_archive: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert library.jobs.claim_next() is not None
    look(10 * STILL_S)
    assert "started anew" not in caplog.text
    assert children.says("worker") == "ok"
