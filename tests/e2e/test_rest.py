"""The main job over HTTP: upload, wait, search, ask, cite, delete; and everything that may be wrong."""

import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from rest import Api

DATA = Path(__file__).parents[1] / "data"
WARRANTY = (DATA / "warranty.zh.pdf", DATA / "warranty.en.pdf")


@pytest.fixture(scope="module")
def api(server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def warranty(api: Api) -> str:
    """A collection with one page in Chinese and one in English."""
    name = api.collection()
    rows = api.upload(name, *((path.name, path.read_bytes()) for path in WARRANTY))
    assert [row["job"]["status"] for row in rows] == ["done", "done"]
    return name


def problem(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"].startswith("urn:zhinao:")
    assert body["status"] == status
    assert len(body["detail"]) > 15
    return body


def unsupported(data: dict) -> dict:
    return {key: value for key, value in data.items() if key not in ("id", "timings_ms")}


def test_an_answer_quotes_the_stored_text_exactly(api: Api, warranty: str) -> None:
    for question, words in (
        ("滤网建议多久更换一次？", "每六个月更换一次"),
        ("How often should the kettle be descaled in hard water?", "every eight weeks"),
    ):
        answer = api.ask(question, warranty)
        assert not answer["refused"]
        assert words in answer["answer"].replace("\n", " ")
        assert answer["model"] == "extractive"
        assert answer["citations"]
        for citation in answer["citations"]:
            text = api.text(citation["document_id"], citation["version"])
            assert citation["quote"] == text[citation["start"] : citation["end"]]
            assert citation["page"] == 1
            assert citation["boxes"]
        markers = {citation["marker"] for citation in answer["citations"]}
        assert all(set(s["markers"]) <= markers and s["markers"] for s in answer["sentences"])


def test_a_question_that_nothing_answers_is_declined(api: Api, warranty: str) -> None:
    answer = api.ask("长江全长多少公里？", warranty)
    assert (answer["refused"], answer["citations"], answer["sentences"]) == (True, [], [])


def test_a_stream_ends_with_the_same_answer(api: Api, warranty: str) -> None:
    question = "滤网建议多久更换一次？"
    events: list[tuple[str, dict]] = []
    body = {"question": question, "collection": warranty, "stream": True}
    with api.http.stream("POST", "/ask", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    names = [name for name, _ in events]
    assert names[0] == "retrieved"
    assert "token" in names
    assert names[-1] == "finished"
    assert unsupported(events[-1][1]) == unsupported(api.ask(question, warranty))


def test_hits_carry_the_score_of_every_leg_and_reproduce_the_text(api: Api, warranty: str) -> None:
    hits = api.search("空气净化器保修", warranty, explain=True)
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
    assert set(hits[0]["scores"]) == {"dense", "words", "phrase", "fused", "rerank"}
    assert hits[0]["filename"] == "warranty.zh.pdf"
    assert hits == sorted(hits, key=lambda hit: -hit["score"])
    for hit in hits:
        assert (
            hit["text"] == api.text(hit["document_id"], hit["version"])[hit["start"] : hit["end"]]
        )


def test_modes_and_rerank_switch_legs_off(api: Api, warranty: str) -> None:
    def legs(**options: object) -> set[str]:
        return set(api.search("滤网更换", warranty, **options)[0]["scores"])

    assert legs(mode="words") == {"words", "phrase", "fused"}
    assert legs(mode="dense", rerank=False) == {"dense", "fused"}
    assert legs(mode="hybrid", rerank=False) == {"dense", "words", "phrase", "fused"}
    assert api.search("zyxwvut", warranty, mode="words") == []


def test_a_question_finds_a_passage_in_the_other_language(api: Api, warranty: str) -> None:
    hits = api.search("电热水壶的保修期有多长？", warranty)
    assert hits[0]["filename"] == "warranty.en.pdf"


def test_chosen_documents_bound_a_search_and_an_answer(api: Api, warranty: str) -> None:
    [english] = [
        d["id"]
        for d in api.http.get("/documents", params={"collection": warranty}).json()["documents"]
        if d["filename"] == "warranty.en.pdf"
    ]
    hits = api.search("滤网更换", warranty, document_ids=[english])
    assert {hit["document_id"] for hit in hits} == {english}
    answer = api.ask(
        "How long is the kettle guaranteed?", warranty, mode="document", document_ids=[english]
    )
    assert answer["mode"] == "document"
    assert "thirty months" in answer["answer"].replace("\n", " ")


def test_the_same_bytes_are_recognised_and_a_new_version_replaces_the_old_one(api: Api) -> None:
    name = api.collection()
    old = b"The office opens at seven in the morning. Visitors use the north gate."
    new = b"The office opens at nine in the morning. Visitors use the north gate."
    [first] = api.upload(name, ("hours.txt", old))
    [again] = api.upload(name, ("copy.txt", old))
    assert (again["id"], again["duplicate"], again["job_id"]) == (first["id"], True, None)
    assert "seven" in api.ask("When does the office open?", name)["answer"]
    [second] = api.upload(name, ("hours.txt", new))
    assert second["id"] == first["id"]
    answer = api.ask("When does the office open?", name)
    assert "nine" in answer["answer"]
    assert "seven" not in answer["answer"]
    assert answer["citations"][0]["version"] == 2
    assert "seven" in api.text(first["id"], 1)
    document = api.http.get(f"/documents/{first['id']}").json()
    assert (document["version"], document["versions"], document["status"]) == (2, [1, 2], "ready")
    assert api.http.get(f"/documents/{first['id']}/content", params={"version": 1}).content == old


def test_a_page_is_drawn_with_the_quoted_lines_marked(api: Api, warranty: str) -> None:
    answer = api.ask("How often should the kettle be descaled in hard water?", warranty)
    citation = answer["citations"][0]
    path = f"/documents/{citation['document_id']}/pages/{citation['page']}"
    span = f"{citation['start']}-{citation['end']}"
    plain = picture(api.http.get(path))
    shown = picture(api.http.get(path, params={"highlight": span, "version": citation["version"]}))
    changed = np.argwhere((plain != shown).any(axis=2))
    assert max(plain.shape) <= 2000
    assert citation["boxes"]
    height, width, _ = plain.shape
    top, left = changed.min(axis=0) / (height, width)
    bottom, right = changed.max(axis=0) / (height, width)
    for side, name, choose in (
        (top, "y0", min),
        (left, "x0", min),
        (bottom, "y1", max),
        (right, "x1", max),
    ):
        assert side == pytest.approx(choose(b[name] for b in citation["boxes"]), abs=0.005)


def picture(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"), dtype=np.int16)


def test_a_page_that_cannot_be_drawn_says_why(api: Api, warranty: str) -> None:
    [paged, _] = api.http.get("/documents", params={"collection": warranty}).json()["documents"]
    [row] = api.upload(api.collection(), ("a.txt", b"The depot opens at nine."))
    page = f"/documents/{paged['id']}/pages"
    assert "has 1 page," in problem(api.http.get(f"{page}/2"), 404)["detail"]
    problem(api.http.get(f"{page}/0"), 404)
    problem(api.http.get(f"{page}/one"), 422)
    problem(api.http.get(f"{page}/1", params={"version": 9}), 404)
    problem(api.http.get("/documents/nowhere/pages/1"), 404)
    for span in ("", "5", "9-5", "-", "0-99999999", "a-b"):
        problem(api.http.get(f"{page}/1", params={"highlight": span}), 422)
    refused = problem(api.http.get(f"/documents/{row['id']}/pages/1"), 422)
    assert f"/documents/{row['id']}/text" in refused["detail"]
    assert "has no pages" in refused["detail"]


def test_a_deleted_document_is_out_of_the_next_answer(api: Api) -> None:
    name = api.collection()
    text = b"The vault code is changed every 45 days. Two keys are needed to open the vault."
    [row] = api.upload(name, ("vault.txt", text))
    question = "How often is the vault code changed?"
    assert "45 days" in api.ask(question, name)["answer"]
    receipt = api.http.delete(f"/documents/{row['id']}").json()
    assert receipt["deleted"]["chunks"] >= 1
    assert api.ask(question, name)["refused"]
    assert api.search("vault code", name) == []
    for path in ("", "/text", "/content"):
        problem(api.http.get(f"/documents/{row['id']}{path}"), 404)
    problem(api.http.delete(f"/documents/{row['id']}"), 404)


def test_files_that_cannot_be_read_say_why_and_the_others_go_on(api: Api) -> None:
    name = api.collection()
    good = b"The harbour master signs every permit for the pier."
    pdf = WARRANTY[0].read_bytes()
    response = api.send(
        name,
        ("empty.txt", b""),
        ("good.txt", good),
        ("program.exe", b"MZ\x90\x00" + bytes(200)),
        ("cut.pdf", pdf[: len(pdf) // 3]),
        ("blank.txt", b" \n\n \n"),
    )
    assert response.status_code == 202
    ends = {}
    for row in response.json()["documents"]:
        job = api.ended(row["job_id"]) if row["job_id"] else None
        ends[row["filename"]] = row["error"] or (
            job["error"] if job["status"] == "failed" else None
        )
    assert ends.pop("good.txt") is None
    assert all(error and len(error) > 20 for error in ends.values()), ends
    assert "harbour master" in api.search("harbour master permit", name)[0]["text"]
    listed = api.http.get("/documents", params={"collection": name, "status": "ready"}).json()[
        "documents"
    ]
    assert [document["filename"] for document in listed] == ["good.txt"]


def test_an_upload_of_nothing_readable_is_a_problem_with_a_row_for_each(
    api: Api, warranty: str
) -> None:
    response = api.send(warranty, ("empty.txt", b""), ("a.exe", b"MZ\x90\x00" + bytes(100)))
    body = problem(response, 422)
    assert [row["status"] for row in body["documents"]] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/search", {"query": ""}, 422),
        ("/search", {"query": "   "}, 422),
        ("/search", {"query": "a", "top_k": 0}, 422),
        ("/search", {"query": "a", "top_k": 101}, 422),
        ("/search", {"query": "a", "mode": "magic"}, 422),
        ("/search", {"query": "a", "topk": 3}, 422),
        ("/search", {"query": "a", "collection": "missing"}, 404),
        ("/search", {"query": "a", "document_ids": ["missing"]}, 404),
        ("/search", {"query": "a", "document_ids": ["x"] * 1001}, 422),
        ("/search", {"query": "a", "document_ids": ["x" * 101]}, 422),
        ("/ask", {"question": "a", "document_ids": ["x"] * 1001}, 422),
        ("/ask", {"question": ""}, 422),
        ("/ask", {"question": " \n"}, 422),
        ("/ask", {"question": "a", "collection": "missing"}, 404),
        ("/ask", {"question": "a", "mode": "document"}, 422),
        ("/ask", {"question": "a", "collection": "missing", "stream": True}, 404),
        ("/collections", {"name": ""}, 422),
        ("/collections", {"name": "default"}, 409),
    ],
)
def test_bad_requests_are_problems(api: Api, path: str, body: dict, status: int) -> None:
    problem(api.http.post(path, json=body), status)


def test_what_is_no_json_and_what_is_not_there_are_problems(api: Api) -> None:
    broken = {"content": b"{not json", "headers": {"content-type": "application/json"}}
    problem(api.http.post("/search", **broken), 400)
    for path in (
        "/documents/missing",
        "/jobs/missing",
        "/search/missing",
        "/health/missing",
    ):
        problem(api.http.get(path), 404)
    # Under /v1 clients of OpenAI's kind read errors of that shape.
    missing = api.http.get("/v1/missing")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"]
    problem(api.http.get("/search"), 405)
    problem(api.http.get("/jobs", params={"cursor": "broken"}), 422)
    problem(api.http.post("/documents", data={"collection": "default"}), 422)


def test_pages_of_documents_and_jobs_hold_each_once(api: Api) -> None:
    name = api.collection()
    files = [(f"note{n}.txt", f"Note number {n} speaks of subject {n}.".encode()) for n in range(5)]
    api.upload(name, *files)
    for kind in ("documents", "jobs"):
        seen, cursor = [], None
        while True:
            params = {"collection": name, "limit": 2, **({"cursor": cursor} if cursor else {})}
            body = api.http.get(f"/{kind}", params=params).json()
            seen += [row["filename"] for row in body[kind]]
            cursor = body["next_cursor"]
            if cursor is None:
                break
        assert sorted(seen) == sorted(file for file, _ in files)


def test_numbers_and_texts_beyond_their_bounds_are_problems(api: Api, warranty: str) -> None:
    listed = api.http.get("/documents", params={"collection": warranty}).json()["documents"]
    document = listed[0]["id"]
    for version in ("0", "-1", str(2**31), "1" + "0" * 20, "one"):
        for path in ("text", "content"):
            problem(api.http.get(f"/documents/{document}/{path}", params={"version": version}), 422)
    problem(api.http.get(f"/documents/{document}/text", params={"version": 2**31 - 1}), 404)
    for path in ("/documents", "/jobs", "/collections"):
        for params in ({"limit": 0}, {"limit": 501}, {"limit": 10**20}, {"cursor": "c" * 1001}):
            problem(api.http.get(path, params=params), 422)
    problem(api.http.get("/documents", params={"collection": "c" * 101}), 422)
    problem(api.http.get("/documents", params={"q": "q" * 501}), 422)


def test_a_name_that_is_too_long_is_refused_in_its_row(api: Api, warranty: str) -> None:
    body = problem(api.send(warranty, ("n" * 501 + ".txt", b"Too long a name.")), 422)
    [row] = body["documents"]
    assert "500" in row["error"]


def test_pages_of_collections_hold_each_once_by_name(api: Api) -> None:
    made = {api.collection() for _ in range(3)}
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = api.http.get("/collections", params=params).json()
        assert len(page["collections"]) <= 2
        seen += [row["name"] for row in page["collections"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(set(seen))
    assert made <= set(seen)
    problem(api.http.get("/collections", params={"cursor": "broken"}), 422)


def test_a_collection_with_slashes_in_its_name_can_be_deleted(api: Api) -> None:
    name = f"公司/人事/{uuid.uuid4().hex[:8]}"
    assert api.http.post("/collections", json={"name": name}).status_code == 201
    for path in (name, name.replace("/", "%2F")):
        deleted = api.http.delete(f"/collections/{path}")
        if path == name:
            assert deleted.status_code == 204
        else:
            problem(deleted, 404)


def test_another_sites_pages_are_refused(api: Api, warranty: str) -> None:
    rebound = api.http.get("/documents", headers={"Host": "evil.example:8000"})
    problem(rebound, 421)
    foreign = {"Origin": "https://evil.example"}
    files = [("files", ("a.txt", b"The walrus sleeps on the ice."))]
    before = api.http.get("/documents", params={"collection": warranty}).json()["documents"]
    sent = api.http.post("/documents", data={"collection": warranty}, files=files, headers=foreign)
    problem(sent, 403)
    problem(api.http.delete(f"/documents/{before[0]['id']}", headers=foreign), 403)
    after = api.http.get("/documents", params={"collection": warranty}).json()["documents"]
    assert after == before
    own = {"Origin": str(api.http.base_url).rstrip("/")}
    body = {"query": "滤网", "collection": warranty}
    assert api.http.post("/search", json=body, headers=own).status_code == 200


def test_uploads_at_the_same_time_are_all_found(api: Api) -> None:
    name = api.collection()
    subjects = ["walrus", "teapot", "glacier", "violin", "cactus", "lantern", "meteor", "saddle"]

    def one(subject: str) -> str:
        text = f"The {subject} stands in room {len(subject)} of the museum.".encode()
        [row] = api.upload(name, (f"{subject}.txt", text))
        return row["job"]["status"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, subjects)) == {"done"}
    for subject in subjects:
        assert api.search(subject, name)[0]["filename"] == f"{subject}.txt"


def test_a_deleted_collection_is_gone_with_all_it_held(api: Api) -> None:
    name = api.collection()
    [row] = api.upload(name, ("a.txt", b"The lighthouse keeper counts the ships."))
    assert api.http.delete(f"/collections/{name}").status_code == 204
    problem(api.http.post("/search", json={"query": "ships", "collection": name}), 404)
    problem(api.http.get(f"/documents/{row['id']}"), 404)
    problem(api.http.delete(f"/collections/{name}"), 404)
    again = api.http.post("/collections", json={"name": name})
    assert again.status_code == 201
    assert api.search("ships", name) == []


def test_names_from_outside_never_climb_out_of_the_collection(api: Api, server) -> None:
    name = api.collection()
    [row] = api.upload(name, ("../../../outside.txt", b"A name that climbs is only a name."))
    assert row["filename"] == "outside.txt"
    assert not list(server.data.parent.rglob("outside.txt"))


def test_health_says_what_is_there(api: Api) -> None:
    assert api.http.get("/health/live").json() == {"live": True}
    ready = api.http.get("/health/ready").json()
    assert ready["ready"]
    # The workers of other queues are there once there was something for them.
    always = {part: says for part, says in ready["parts"].items() if not part.startswith("worker ")}
    assert always == dict.fromkeys(
        ("database", "queue", "embedder", "disk", "redis", "worker"), "ok"
    )
    assert ready["parts"].keys() - always.keys() <= {"worker index", "worker train"}
    assert ready["models"]["answers"] == "extractive"


def test_small_collections_answer_three_questions_and_decline_two(api: Api) -> None:
    """One page alone in Chinese, one in English, and one of each together."""
    rows = [json.loads(line) for line in (DATA / "questions.jsonl").read_text("utf-8").splitlines()]
    for group in (("warranty.zh.pdf",), ("warranty.en.pdf",), ("recipe.zh.txt", "lease.en.txt")):
        name = api.collection()
        api.upload(name, *((file, (DATA / file).read_bytes()) for file in group))
        for row in (row for row in rows if row["file"] in group):
            answer = api.ask(row["question"], name)
            said = "".join(answer["answer"].split())
            if row["answerable"]:
                assert "".join(row["answer"].split()) in said, row
                assert {c["filename"] for c in answer["citations"]} == {row["file"]}
            else:
                assert answer["refused"], (row, answer["answer"])
