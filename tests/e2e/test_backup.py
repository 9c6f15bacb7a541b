"""A backup of a server that runs, restored for another one that answers the same."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from rest import http

from app.running import running_server

DATA = Path(__file__).parents[1] / "data"


def zhinao(*words: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", **environment},
        timeout=180,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_backup_of_a_running_server_answers_from_another_folder(server, tmp_path: Path) -> None:
    name = f"backup-{uuid.uuid4().hex[:8]}"
    http.post(f"{server.url}/collections", json={"name": name}).raise_for_status()
    page = tmp_path / "page.html"  # its bytes outweigh the rows, which change between two backups
    page.write_text(f"<p>滤网每六个月更换一次。</p><!--{os.urandom(500_000).hex()}-->")
    zhinao("add", str(DATA / "warranty.zh.pdf"), str(page), "-c", name, ZHINAO_URL=server.url)
    vault, data = str(tmp_path / "vault"), str(tmp_path / "data")
    here = ["--data", str(server.data)]
    first = json.loads(zhinao("backup", vault, *here, "--json"))
    assert first["missing_files"] == []
    assert first["documents"] >= 1
    again = json.loads(zhinao("backup", vault, *here, "--keep", "1", "--json"))
    assert again["pruned"] == [first["id"]]
    assert again["new_bytes"] < first["new_bytes"] / 2
    [listed] = json.loads(zhinao("backup", vault, "--list", "--json"))
    assert listed["id"] == again["id"]
    assert "whole" in zhinao("backup", vault, "--verify")
    assert "restored" in zhinao("restore", vault, "--data", data)
    assert "--force" in zhinao("restore", vault, "--data", data, code=1)
    assert "another server uses" in zhinao("restore", vault, "--force", *here, code=1)

    request = {"query": "滤网更换", "collection": name}
    found = http.post(f"{server.url}/search", json=request, timeout=30).json()
    with running_server(
        Path(data), options=("--no-worker", "--role", "api", "--no-samples")
    ) as new:
        same = http.post(f"{new.url}/search", json=request, timeout=30).json()
    assert found["hits"]
    for hit in (*found["hits"], *same["hits"]):  # idf counts deleted rows until a merge
        assert hit.pop("score") > -9
        hit.pop("scores")
    assert same["hits"] == found["hits"]

    content = max((tmp_path / "vault" / "files").glob("*/*"), key=lambda path: path.stat().st_size)
    content.write_bytes(content.read_bytes()[:-1] + b"?")
    assert "has changed" in zhinao("restore", vault, "--data", str(tmp_path / "third"), code=1)
    assert "has changed since it was written" in zhinao("backup", vault, "--verify", code=1)
