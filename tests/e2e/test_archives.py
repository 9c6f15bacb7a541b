"""Archives, mails and URLs over HTTP, with real workers."""

import threading
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packed import zipped
from rest import Api

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def api(server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


def listed(api: Api, collection: str) -> dict[str, dict]:
    reply = api.http.get("/documents", params={"collection": collection, "limit": 500}).json()
    return {row["filename"]: row for row in reply["documents"]}


def mail() -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = "报价单", "a@b.org"
    message.set_content("各位好：请看附件里的报价。")
    price = "滤网单价九十元，运费另计。".encode()
    message.add_attachment(price, maintype="text", subtype="plain", filename="报价.txt")
    return message.as_bytes()


def test_an_archive_is_taken_apart_answered_from_replaced_and_deleted(api: Api) -> None:
    collection = api.collection()
    inner = zipped({"规定/出差.txt": "出差住宿标准为每晚四百元。".encode()}, codec="gbk")
    files = {
        "保修/说明.pdf": (DATA / "warranty.zh.pdf").read_bytes(),
        "坏文件.pdf": (DATA / "warranty.en.pdf").read_bytes()[:2000],
        "邮件.eml": mail(),
        "制度.zip": inner,
    }
    [row] = api.upload(collection, ("资料.zip", zipped(files, codec="gbk")))
    assert (row["job"]["status"], row["job"]["parent"]) == ("done", None)
    shown = listed(api, collection)
    assert set(shown) == {
        "资料.zip",
        *(f"资料.zip/{path}" for path in files),
        "资料.zip/邮件.eml/报价.txt",
        "资料.zip/制度.zip/规定/出差.txt",
    }
    assert shown["资料.zip"]["members"] == {"total": 4, "read": 3}
    assert shown["资料.zip/保修/说明.pdf"]["parent"] == row["id"]
    broken = shown["资料.zip/坏文件.pdf"]
    assert broken["status"] == "failed"
    text = api.text(row["id"], 1)
    assert f"坏文件.pdf – not read: {broken['error']}" in text
    job = api.http.get(f"/jobs/{broken['job_id']}").json()
    assert job["parent"] == row["job_id"]

    answer = api.ask("滤网建议多久更换一次？", collection)
    assert answer["citations"][0]["filename"] == "资料.zip/保修/说明.pdf"
    hits = api.search("出差住宿标准", collection)
    assert hits[0]["filename"] == "资料.zip/制度.zip/规定/出差.txt"
    assert api.search("滤网单价", collection)[0]["filename"] == "资料.zip/邮件.eml/报价.txt"

    del files["坏文件.pdf"], files["制度.zip"]
    [again] = api.upload(collection, ("资料.zip", zipped(files)))
    assert again["id"] == row["id"]
    shown = listed(api, collection)
    assert set(shown) == {
        "资料.zip",
        "资料.zip/保修/说明.pdf",
        "资料.zip/邮件.eml",
        "资料.zip/邮件.eml/报价.txt",
    }
    assert shown["资料.zip"]["members"] == {"total": 2, "read": 2}
    assert shown["资料.zip/保修/说明.pdf"]["versions"] == [1]
    assert all("出差" not in hit["text"] for hit in api.search("出差住宿标准", collection))

    receipt = api.http.delete(f"/documents/{row['id']}").json()["deleted"]
    assert receipt["members"] == 3
    assert listed(api, collection) == {}
    assert api.search("滤网单价", collection) == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder, and its URL on the address that the server's setting allows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()
    server.server_close()


def test_a_url_is_fetched_answered_from_and_fetched_again(api: Api, site: tuple[str, Path]) -> None:
    url, folder = site
    collection = api.collection()
    page = folder / "年假"
    page.write_text(
        "<!doctype html><html><body><p>员工每年享有十五天带薪年假。</p></body></html>", "utf-8"
    )

    def fetch(path: str) -> dict:
        reply = api.http.post("/documents", json={"url": f"{url}/{path}", "collection": collection})
        assert reply.status_code == 202, reply.text
        [row] = reply.json()["documents"]
        if row["job_id"]:
            assert api.ended(row["job_id"])["status"] == "done"
        return row

    first = fetch("年假")
    assert first["filename"] == "年假.html"
    [shown] = listed(api, collection).values()
    assert shown["source"] == f"{url}/年假"
    assert api.search("带薪年假", collection)[0]["document_id"] == first["id"]
    assert fetch("年假#top")["duplicate"]
    page.write_text(
        "<!doctype html><html><body><p>员工每年享有二十天带薪年假。</p></body></html>", "utf-8"
    )
    assert fetch("年假")["id"] == first["id"]
    [shown] = listed(api, collection).values()
    assert shown["versions"] == [1, 2]
    (folder / "b").mkdir()
    (folder / "b" / "年假").write_text(
        "<!doctype html><html><body>Another page.</body></html>", "utf-8"
    )
    assert fetch("b/年假")["filename"] == "127.0.0.1/年假.html"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.2:9000/", "this machine itself"),
        ("http://10.0.0.1/", "private address"),
        ("http://169.254.169.254/latest/meta-data/", "credentials"),
        ("file:///etc/passwd", "only http"),
        ("https://a:b@example.org/", "password"),
    ],
)
def test_a_url_that_is_refused_says_why(api: Api, url: str, says: str) -> None:
    reply = api.http.post("/documents", json={"url": url})
    assert reply.status_code == 422
    assert says in reply.json()["detail"]
    [row] = reply.json()["documents"]
    assert (row["status"], row["filename"]) == ("failed", url)


def test_a_body_that_is_no_url_and_no_file_is_refused(api: Api) -> None:
    assert api.http.post("/documents", json={"links": ["x"]}).status_code == 422
    assert api.http.post("/documents", json={"url": "http://a", "more": 1}).status_code == 422
    assert api.http.post("/documents", data={"collection": "default"}).status_code == 422
    reply = api.http.post("/documents", json={"url": "http://a.example/", "collection": "nowhere"})
    assert reply.status_code == 404
