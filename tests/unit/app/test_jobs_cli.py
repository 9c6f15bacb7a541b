"""`zhinao jobs`, `cancel` and `retry` against a scripted server: what is asked for, printed, and the exit code."""

import io
import json
import re
from collections.abc import Iterator

import pytest
from rich.console import Console
from scripted_jobs import ScriptedJobs, counted, job, serving
from typer.testing import CliRunner

from app import following
from app.cli import app
from app.following import job_line, queue_line, unbroken
from app.job_schemas import JobEvent, QueueEvent
from app.problems import ApiProblem


@pytest.fixture
def api() -> Iterator[ScriptedJobs]:
    with serving() as server:
        yield server


def run(api: ScriptedJobs, *words: str, code: int = 0):
    wide = {"COLUMNS": "200", "NO_COLOR": "1"}
    done = CliRunner().invoke(app, [*words, "--url", api.url], env=wide)
    assert done.exit_code == code, done.output
    return done


def changed(status: str, done: int = 0, **how: object) -> dict:
    speed = {"per_second": 2.5, "seconds_left": 6.0}
    return job("a", status, done=done, **how).model_dump() | speed


def test_a_list_is_asked_for_by_status_and_kinds_in_the_words_of_the_api(api) -> None:
    words = ("--status", "failed", "--kind", "ingest", "--kind", "merge", "-c", "default")
    run(api, "jobs", *words)
    [(path, named)] = api.asked
    assert path == "/jobs"
    assert named == {
        "status": ["failed"], "kind": ["ingest", "merge"], "collection": ["default"], "limit": ["20"],
    }  # fmt: skip
    for option in ("--status", "--kind"):
        told = run(api, "jobs", option, "ingested", code=2).output
        assert "'ingested' is not one of" in told
    assert len(api.asked) == 1


def test_a_list_shows_progress_and_says_what_to_do_about_what_failed(api) -> None:
    api.jobs = {"a": job("a", "running")}
    shown = run(api, "jobs").stdout
    assert "embed 5/20 (25%)" in shown
    assert "zhinao retry" not in shown
    api.jobs["b"] = job("b", "dead", error="[no] memory")
    shown = run(api, "jobs").stdout
    assert "[no] memory" in shown
    assert "zhinao retry b, or for all of them: zhinao retry --failed" in shown
    api.jobs["c"] = job("c", "failed")
    shown = run(api, "jobs", "-c", "my own").stdout
    assert "zhinao retry ID, or for all of them: zhinao retry --failed -c 'my own'" in shown


def test_a_job_of_an_archive_is_followed_by_those_of_its_files(api) -> None:
    api.jobs = {"zip": job("zip"), "in": job("in", parent="zip"), "other": job("other")}
    rows = json.loads(run(api, "jobs", "zip", "--json").stdout)
    assert [row["id"] for row in rows] == ["zip", "in"]
    assert ["parent"] in [list(set(named) - {"limit"}) for _, named in api.asked]
    assert "in.txt" in run(api, "jobs", "zip").stdout
    run(api, "jobs", "zip", "--kind", "ingest", code=1)


def test_the_queue_is_followed_until_nothing_is_open_even_when_the_server_starts_anew(
    api, monkeypatch
) -> None:
    monkeypatch.setattr("app.following.unbroken.__kwdefaults__", {"again_s": 0, "patience_s": 60})
    speed = {"per_second": 3.2, "seconds_left": 70.0}
    api.queue = [
        [counted(queued=2, running=1), counted(queued=1, running=1, done=1) | speed],
        [counted(running=1, done=2)],
        [counted(done=2, failed=1), counted(done=99)],
    ]
    words = ("jobs", "--follow", "-c", "default", "--kind", "ingest")
    lines = run(api, *words).stdout.strip().splitlines()
    assert lines == [
        "2 queued · 1 running",
        "1 queued · 1 running · 1 done · 3.2 jobs/s · about 1 min left",
        "0 queued · 1 running · 2 done",
        "0 queued · 0 running · 2 done · 1 failed",
    ]
    assert {path for path, _ in api.asked} == {"/jobs/events"}
    assert api.asked[0][1] == {"collection": ["default"], "kind": ["ingest"]}
    api.queue = [[counted(queued=1)], [counted(done=1)]]
    lines = run(api, "jobs", "-f", "--json").stdout.strip().splitlines()
    assert [json.loads(line)["jobs"]["done"] for line in lines] == [0, 1]
    assert run(api, "jobs", "-f", "--status", "done", code=1).stderr.startswith("error: ")


