"""The guarded client against a real server on the loopback address, and against names that lie."""

import asyncio
import datetime
import gzip
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from indexer.web.addresses import Address, parse_networks
from indexer.web.fetch import Fetched, Fetcher
from pipeline.errors import InvalidInput, RagError, TooLarge

LOOPBACK = parse_networks("127.0.0.1")


NAMED = {
    "rfc": "attachment; filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf",
    "percent": 'attachment; filename="%E6%8A%A5%E5%91%8A.pdf"',
    "climbs": 'attachment; filename="../../etc/passwd"',
    "raw": f'attachment; filename="{"报告.pdf".encode("gbk").decode("latin-1")}"',
}
PACKED = {
    "bomb": ("gzip", gzip.compress(bytes(5_000_000))),
    "packed": ("gzip", gzip.compress(b"unpacked")),
    "brotli": ("br", b"x"),
}


class Answers(BaseHTTPRequestHandler):
    """`GET /n/...` redirects n times; other paths are told by their names."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        first = self.path.split("/")[1].split("?")[0]
        given = self.path.partition("?")[2]
        if first.isdigit() and int(first):
            self.say(302, {"Location": f"/{int(first) - 1}/end.txt", "Set-Cookie": "a=b"})
        elif first in PACKED:
            encoding, body = PACKED[first]
            self.say(200, {"Content-Encoding": encoding}, body)
        elif first == "away":
            self.say(302, {"Location": given})
        elif first == "missing":
            self.say(404)
        elif first == "declared":
            self.say(200, {"Content-Length": "99999999"})
        elif first == "endless":
            self.drip(bytes(65536), 0)
        elif first == "slow":
            self.drip(b"x", 0.1)
        elif first == "named":
            self.say(200, {"Content-Disposition": NAMED[given]}, b"named")
        else:
            self.say(200, {}, f"content of {self.path}".encode())

    def drip(self, piece: bytes, pause_s: float) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(piece)
                time.sleep(pause_s)

    def say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def url(site: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{site.server_port}/{path}"


def fetched(address: str, into: Path, **how: object) -> Fetched:
    given = {"most_bytes": 1_000_000, "seconds": 10, "allowed": LOOPBACK, **how}
    return asyncio.run(Fetcher(**given).fetch(address, into))


def refused(address: str, into: Path, **how: object) -> RagError:
    with pytest.raises(InvalidInput) as caught:
        fetched(address, into, **how)
    return caught.value


def test_a_file_is_fetched_with_its_name_and_without_a_trace_of_us(
    site: ThreadingHTTPServer, tmp_path: Path
) -> None:
    got = fetched(url(site, "docs/%E6%8A%A5%E5%91%8A.txt?x=1#part"), tmp_path / "a")
    assert got.source == url(site, "docs/%E6%8A%A5%E5%91%8A.txt?x=1")
    assert got.names == ("报告.txt", "127.0.0.1/报告.txt", "127.0.0.1/docs/报告.txt")
    content = b"content of /docs/%E6%8A%A5%E5%91%8A.txt?x=1"
    assert (tmp_path / "a").read_bytes() == content
    assert got.size == len(content)
    path, headers = site.seen[-1]
    assert path == "/docs/%E6%8A%A5%E5%91%8A.txt?x=1"
    assert set(headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


@pytest.mark.parametrize("how", ["rfc", "percent", "raw"])
def test_the_server_may_name_the_file(site: ThreadingHTTPServer, tmp_path: Path, how: str) -> None:
    assert fetched(url(site, f"named?{how}"), tmp_path / "a").names[0] == "报告.pdf"


def test_the_servers_name_cannot_climb(site: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert fetched(url(site, "named?climbs"), tmp_path / "a").names[0] == "passwd"


def test_redirects_are_followed_to_a_limit_and_bring_no_cookies(
    site: ThreadingHTTPServer, tmp_path: Path
) -> None:
    assert fetched(url(site, "5/x"), tmp_path / "a").names[0] == "end.txt"
    assert "Cookie" not in site.seen[-1][1]
    assert "more than 5 times" in str(refused(url(site, "6/x"), tmp_path / "b"))


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("http://127.0.0.2/", "this machine"),
        ("http://10.0.0.1/", "private"),
        ("http://169.254.169.254/latest/meta-data/", "credentials"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("file:///etc/passwd", "only http"),
        ("http://a:b@127.0.0.1/", "password"),
    ],
)
def test_where_a_redirect_leads_is_checked_again(
    site: ThreadingHTTPServer, tmp_path: Path, to: str, says: str
) -> None:
    assert says in str(refused(url(site, f"away?{to}"), tmp_path / "a"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]"]
)  # fmt: skip
def test_this_machine_is_refused_unless_a_setting_allows_it(
    site: ThreadingHTTPServer, tmp_path: Path, host: str
) -> None:
    before = len(site.seen)
    assert "this machine" in str(refused(url(site, "x", host), tmp_path / "a", allowed=()))
    assert len(site.seen) == before


def test_a_name_that_changes_its_address_is_asked_once(
    site: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """DNS rebinding: the second answer would be another machine's, and nobody asks for it."""
    asked: list[str] = []

    async def rebinding(host: str, _port: int) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "10.0.0.1")]

    got = fetched(url(site, "a.txt", "rebind.example"), tmp_path / "a", resolve=rebinding)
    assert got.names[0] == "a.txt"
    assert asked == ["rebind.example"]
    assert site.seen[-1][1]["Host"] == f"rebind.example:{site.server_port}"
    assert "private" in str(
        refused(url(site, "a.txt", "rebind.example"), tmp_path / "b", resolve=rebinding)
    )


