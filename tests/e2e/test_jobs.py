"""Jobs over HTTP and in the terminal: watched, stopped, started again."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from rest import Api

LONG = "\n\n".join(f"Paragraph {n}: the walrus {n} sleeps on the ice." * 6 for n in range(3000))


@pytest.fixture
def api(server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


def events(response: httpx.Response) -> Iterator[tuple[str, str, dict]]:
    name = data = number = ""
    for line in response.iter_lines():
        key, _, value = line.partition(": ")
        match key:
            case "event":
                name = value
            case "id":
                number = value
            case "data":
                data = value
            case "" if data:
                yield name, number, json.loads(data)
                data = ""


def zhinao(server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", *words, "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_job_is_watched_to_its_end_and_not_sent_twice(api: Api) -> None:
    row = api.send(api.collection(), ("a.txt", b"The teapot stands in the kitchen.")).json()
    job = row["documents"][0]["job_id"]
    with api.http.stream("GET", f"/jobs/{job}/events") as response:
        seen = list(events(response))
    assert {name for name, _, _ in seen} == {"job"}
    assert seen[-1][2]["status"] == "done"
    dones = [(data["updated"], data["status"]) for _, _, data in seen]
    assert dones == sorted(set(dones), key=dones.index)
    again = {"Last-Event-ID": seen[-1][1]}
    assert api.http.get(f"/jobs/{job}/events", headers=again).status_code == 204
    with api.http.stream("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": "0"}) as response:
        assert [data["status"] for _, _, data in events(response)] == ["done"]
    assert api.http.get("/jobs/missing/events").status_code == 404
    assert api.http.get("/jobs/events", params={"collection": "missing"}).status_code == 404


def test_a_running_job_is_stopped_at_once_and_its_worker_goes_on_to_the_next(
    api: Api, server
) -> None:
    collection = api.collection()
    row = api.send(collection, ("long.txt", LONG.encode())).json()["documents"][0]
    with api.http.stream("GET", f"/jobs/{row['job_id']}/events") as response:
        for _, _, data in events(response):
            if data["stage"] == "embed":
                break
    told = api.http.post(f"/jobs/{row['job_id']}/cancel").json()
    assert (told["cancelled"], told["job"]["status"]) == (1, "cancelled")
    [short] = api.upload(collection, ("b.txt", b"The teapot stands in the kitchen."))
    assert short["job"]["status"] == "done"
    assert {hit["filename"] for hit in api.search("walrus teapot", collection)} == {"b.txt"}
    assert api.http.post(f"/jobs/{short['job_id']}/cancel").status_code == 409
    metrics = api.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(
        r'^zhinao_jobs\{kind="ingest",status="cancelled"\} [1-9]', metrics.text, re.MULTILINE
    )
    assert "zhinao_queue_unattended 0.0" in metrics.text
    with api.http.stream("GET", "/jobs/events", params={"collection": collection}) as response:
        _, _, counts = next(events(response))
    assert counts["jobs"]["cancelled"] == counts["jobs"]["done"] == 1
    assert counts["jobs"]["running"] == 0

    queued = zhinao(server, "retry", row["job_id"])
    assert "queued 1 again" in queued.stdout, queued.stderr
    stopped = zhinao(server, "cancel", row["job_id"], "--json")
    assert json.loads(stopped.stdout)[0]["job"]["status"] == "cancelled"
    assert api.http.get(f"/documents/{row['id']}").json()["status"] == "failed"
    assert "cancelled" in zhinao(server, "jobs", "-c", collection).stdout


def test_what_failed_is_retried_by_one_call_and_fails_again_with_its_sentence(
    api: Api, server
) -> None:
    collection = api.collection()
    [bad] = api.upload(collection, ("bad.pdf", b"%PDF-1.7 broken"))
    assert bad["job"]["status"] == "failed"
    retried = zhinao(server, "retry", "--failed", "-c", collection, "--json")
    assert json.loads(retried.stdout) == {"retried": 1}
    again = api.ended(bad["job_id"])
    assert (again["status"], again["error"]) == ("failed", bad["job"]["error"])
    assert "name jobs" in zhinao(server, "retry").stderr