def test_a_job_is_followed_to_its_end_which_is_the_exit_code(api) -> None:
    api.changes["a"] = [[changed("queued", stage=""), changed("running", 5), changed("done", 20)]]
    lines = run(api, "jobs", "a", "--follow").stdout.strip().splitlines()
    assert lines[1] == "a.txt: running · embed 5/20 · 2.5/s · about 6 s left"
    assert len(lines) == 3
    api.changes["a"] = [[changed("running"), changed("failed", error="[no] disk")]]
    done = run(api, "jobs", "a", "-f", "--json", code=1)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == [
        "running", "failed",
    ]  # fmt: skip
    assert done.stderr == "error: [no] disk\n"
    api.changes["a"] = [[changed("cancelled")]]
    assert "cancelled" in run(api, "jobs", "a", "-f", code=1).stderr
    run(api, "jobs", "missing", "-f", code=1)


def test_on_a_screen_a_line_is_written_over_and_broken_where_it_is_too_long(
    api, monkeypatch
) -> None:
    shown = io.StringIO()
    screen = Console(file=shown, force_terminal=True, width=30)
    monkeypatch.setattr(following, "SCREEN", screen)
    speed = {"per_second": 3.2, "seconds_left": 70.0}
    api.queue = [[counted(queued=1, dead=11) | speed, counted(done=1)]]
    assert run(api, "jobs", "-f").stdout == ""
    seen = " ".join(re.sub(r"\x1b\[[0-9?]*[A-Za-z]|\r", " ", shown.getvalue()).split())
    assert "1 queued · 0 running · 11 dead · 3.2 jobs/s · about 1 min left" in seen
    assert seen.endswith("0 queued · 0 running · 1 done")


async def test_what_never_answered_is_not_waited_for() -> None:
    tries = 0

    async def away():
        nonlocal tries
        tries += 1
        raise ApiProblem("Unreachable", "nobody is there", None)
        yield

    with pytest.raises(ApiProblem, match="nobody"):
        async for _ in unbroken(away, lambda event: True):
            pass
    assert tries == 1


def test_lines_leave_out_what_is_not_known() -> None:
    assert queue_line(QueueEvent.model_validate(counted(done=1))) == "0 queued · 0 running · 1 done"
    event = changed("done", stage="done", total=0, filename=None)
    event |= {"per_second": None, "seconds_left": None}
    assert job_line(JobEvent.model_validate(event)) == "ingest: done"


@pytest.mark.parametrize(("command", "did"), [("cancel", "cancelled"), ("retry", "queued")])
def test_each_job_that_is_named_is_told_of_whatever_became_of_the_others(
    api, command: str, did: str
) -> None:
    api.jobs = {"a": job("a", "failed"), "ended": job("ended"), "z": job("z", "failed")}
    names = ("a", "missing", "ended", "z")
    done = run(api, command, *names, code=1)
    assert f"a: {did}" in done.stdout
    assert f"z: {did}" in done.stdout
    assert done.stderr.splitlines() == [
        "error: missing: There is no such job",
        "error: ended: The job is done: there is nothing to do",
    ]
    told = json.loads(run(api, command, *names, "--json", code=1).stdout)
    rows = told if command == "cancel" else told["jobs"]
    assert [(row["id"], row["error"] is None) for row in rows] == [
        ("a", True), ("missing", False), ("ended", False), ("z", True),
    ]  # fmt: skip
    assert rows[0]["job"]["id"] == "a"
    assert rows[1]["job"] is None
    if command == "retry":
        assert told["retried"] == 2
    run(api, command, "a", "z")


def test_one_call_retries_all_that_failed_of_some_kinds(api) -> None:
    words = ("retry", "--failed", "--kind", "ingest", "-c", "default")
    assert "queued 7 again" in run(api, *words).stdout
    assert api.asked[-1] == ("/jobs/retry", {"collection": ["default"], "kind": ["ingest"]})
    for wrong in ((), ("--kind", "ingest"), ("a", "--failed"), ("a", "-c", "default")):
        assert "name jobs" in run(api, "retry", *wrong, code=1).stderr
