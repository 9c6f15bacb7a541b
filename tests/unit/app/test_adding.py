"""Uploads from the terminal: the cost of looking at their jobs, what is shown, and how it is broken off."""

import asyncio
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scripted_jobs import document, job, serving
from typer.testing import CliRunner

from app import adding
from app.adding import AT_ONCE, Watch, add_files, turn
from app.cli import app
from app.client import ApiClient
from app.problems import ApiProblem
from app.schemas import UploadedOut


def row(number: int, **how: object) -> UploadedOut:
    made = UploadedOut(
        id=f"d{number}", filename=f"{number}.txt", job_id=f"j{number}", status="processing", duplicate=False, error=None
    )  # fmt: skip
    return made.model_copy(update=how)


class Server:
    """Jobs whose statuses `stands` tells by number, and how many requests there were, at all and at a time."""

    def __init__(self, stands: Callable[[int], str]) -> None:
        self.stands = stands
        self.jobs: list[int] = []
        self.uploads = self.together = self.most = 0
        self.away = False
        self.client = ApiClient("http://api", httpx.MockTransport(self.answer))

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.together += 1
        self.most = max(self.most, self.together)
        await asyncio.sleep(0)
        self.together -= 1
        if self.away:
            raise httpx.ConnectError("away", request=request)
        if request.method == "POST":
            await request.aread()
            self.uploads += 1
            body = {"documents": [row(self.uploads - 1).model_dump()]}
            return httpx.Response(202, json=body)
        kind, id_ = request.url.path.strip("/").split("/")
        number = int(id_[1:])
        if kind == "documents":
            return httpx.Response(200, json=document(id_).model_dump())
        self.jobs.append(number)
        status = self.stands(number)
        if status == "gone":
            body = {"type": "t", "title": "T", "status": 404, "detail": "there is no job"}
            return httpx.Response(404, json=body)
        error = f"file {number} is broken" if status == "failed" else None
        return httpx.Response(200, json=job(id_, status, error=error).model_dump())


@given(st.sets(st.integers(0, 500), min_size=1), st.integers(-1, 500))
def test_every_open_upload_gets_its_turn_and_the_first_ones_always(open_: set[int], last) -> None:
    numbers = sorted(open_)
    seen: set[int] = set()
    for _ in range(2 + len(numbers) // (AT_ONCE // 2)):
        asked, last = turn(numbers, last)
        assert len(asked) == len(set(asked)) == min(AT_ONCE, len(numbers))
        assert asked[: AT_ONCE // 2] == numbers[: AT_ONCE // 2]
        seen |= set(asked)
    assert seen == open_


async def test_a_look_costs_the_same_for_ten_thousand_open_jobs_as_for_fifty() -> None:
    server = Server(lambda number: "queued")
    watch = Watch(server.client)
    for number in range(10_000):
        watch.add(row(number))
    await watch.look()
    assert len(server.jobs) == AT_ONCE
    assert 1 < server.most <= 10
    assert watch.pause >= 1
    assert len(watch.open) == 10_000


async def test_a_job_that_stays_open_at_the_front_hides_none_behind_it() -> None:
    server = Server(lambda number: "queued" if number < 60 else "done")
    watch = Watch(server.client)
    for number in range(400):
        watch.add(row(number))
    looks = 0
    while len(watch.open) > 60 and looks < 60:
        await watch.look()
        looks += 1
    assert sorted(watch.open) == list(range(60))
    server.stands = lambda number: "done"
    while watch.open:
        await watch.look()
    assert sorted(watch.ended) == list(range(400))


async def test_a_server_that_starts_anew_is_waited_for_and_one_that_stays_away_is_not() -> None:
    server = Server(lambda number: "done")
    watch = Watch(server.client)
    watch.add(row(0))
    server.away = True
    await watch.look()
    assert list(watch.open) == [0]
    server.away = False
    await watch.look()
    assert not watch.open
    hasty = Watch(server.client, patience_s=0)
    hasty.add(row(0))
    server.away = True
    with pytest.raises(ApiProblem, match="cannot be reached"):
        await hasty.look()


async def test_each_file_is_told_of_in_the_order_sent_and_a_deleted_one_too(tmp_path: Path) -> None:
    stands = {1: "failed", 2: "gone"}
    server = Server(lambda number: stands.get(number, "done"))
    (tmp_path / "a").write_text("x", encoding="utf-8")
    added = await add_files(server.client, [("a", tmp_path / "a")] * 4, "default", quiet=True)
    errors = [one.error for one in added]
    assert errors == [None, "file 1 is broken", "There is no job", None]


async def test_speed_and_time_left_stand_beside_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.monotonic()
    server = Server(lambda number: "done" if time.monotonic() - begun > number / 4 else "running")
    (tmp_path / "a").write_text("x", encoding="utf-8")
    shown = io.StringIO()
    screen = Console(file=shown, force_terminal=True, width=120)
    monkeypatch.setattr(adding, "ERR", screen)
    await add_files(server.client, [("a", tmp_path / "a")] * 7, "default", quiet=False)
    assert re.search(r"[2-5]\.\d files/s · about \d s left", shown.getvalue())
    assert "7/7" in shown.getvalue()


def test_what_failed_stands_last_and_many_are_counted(tmp_path: Path) -> None:
    with serving() as api:
        api.ends = {"u1": "failed", "u4": "dead"}
        for number in range(22):
            (tmp_path / f"{number:02d}.txt").write_text("x", encoding="utf-8")
        done = CliRunner().invoke(app, ["add", str(tmp_path), "--url", api.url])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ready"] * 20 + ["failed"] * 2 + ["20"]
    assert lines[-3:] == [
        "failed  u1: u1 is broken",
        "failed  u4: u4 is broken",
        "20 ready, 2 failed",
    ]


@pytest.mark.slow
def test_ctrl_c_leaves_at_once_and_says_that_what_was_sent_goes_on(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    with serving() as api:
        words = [sys.executable, "-m", "app", "add", str(tmp_path), "--url", api.url]
        # Where the tests run in the background, Ctrl-C is ignored by all that they start.
        listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(
            words, stderr=subprocess.PIPE, text=True, preexec_fn=listening
        ) as process:
            while not [path for path, _ in api.asked if path == "/jobs/u1"]:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    last = told.strip().splitlines()[-1]
    assert last == "2 of 2 files were sent and go on being read: see zhinao jobs -c default", told
    assert "Traceback" not in told
