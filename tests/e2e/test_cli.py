"""The command line against a real server, readable and as JSON."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from packed import zipped
from rest import http

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def zhinao(server):
    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ZHINAO_URL": server.url, "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "app", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=180,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def collection(server) -> str:

    name = f"cli-{uuid.uuid4().hex[:8]}"
    http.post(f"{server.url}/collections", json={"name": name}).raise_for_status()
    return name


def test_files_are_added_searched_and_asked(zhinao, collection: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "warranty.pdf").write_bytes((DATA / "warranty.zh.pdf").read_bytes())
    (folder / "empty.txt").write_bytes(b"")
    added = zhinao("add", str(folder), "-c", collection, "--json", code=1)
    rows = {row["filename"]: row for row in json.loads(added.stdout)}
    assert set(rows) == {"sub/warranty.pdf", "empty.txt"}
    assert rows["empty.txt"]["error"]
    assert rows["sub/warranty.pdf"]["error"] is None

    again = zhinao("add", str(folder / "sub"), "-c", collection)
    assert "known already" in again.stdout

    hits = json.loads(zhinao("search", "滤网更换", "-c", collection, "--json").stdout)["hits"]
    assert hits[0]["filename"] == "sub/warranty.pdf"
    assert "sub/warranty.pdf · p. 1" in zhinao("search", "滤网更换", "-c", collection).stdout

    answer = json.loads(zhinao("ask", "滤网建议多久更换一次？", "-c", collection, "--json").stdout)
    assert answer["citations"][0]["filename"] == "sub/warranty.pdf"
    shown = zhinao("ask", "滤网建议多久更换一次？", "-c", collection).stdout
    assert "每六个月更换一次" in shown
    assert "[1] sub/warranty.pdf · p. 1" in shown
    assert "extractive" in shown


def test_jobs_are_listed_and_shown(zhinao, collection: str) -> None:
    listed = json.loads(zhinao("jobs", "--json").stdout)
    assert listed
    [shown] = json.loads(zhinao("jobs", listed[0]["id"], "--json").stdout)
    assert shown == listed[0]
    assert listed[0]["status"] in zhinao("jobs").stdout


def test_doctor_finds_all_parts_well(zhinao) -> None:
    checks = json.loads(zhinao("doctor", "--json").stdout)
    assert {check["part"] for check in checks} >= {
        "python",
        "packages",
        "redis",
        "data folder",
        "server",
    }
    assert all(check["ok"] for check in checks)


def test_mistakes_are_one_sentence_and_exit_code_one(zhinao, tmp_path: Path) -> None:
    for words in (
        ("ask", "Who?", "-c", "missing"),
        ("search", ""),
        ("search", "a", "--mode", "magic"),
        ("add", str(tmp_path / "missing.pdf")),
        ("jobs", "missing"),
    ):
        done = zhinao(*words, code=1)
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.strip().splitlines()) == 1
        assert "Traceback" not in done.stderr + done.stdout


def test_a_server_that_is_not_there_is_said(server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "search", "a", "--url", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "http://127.0.0.1:9" in done.stderr
    assert "running" in done.stderr


def test_archives_and_urls_are_added_with_what_became_of_them(
    zhinao, collection: str, tmp_path: Path
) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(
        zipped({"a.txt": b"The numbat eats termites.", "b.gif": b"GIF89a" + bytes(9)})
    )
    shown = zhinao("add", str(archive), "http://10.0.0.1/x.pdf", "-c", collection, code=1).stdout
    assert "a.zip: 1 of 2 files inside are read" in " ".join(shown.split())
    assert "http://10.0.0.1/x.pdf" in shown
    assert "private address" in " ".join(shown.split())
    again = json.loads(zhinao("add", str(archive), "-c", collection, "--json").stdout)
    assert again[0]["members"] == {"total": 2, "read": 1}
