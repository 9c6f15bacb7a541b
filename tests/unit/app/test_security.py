import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.security import SameSite, host_of, is_loopback, origin_host


async def ask(listening: str, method: str, **headers: str) -> httpx.Response:
    async def hello(_request: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    inner = Starlette(routes=[Route("/", hello, methods=["GET", "POST", "DELETE"])])
    transport = httpx.ASGITransport(SameSite(inner, listening))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        return await http.request(method, "/", headers=named)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"]
)
async def test_this_machines_names_are_answered(host: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await ask("127.0.0.1", method, host=host)).text == "hello"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "[::1",
    ],
)
async def test_a_name_made_to_lead_here_is_refused(host: str) -> None:
    for method in ("GET", "POST"):
        refused = await ask("127.0.0.1", method, host=host)
        assert refused.status_code == 421
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:zhinao:misdirected-request"


async def test_every_name_is_answered_where_the_network_may_ask() -> None:
    for listening in ("0.0.0.0", "::", "192.0.2.1"):
        assert (await ask(listening, "POST", host="rag.example")).text == "hello"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
        "http://[broken",
        "",
        "file://",
    ],
)
@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0"])
async def test_another_sites_page_may_read_nothing_new_and_change_nothing(
    origin: str, listening: str
) -> None:
    for method in ("POST", "DELETE"):
        refused = await ask(listening, method, host="127.0.0.1:8000", origin=origin)
        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:zhinao:cross-site"
    assert (await ask(listening, "GET", host="127.0.0.1:8000", origin=origin)).text == "hello"


async def test_our_own_page_may_change_things() -> None:
    own = (
        ("127.0.0.1", {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://localhost:8000"}),
        ("0.0.0.0", {"host": "rag.example", "origin": "https://rag.example"}),
        (
            "127.0.0.1",
            {
                "host": "127.0.0.1:8000",
                "origin": "https://rag.example",
                "x_forwarded_host": "rag.example",
            },
        ),
    )
    for listening, headers in own:
        assert (await ask(listening, "POST", **headers)).text == "hello"


async def test_a_web_socket_of_another_site_is_closed() -> None:
    sent = []

    async def inner(*_: object) -> None:
        raise AssertionError("it went through")

    async def send(message: dict) -> None:
        sent.append(message["type"])

    headers = [(b"host", b"127.0.0.1:8000"), (b"origin", b"https://evil.example")]
    scope = {"type": "websocket", "path": "/", "headers": headers}
    await SameSite(inner, "127.0.0.1")(scope, None, send)
    assert sent == ["websocket.close"]


def test_hosts_are_read_out_of_headers() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "127.8.0.1", "::1", "LocalHost")] == [True] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "rag.example")))
    assert [host_of(h) for h in ("A.b:1", "[::1]:2", "[::1", "a@b", "")] == [
        "a.b",
        "::1",
        "",
        "",
        "",
    ]
    assert origin_host("https://rag.example:8443") == "rag.example"
