"""A chat model behind the whole application: a server by URL, and a GGUF file by path."""

import json
import time
from pathlib import Path

import httpx
from rest import PLAIN, http
from scripted_openai import ScriptedOpenAI, chat, status
from tiny_gguf import write_tiny_gguf

from app.running import Server, running_server

DATA = Path(__file__).parents[1] / "data"
QUESTION = "滤网建议多久更换一次？"
OPTIONS = ("--no-samples", "--role", "api")


def upload(server: Server, name: str = "warranty.zh.pdf", data: bytes | None = None) -> str:
    files = {"files": (name, data or (DATA / name).read_bytes())}
    row = http.post(f"{server.url}/documents", files=files, timeout=60).json()["documents"][0]
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=PLAIN) as client:
        while client.get(f"/jobs/{row['job_id']}").json()["status"] != "done":
            time.sleep(0.1)
    return row["id"]


def ask(server: Server, **more: object) -> httpx.Response:
    return http.post(f"{server.url}/ask", json={"question": QUESTION, **more}, timeout=120)


def test_a_server_by_url_writes_what_is_verified_and_what_it_has_no_room_for_is_refused(
    tmp_path: Path, scripted_openai: ScriptedOpenAI
) -> None:
    pieces = ["滤网建议每六个月", "更换一次[1]。", "滤网由月球制造，编号 777[1]。"]
    environment = {
        "ZHINAO_CHAT__KIND": "remote",
        "ZHINAO_CHAT__URL": scripted_openai.url,
        "ZHINAO_CHAT__NAME": "scripted",
        "ZHINAO_CHAT__API_KEY": "secret-key",
        "ZHINAO_CHAT__CONTEXT_TOKENS": "8000",
    }
    scripted_openai.replies = [chat(pieces)]
    with running_server(tmp_path, options=OPTIONS, environment=environment) as server:
        document = upload(server)
        answer = ask(server).json()
        assert answer["model"] == "scripted"
        assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 7}
        assert [s["verdict"] for s in answer["sentences"]] == ["supported", "unsupported"]
        citation = answer["citations"][0]
        text = http.get(f"{server.url}/documents/{document}/text").text
        assert citation["quote"] == text[citation["start"] : citation["end"]]
        assert "每六个月" in citation["quote"]

        sent = scripted_openai.requests[-1].body["messages"]
        assert QUESTION in sent[-1]["content"]
        assert "[1]" in sent[-1]["content"]
        assert "每六个月更换一次" in sent[-1]["content"]

        body = {"question": QUESTION, "stream": True}
        events: list[tuple[str, dict]] = []
        with (
            httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=PLAIN) as client,
            client.stream("POST", "/ask", json=body) as response,
        ):
            for line in response.iter_lines():
                if line.startswith("event: "):
                    events.append((line.removeprefix("event: "), {}))
                elif line.startswith("data: "):
                    events[-1] = (events[-1][0], json.loads(line.removeprefix("data: ")))
        assert [data["text"] for name, data in events if name == "token"] == pieces
        assert events[-1][0] == "finished"
        assert events[-1][1]["sentences"] == answer["sentences"]

        whole = ask(server, mode="document", document_ids=[document]).json()
        assert whole["mode"] == "document"
        long = "\n\n".join(f"第 {n} 条：滤网每六个月更换一次，并登记在册。" for n in range(600))
        refused = ask(
            server, mode="document", document_ids=[upload(server, "long.txt", long.encode())]
        )
        assert refused.status_code == 422
        assert "choose fewer documents" in refused.json()["detail"]

        scripted_openai.replies = [status(500, "broken")]
        failed = ask(server)
        assert failed.status_code == 503
        assert failed.json()["type"] == "urn:zhinao:model-unavailable"
        assert "secret-key" not in failed.text


def test_a_gguf_file_writes_the_answer(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=4096)
    environment = {
        "ZHINAO_CHAT__KIND": "gguf",
        "ZHINAO_CHAT__PATH": str(model),
        "ZHINAO_CHAT__CONTEXT_TOKENS": "4096",
    }
    with running_server(tmp_path, options=OPTIONS, environment=environment) as server:
        upload(server)
        response = ask(server)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["model"] != "extractive"
        assert answer["usage"]["completion_tokens"] > 0
