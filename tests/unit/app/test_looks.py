"""Parts are looked at seldom, by one thread each, and nobody waits for one that hangs."""

import threading
from collections.abc import Iterator

import pytest

from app.looks import FRESH_S, Looks, Part
from pipeline.errors import Unavailable


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Answers, refuses or hangs, as a test says; counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.goes_on, self.over = threading.Event(), threading.Semaphore(0)
        self.goes_on.set()

    def look(self) -> None:
        self.asked += 1
        assert self.goes_on.wait(30)
        self.over.release()
        if self.error is not None:
            raise self.error


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.goes_on.set()


def test_what_was_seen_holds_for_a_while_and_is_looked_at_again_then(server: Server) -> None:
    clock = Clock()
    looks = Looks(clock=clock, wait_s=30)
    parts = {"chat": Part(server.look)}
    assert [looks.say(parts) for _ in range(3)] == [{"chat": "ok"}] * 3
    server.error = Unavailable("it is away")
    clock.now += FRESH_S - 0.1
    assert looks.say(parts) == {"chat": "ok"}
    assert server.asked == 1
    clock.now += 0.1
    assert looks.say(parts) == {"chat": "it is away"}
    server.error = ZeroDivisionError()
    clock.now += FRESH_S
    assert "ZeroDivisionError" in looks.say(parts)["chat"]
    assert server.asked == 3


def test_a_part_that_hangs_is_waited_for_once_and_said(server: Server) -> None:
    clock = Clock()
    looks = Looks(clock=clock, wait_s=0.05)
    parts = {"chat": Part(server.look), "disk": Part(lambda: None)}
    server.goes_on.clear()
    assert looks.say(parts)["chat"] == "does not answer for 0 s"
    clock.now += 100
    assert looks.say(parts) == {"chat": "does not answer for 100 s", "disk": "ok"}
    assert server.asked == 1  # one thread, however often anybody asks
    server.goes_on.set()
    assert server.over.acquire(timeout=30)
    patient = Looks(clock=clock, wait_s=30)
    assert patient.say(parts) == {"chat": "ok", "disk": "ok"}


def test_what_was_said_before_holds_while_a_patient_look_takes_its_time(server: Server) -> None:
    clock = Clock()
    looks = Looks(clock=clock, wait_s=5)
    parts = {"database": Part(server.look, patience_s=12)}
    assert looks.say(parts) == {"database": "ok"}
    clock.now += FRESH_S
    server.goes_on.clear()
    looks._wait_s = 0.05
    assert looks.say(parts) == {"database": "ok"}
    clock.now += 11.9
    assert looks.say(parts) == {"database": "ok"}
    clock.now += 0.1
    assert looks.say(parts) == {"database": "does not answer for 12 s"}