def test_one_private_address_among_public_ones_is_enough(tmp_path: Path) -> None:
    async def both(_host: str, _port: int) -> list[Address]:
        return [ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1")]

    error = refused("https://mixed.example/", tmp_path / "a", resolve=both)
    assert "mixed.example (10.0.0.1)" in str(error)


def test_sizes_are_counted_where_they_arrive(site: ThreadingHTTPServer, tmp_path: Path) -> None:
    for number, path in enumerate(("declared", "endless", "bomb")):
        error = refused(url(site, path), tmp_path / str(number))
        assert isinstance(error, TooLarge)
        assert "ZHINAO_MAX_UPLOAD_MB" in str(error)
    assert all(path.stat().st_size <= 1_000_000 for path in tmp_path.iterdir())


def test_what_a_server_packs_unasked_is_unpacked_or_refused(
    site: ThreadingHTTPServer, tmp_path: Path
) -> None:
    fetched(url(site, "packed"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"unpacked"
    assert "br" in str(refused(url(site, "brotli"), tmp_path / "b"))


def test_a_server_that_drips_is_left(site: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert "longer than 1 s" in str(refused(url(site, "slow"), tmp_path / "a", seconds=1))


def test_what_does_not_work_is_said(site: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert "status 404" in str(refused(url(site, "missing"), tmp_path / "a"))

    async def unknown(_host: str, _port: int) -> list[Address]:
        raise OSError("Name or service not known")

    error = refused("https://nowhere.example/", tmp_path / "b", resolve=unknown)
    assert "nowhere.example is not known" in str(error)
    error = refused(f"https://127.0.0.1:{site.server_port}/", tmp_path / "c")
    assert "cannot be reached" in str(error)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A server with a certificate for secure.example, and a context that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "secure.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("secure.example")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.seen = []
    server.socket = ours.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, ssl.create_default_context(cafile=str(folder / "cert.pem"))
    server.shutdown()
    server.server_close()


def test_https_checks_the_name_although_the_address_is_pinned(
    secure: tuple[int, ssl.SSLContext], tmp_path: Path
) -> None:
    port, context = secure

    async def here(_host: str, _port: int) -> list[Address]:
        return [ipaddress.ip_address("127.0.0.1")]

    how = {"resolve": here, "certificates": lambda: context}
    fetched(f"https://secure.example:{port}/a.txt", tmp_path / "a", **how)
    assert (tmp_path / "a").read_bytes() == b"content of /a.txt"
    other = refused(f"https://other.example:{port}/a.txt", tmp_path / "b", **how)
    assert "certificate" in str(other)
    unknown = refused(f"https://secure.example:{port}/a.txt", tmp_path / "c", resolve=here)
    assert "certificate" in str(unknown)
