"""Real processes: a shell that leads, and what it starts."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.children import Children, Program
from pipeline.errors import Unavailable


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def shell(script: str, *, stop_s: float = 5.0) -> Program:
    return Program("shell", ["/bin/sh", "-c", script], stop_s=stop_s)


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.stop()


def number(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


@pytest.mark.parametrize("answer", ["exit 0", ":"], ids=["in-order", "deaf"])
def test_a_whole_group_ends_with_its_leader(
    children: Children, tmp_path: Path, answer: str
) -> None:
    """The leader ends in order and leaves its child behind, or hears nothing at all."""
    pids = tmp_path / "leader", tmp_path / "below"
    script = f"trap '{answer}' TERM; sleep 600 & echo $! > {pids[1]}; echo $$ > {pids[0]}; while :; do wait; done"
    children.start(shell(script, stop_s=0.3))
    leader, below = map(number, pids)
    assert os.getpgid(below) == leader != os.getpgid(0)
    children.stop()
    until(lambda: not alive(leader) and not alive(below))


def test_kill_ends_a_whole_group_at_once(children: Children, tmp_path: Path) -> None:
    below = tmp_path / "below"
    children.start(shell(f"trap '' TERM; sleep 600 & echo $! > {below}; wait", stop_s=60))
    pid = number(below)
    children.kill()
    until(lambda: not alive(pid))


def test_a_child_that_dies_is_started_again_and_counted(children: Children, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    children.start(shell(f"echo $$ > {pid}; exec sleep 600"))
    assert children.says("shell") == "ok"
    first = number(pid)
    pid.unlink()
    os.kill(first, signal.SIGKILL)
    until(lambda: children.says("shell").startswith("ended with exit code -9"))
    assert number(pid) != first
    until(lambda: children.says("shell") == "started again once, last exit code -9")


def test_what_a_dead_leader_left_is_ended_before_its_next_start(
    children: Children, tmp_path: Path
) -> None:
    below, leader = tmp_path / "below", tmp_path / "leader"
    script = f"sleep 600 & echo $! > {below}; echo $$ > {leader}; wait"
    children.start(shell(script))
    left, first = number(below), number(leader)
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(left))


def test_a_child_that_cannot_be_started_is_tried_again(
    children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program"

    def write(body: str) -> None:
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o700)

    write(f"rm {program}; exit 3")
    children.start(Program("shell", [str(program)]))
    until(lambda: not program.exists())
    until(lambda: "is not installed" in caplog.text)
    assert "exit code 3" in children.says("shell")
    write("exec sleep 600")
    until(lambda: children.says("shell") == "started again once, last exit code 3")


def test_a_program_that_is_missing_is_said(children: Children) -> None:
    with pytest.raises(Unavailable, match="not installed"):
        children.start(Program("nothing", ["/nowhere/nothing"]))
    assert children.says("nothing") == "none here"


@pytest.mark.parametrize("answer", ["exit 0", ":"], ids=["in-order", "deaf"])
def test_a_child_is_started_anew_whatever_it_does_with_the_polite_signal(
    children: Children, tmp_path: Path, answer: str
) -> None:
    pid = tmp_path / "pid"
    children.start(
        shell(f"trap '{answer}' TERM; echo $$ > {pid}; while :; do sleep 0.1; done", stop_s=0.3)
    )
    first = number(pid)
    pid.unlink()
    children.renew("shell")
    children.renew("shell")
    assert number(pid) != first
    until(lambda: not alive(first))
    until(lambda: children.says("shell").startswith("started again once"))


def test_a_child_that_a_signal_had_stopped_is_started_anew(
    children: Children, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    children.start(shell(f"echo $$ > {pid}; exec sleep 600", stop_s=0.3))
    first = number(pid)
    pid.unlink()
    os.kill(first, signal.SIGSTOP)
    children.renew("shell")
    assert number(pid) != first
