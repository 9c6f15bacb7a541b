"""The process group: it starts or says why not, survives what dies in it, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import children_of, until
from rest import http

from app.children import Children, Program
from app.queue import CeleryQueue
from app.redis import SOCKET, redis_command, redis_url
from app.running import Server, free_port, running_server
from app.serve import worker_program
from app.settings import Settings
from app.wiring import build_ingester
from indexer.catalog.catalog import Upload
from indexer.jobs.jobs import Jobs
from indexer.sql.database import Database
from pipeline.types import JobStatus


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


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for a server's temporary files; its path is short, for a socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="zt-") as folder:
        yield Path(folder)


@pytest.fixture
def hangup() -> Iterator[None]:
    """Under nohup the signal is ignored, and a server would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def busy(server: Server) -> dict[int, str]:
    """Every process of a server, a job of minutes in one of them."""
    text = "\n\n".join(f"Paragraph {n}: the walrus {n} sleeps on the ice." * 6 for n in range(3000))
    row = http.post(f"{server.url}/documents", files={"files": ("a.txt", text)}, timeout=60)
    job = row.json()["documents"][0]["job_id"]
    until(lambda: http.get(f"{server.url}/jobs/{job}", timeout=60).json()["stage"] == "embed", 60)
    children = children_of(server.process.pid)
    assert sum("celery" in command for command in children.values()) >= 2
    return children


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("kind", "page"),
    [(signal.SIGINT, "none"), (signal.SIGHUP, "shown")],
)
def test_one_signal_ends_all_children_and_leaves_nothing(
    tmp_path: Path, temporary: Path, kind: signal.Signals, page: str
) -> None:
    options = ("--no-samples", *(("--role", "api") if page == "none" else ()))
    environment = {"TMPDIR": str(temporary)}
    with running_server(tmp_path, options=options, environment=environment) as server:
        if page == "shown":
            until(lambda: http.get(server.url, timeout=60).status_code == 200, 90)
        children = children_of(server.process.pid)
        assert any("redis" in command for command in children.values())
        assert any("celery" in command for command in children.values())
        assert list(temporary.iterdir())
        server.process.send_signal(kind)
        assert server.process.wait(30) == 0
        assert not any(map(alive, children))
    assert list(temporary.iterdir()) == []


