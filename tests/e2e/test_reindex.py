"""A collection changes the sizes of its passages and changes them back, with the embedder that comes along."""

import json
from pathlib import Path

import pytest
from rest import http
from typer.testing import CliRunner

from app.cli import app
from app.running import Server, running_server

DATA = Path(__file__).parents[1] / "data"
FILES = ("handbook.en.md", "lease.en.txt", "recipe.zh.txt")
ASKED = "滤网多久更换一次"
SMALL = {
    "ZHINAO_CHUNKING__AIM": "60",
    "ZHINAO_CHUNKING__MOST": "120",
    "ZHINAO_CHUNKING__LEAST": "20",
}


def zhinao(server: Server, *words: str, code: int = 0) -> str:
    """A command in this process: another one would take seconds to start."""
    done = CliRunner().invoke(app, words, env={"NO_COLOR": "1", "ZHINAO_URL": server.url})
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def hits(server: Server, query: str) -> list[tuple[str, str]]:
    body = {"query": query, "top_k": 3}
    found = http.post(f"{server.url}/search", json=body, timeout=60)
    found.raise_for_status()
    return [(hit["filename"], hit["text"]) for hit in found.json()["hits"]]


def chunks(server: Server) -> int:
    found = http.get(f"{server.url}/collections", timeout=60).json()
    return found["collections"][0]["chunks"]


@pytest.mark.slow
def test_sizes_of_passages_change_there_and_back_over_http(tmp_path: Path) -> None:
    with running_server(tmp_path, options=("--no-samples",), wait_s=300) as server:
        zhinao(server, "add", *(str(DATA / name) for name in FILES))
        large = chunks(server)
        before = hits(server, "notice period of the lease")

    with running_server(
        tmp_path, options=("--no-samples",), environment=SMALL, wait_s=300
    ) as server:
        assert hits(server, "notice period of the lease") == before
        assert "no index to go back to" in zhinao(server, "reindex", "default", "--back", code=1)
        done = json.loads(zhinao(server, "reindex", "default", "--json"))
        assert (done["status"], done["kind"]) == ("done", "reindex")
        result = done["result"]
        assert result["switched"]
        assert result["chunking"].endswith(":20/60/120")
        assert result["chunks"] == chunks(server) > large
        assert result["compared"]["questions"] == large
        assert hits(server, "notice period of the lease")[0][0] == before[0][0]
        nothing = json.loads(zhinao(server, "reindex", "default", "--json"))["result"]
        assert (nothing["switched"], nothing["chunks"]) == (False, result["chunks"])
        # What is added in between is in both.
        zhinao(server, "add", str(DATA / "warranty.zh.pdf"))
        assert hits(server, ASKED)[0][0] == "warranty.zh.pdf"
        told = zhinao(server, "reindex", "default", "--back")
        assert "searched from now on" in told
        assert hits(server, "notice period of the lease")[0] == before[0]
        assert hits(server, ASKED)[0][0] == "warranty.zh.pdf"
        assert large < chunks(server) < result["chunks"]
        # The collection's own questions, asked by a worker of their own.
        file = tmp_path / "questions.json"
        file.write_text(json.dumps([{"question": ASKED, "filenames": ["warranty.zh.pdf"]}]))
        [stored] = json.loads(zhinao(server, "questions", "--set", str(file), "--json"))
        assert stored["filenames"] == ["warranty.zh.pdf"]
        assert "recall@10" in zhinao(server, "evaluate")
        found = http.get(f"{server.url}/jobs?kind=evaluate", timeout=60).json()
        assert found["jobs"][0]["result"]["modes"]["hybrid"] == {"recall": 1.0, "mrr": 1.0}
        missing = {"collection": "nothing-of-this-name"}
        refused = http.post(f"{server.url}/jobs/reindex", json=missing)
        assert refused.status_code == 404
