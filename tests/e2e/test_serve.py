"""The process group: it starts or says why not, survives what dies in it, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.running import free_port, running_server


def children_of(pid: int) -> dict[int, str]:
    """Every process below one, with its command line."""
    found: dict[int, str] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue
        if parent == pid:
            child = int(status.parent.name)
            found[child] = command
            found.update(children_of(child))
    return found


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "serve", *options],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_all_children(tmp_path: Path, kind: signal.Signals) -> None:
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as server:
        children = children_of(server.process.pid)
        assert any("redis" in command for command in children.values())
        assert any("celery" in command for command in children.values())
        server.process.send_signal(kind)
        assert server.process.wait(30) in (0, -kind)
        until(lambda: not any(map(alive, children)))


def test_children_do_not_outlive_a_killed_server(tmp_path: Path) -> None:
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as server:
        children = children_of(server.process.pid)
        assert children
        server.process.kill()
        until(lambda: not any(map(alive, children)))


def test_a_file_is_read_although_its_worker_and_redis_are_killed(tmp_path: Path) -> None:
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as server:
        text = "\n\n".join(
            f"Paragraph {n}: the walrus number {n} sleeps on the ice." * 6 for n in range(60)
        )
        files = {"files": ("walrus.txt", text.encode())}
        row = httpx.post(f"{server.url}/documents", files=files, timeout=60).json()["documents"][0]

        def job() -> dict:
            return httpx.get(f"{server.url}/jobs/{row['job_id']}", timeout=60).json()

        until(lambda: job()["stage"] == "embed", 60)
        for pid, command in children_of(server.process.pid).items():
            if "celery" in command or "redis" in command:
                os.kill(pid, signal.SIGKILL)
        until(lambda: job()["status"] in ("done", "failed", "dead"), 120)
        ended = job()
        assert (ended["status"], ended["attempts"]) == ("done", 2)
        body = {"query": "walrus number 42", "top_k": 100, "mode": "words"}
        hits = httpx.post(f"{server.url}/search", json=body, timeout=60).json()["hits"]
        assert len({hit["chunk_id"] for hit in hits}) == len(hits) == ended["total"]


def test_a_data_folder_answers_again_after_a_restart(tmp_path: Path) -> None:
    text = b"The lighthouse of Hook Head was lit in the year 1207. It stands in Ireland."
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as server:
        row = httpx.post(f"{server.url}/documents", files={"files": ("a.txt", text)}).json()[
            "documents"
        ][0]
        until(
            lambda: httpx.get(f"{server.url}/jobs/{row['job_id']}").json()["status"] == "done", 60
        )
        server.process.kill()
    with running_server(tmp_path, options=("--no-samples", "--role", "api")) as server:
        body = {"question": "When was the lighthouse of Hook Head lit?"}
        answer = httpx.post(f"{server.url}/ask", json=body, timeout=60).json()
        assert "1207" in answer["answer"]


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve("--port", str(port), "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_two_servers_never_share_a_data_folder(tmp_path: Path) -> None:
    with running_server(tmp_path, options=("--no-samples", "--role", "api")):
        done = serve("--port", str(free_port()), "--data", str(tmp_path))
    assert done.returncode == 1
    assert "another server uses the data folder" in done.stderr


def test_a_data_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = serve("--port", str(free_port()), "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_a_setting_with_a_typing_mistake_is_refused(tmp_path: Path) -> None:
    done = serve("--data", str(tmp_path), ZHINAO_PROT="8000")
    assert done.returncode == 1
    assert "ZHINAO_PROT is no setting" in done.stderr
    wrong = serve("--data", str(tmp_path), ZHINAO_PORT="eighty")
    assert wrong.returncode == 1
    assert "ZHINAO_PORT" in wrong.stderr


def test_a_missing_chat_model_is_an_error_not_another_model(tmp_path: Path) -> None:
    done = serve(
        *("--port", str(free_port()), "--data", str(tmp_path)),
        ZHINAO_CHAT__KIND="gguf",
        ZHINAO_CHAT__PATH=str(tmp_path / "missing.gguf"),
    )
    assert done.returncode == 1
    assert "missing.gguf" in done.stderr