def test_only_the_servers_own_lines_are_printed(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "app", "serve", "--role", "api", "--no-samples"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # The worker's processes are there when it has said all that it says at its start.
        until(lambda: sum("celery" in c for c in children_of(process.pid).values()) >= 2, 90)
        until(lambda: reachable(port), 90)
    finally:
        process.terminate()
    said, _ = process.communicate(timeout=30)
    assert said.splitlines() == [
        "preparing the embedding model …",
        "loading models …",
        f"Zhinao RAG is ready at http://127.0.0.1:{port}  (Ctrl-C stops it)",
    ]


def reachable(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_job_in_hand_is_handed_back_when_the_server_ends(tmp_path: Path, temporary: Path) -> None:
    environment = {"TMPDIR": str(temporary)}
    options = ("--no-samples",)  # with the page, which is imported meanwhile
    with running_server(tmp_path, options=options, environment=environment) as server:
        children = busy(server)
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert not any(map(alive, children))
    assert list(temporary.iterdir()) == []
    database = Database(f"sqlite:///{tmp_path / 'zhinao.db'}")
    [job] = Jobs(database).page()[0]
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    database.close()


def test_a_second_signal_ends_all_at_once(tmp_path: Path, temporary: Path) -> None:
    environment = {"TMPDIR": str(temporary)}
    options = ("--no-samples", "--role", "api")
    with running_server(tmp_path, options=options, environment=environment) as server:
        children = busy(server)
        server.process.terminate()
        # The API is gone, the worker is being waited for.
        until(lambda: not reachable(int(server.url.rsplit(":", 1)[1])))
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 128 + signal.SIGINT
        until(lambda: not any(map(alive, children)))
    assert list(temporary.iterdir()) == []


def test_children_do_not_outlive_a_killed_server_and_its_folder_answers_again(
    tmp_path: Path, temporary: Path
) -> None:
    environment = {"TMPDIR": str(temporary)}
    options = ("--no-samples", "--role", "api")
    text = b"The lighthouse of Hook Head was lit in the year 1207. It stands in Ireland."
    with running_server(tmp_path, options=options, environment=environment) as server:
        files = {"files": ("hook.txt", text)}
        row = http.post(f"{server.url}/documents", files=files).json()["documents"][0]
        url = f"{server.url}/jobs/{row['job_id']}"
        until(lambda: http.get(url).json()["status"] == "done", 120)
        children = busy(server)
        server.process.kill()
        until(lambda: not any(map(alive, children)))
    assert list(temporary.iterdir())  # swept by the next server's start
    for left in temporary.iterdir():
        os.utime(left, (0, 0))
    with running_server(tmp_path, options=options, environment=environment) as server:
        assert len(list(temporary.iterdir())) == 1
        body = {"question": "When was the lighthouse of Hook Head lit?"}
        answer = http.post(f"{server.url}/ask", json=body).json()
        assert "1207" in answer["answer"]


def test_a_job_that_never_ends_is_ended_by_the_clock(tmp_path: Path, temporary: Path) -> None:
    settings = Settings(data=tmp_path, worker_processes=1)
    core, ingester = build_ingester(settings)
    core.catalog.ensure_collection("default")
    original = core.folders.original(core.catalog.collection_id("default"), "sha256")
    original.parent.mkdir(parents=True)
    os.mkfifo(original)  # whoever reads it waits for ever
    job = core.catalog.take("default", Upload("a.txt", "sha256", 1, "text/plain")).job
    assert job is not None
    children = Children()
    others = children_of(os.getpid())  # the server that other tests share
    try:
        children.start(Program("redis", redis_command(temporary), silent=True))
        until((temporary / SOCKET).exists)
        broker = redis_url(temporary)
        children.start(worker_program(settings, broker, scratch=temporary, job_limit_s=10))
        queue = CeleryQueue(broker)
        queue.submit(job)
        queue.close()
        until(lambda: core.jobs.get(job).status is JobStatus.RUNNING, 60)
        [worker] = [
            pid
            for pid, command in children_of(os.getpid()).items()
            if pid not in others and "celery" in command and os.getpgid(pid) == pid
        ]
        # It reads the file; what parses files in a process below it has not been asked yet.
        [busy_one] = [pid for pid, words in children_of(worker).items() if "celery" in words]
        until(lambda: not alive(busy_one), 60)
        later = Jobs(core.database, clock=lambda: time.time() + 60)
        assert later.reap() == 1
    finally:
        children.stop()
        ingester._parser.close()
        core.database.close()


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory, e5_folder: Path) -> Iterator[Server]:
    """A server without a worker that takes files of one MiB."""
    folder = tmp_path_factory.mktemp("bounded")
    (folder / "models").symlink_to(e5_folder.parent)
    options = ("--no-samples", "--role", "api", "--no-worker")
    environment = {"ZHINAO_MAX_UPLOAD_MB": "1"}
    with running_server(folder, options=options, environment=environment) as server:
        yield server


def test_a_body_without_a_length_is_bounded_while_it_arrives(bounded: Server) -> None:
    def form(mib: int) -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        yield from (b"The walrus sleeps on the ice.  \n" * 2**11 for _ in range(mib * 16))
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    url = f"{bounded.url}/documents"
    small = http.post(url, content=form(1), headers=headers, timeout=60)
    assert small.status_code == 202
    large = http.post(url, content=form(4), headers=headers, timeout=60)
    assert large.status_code == 413
    assert large.headers["content-type"] == "application/problem+json"
    assert "1 MiB" in large.json()["detail"]
    declared = http.post(url, files={"files": ("a.txt", bytes(2**22))}, timeout=60)
    assert declared.status_code == 413
    parts = http.get(f"{bounded.url}/health/ready", timeout=60).json()["parts"]
    assert parts["worker"] == "none here"


def test_two_servers_never_share_a_data_folder(bounded: Server) -> None:
    done = serve("--port", str(free_port()), "--data", str(bounded.data))
    assert done.returncode == 1
    assert "another server uses the data folder" in done.stderr


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
