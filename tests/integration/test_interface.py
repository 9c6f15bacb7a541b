"""The page as an ASGI application: alone, and behind a route of another application that starts nothing."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ui.main import PATHS

API = ("/documents", "/search", "/ask", "/jobs", "/collections", "/feedback", "/v1", "/health", "/metrics", "/docs",
       "/openapi.json")  # fmt: skip
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Gradio raises warnings of its own while it lives, so it lives in a child process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("page_behind_api.py")), str(port)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(log.parent)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        try:
            deadline = time.monotonic() + 120
            while child.poll() is None and time.monotonic() < deadline:
                try:
                    client.get("/about")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            else:
                pytest.fail(f"the page did not start: {log.read_text()}")
            yield client
        finally:
            child.terminate()
            child.wait(30)


def filled(http: httpx.Client, language: str) -> str:
    """What the event that fills the page sends, as the browser gets it from the queue."""
    config = http.get("/config").json()
    (load,) = [
        dependency["id"]
        for dependency in config["dependencies"]
        if any(event == "load" for _, event in dependency["targets"])
    ]
    session = {"session_hash": f"s{language}"}
    joined = http.post(
        "/gradio_api/queue/join",
        json={"data": [], "fn_index": load, **session},
        headers={"Accept-Language": language},
    )
    assert joined.status_code == 200, joined.text
    with http.stream("GET", "/gradio_api/queue/data", params=session) as events:
        for line in events.iter_lines():
            if "process_completed" in line:
                return line.encode().decode("unicode_escape") if "\\u" in line else line
    pytest.fail("the queue ended without an answer")


@pytest.mark.parametrize(
    ("language", "words"), [("zh-CN", "默认文档集"), ("en-GB", "Default collection")]
)
def test_the_queue_works_behind_a_route_that_starts_no_lifespan(
    http, language: str, words: str
) -> None:
    said = filled(http, language)
    assert '"success":true' in said.replace(" ", "")
    assert words in said


def test_the_page_asks_nothing_of_other_hosts_for_its_looks(http) -> None:
    theme = http.get("/theme.css").text
    assert "@font-face" not in theme
    assert "url(http" not in theme
    page = http.get("/").text
    assert "fonts.googleapis" not in page
    assert '"run_history":false' in page.replace(" ", "")


def test_originals_are_passed_on_when_the_page_runs_alone(http) -> None:
    original = http.get("/alone/documents/d%20%2B/content?version=3")
    assert original.text == "d + 3"
    assert original.headers["content-disposition"] == "attachment"
    assert not {"x-internal", "set-cookie"} & set(original.headers)
    gone = http.get("/alone/documents/gone/content")
    assert (gone.status_code, gone.text) == (404, "There is no such document.")


def test_pictures_of_pages_are_passed_on_when_the_page_runs_alone(http) -> None:
    shown = http.get("/alone/documents/d%20/pages/3?version=2&highlight=5-9&other=1")
    assert shown.headers["content-type"] == "image/png"
    assert shown.text == "{'id': 'd ', 'number': '3'} version=2&highlight=5-9"
    assert "x-internal" not in shown.headers
    gone = http.get("/alone/documents/d/pages/9")
    assert (gone.status_code, gone.text) == (404, "There is no page 9.")


def test_no_path_of_the_page_begins_like_one_of_the_api(http) -> None:
    paths = [path for path in http.get("/about").json()["paths"] if path != "/"]
    assert len(paths) > 20
    for path in paths:
        assert path.startswith(PATHS), path
        assert not [one for one in API if path == one or path.startswith(f"{one}/")], path


def test_events_stay_out_of_gradio_s_own_api(http) -> None:
    assert http.get("/about").json()["visible"] == ["private"]


def test_stopping_removes_the_folder_of_uploads(http) -> None:
    folder = Path(http.get("/about").json()["folder"])
    assert folder.is_dir()
    http.post("/stop")
    assert not folder.exists()
