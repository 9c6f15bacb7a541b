"""The one guarded way out for URLs that users give: which machine is asked, how long, and how much is read.

The name is looked up once and the connection goes to the address that was checked; every redirect is a new URL. No
cookie, no credential and no proxy of the environment is used, and what the answer says of itself is not believed.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urldefrag, urljoin, urlsplit

import httpcore

from indexer.parse.names import clean_name, decode_names
from indexer.web.addresses import Address, Network, Target, parse_url, refuse
from pipeline.errors import InvalidInput, TooLarge

Resolve = Callable[[str, int], Awaitable[list[Address]]]
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_MOST_ADDRESSES = 4
_CONNECT_S = 10.0
_STEP = 1 << 20
_HEADERS = ((b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"zhinao-rag"))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched: the URL without its fragment, and the names it may get, the best first."""

    source: str
    names: tuple[str, ...]
    size: int


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host by the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(
        dict.fromkeys(ipaddress.ip_address(str(info[4][0]).split("%")[0]) for info in found)
    )


class Fetcher:
    """Fetches URLs. `allowed` are private networks that may be asked; `seconds` bound a fetch with its redirects.

    `certificates` makes the context for https; the system's and certifi's are trusted unless it is given.
    """

    def __init__(
        self,
        *,
        most_bytes: int,
        seconds: float,
        allowed: Sequence[Network] = (),
        resolve: Resolve = resolve,
        certificates: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._certificates = certificates or _certificates
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._backend = _Pinned(resolve, allowed)

    async def fetch(self, url: str, into: Path) -> Fetched:
        """Write what is behind a URL to a new file.

        Raises InvalidInput or TooLarge with a sentence that says what was refused or did not work; OSError where the
        disk refuses.
        """
        source = urldefrag(url.strip()).url
        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(source, into)
        except TimeoutError as error:
            raise InvalidInput(
                f"it took longer than {self._seconds:.0f} s: try again later, or download the file and upload it"
            ) from error

    async def _follow(self, source: str, into: Path) -> Fetched:
        url = source
        for _ in range(_MOST_REDIRECTS + 1):
            target = parse_url(url)
            try:
                following = await self._get(target, source, into)
            except httpcore.TimeoutException as error:
                raise InvalidInput(
                    f"{target.host} does not answer in time: try again later"
                ) from error
            except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
                why = str(error) or type(error).__name__
                raise InvalidInput(
                    f"{target.host} cannot be reached or breaks off ({why}): check the URL"
                ) from error
            if isinstance(following, Fetched):
                return following
            url = urldefrag(urljoin(url, following)).url
        raise InvalidInput(
            f"it is redirected more than {_MOST_REDIRECTS} times: give the final URL"
        )

    async def _get(self, target: Target, source: str, into: Path) -> Fetched | str:
        """The file, or where the redirect leads."""
        context = await asyncio.to_thread(self._certificates) if target.scheme == "https" else None
        url = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        )
        headers = [(b"Host", target.authority.encode()), *_HEADERS]
        timeouts = {"connect": _CONNECT_S, "read": self._seconds, "write": _CONNECT_S}
        pool = httpcore.AsyncConnectionPool(
            context, max_connections=1, network_backend=self._backend
        )
        async with (
            pool,
            pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as answer,
        ):
            said = {name.lower(): value for name, value in answer.headers}
            if answer.status in _REDIRECTS and (location := said.get(b"location")):
                return location.decode("utf-8", "replace")
            if answer.status != 200:
                raise InvalidInput(
                    f"{target.host} answers with the status {answer.status}: check the URL in a browser"
                )
            size = await self._save(answer, said, into)
            return Fetched(source, tuple(_names(source, target, said)), size)

    async def _save(self, answer: httpcore.Response, said: dict[bytes, bytes], into: Path) -> int:
        declared = said.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most_bytes:
            raise self._too_large()
        unpack = _unpacking(said.get(b"content-encoding", b""))
        size = 0
        with into.open("xb") as file:
            async for packed in answer.aiter_stream():
                for piece in unpack(packed):
                    size += len(piece)
                    if size > self._most_bytes:
                        raise self._too_large()
                    await asyncio.to_thread(file.write, piece)
        return size

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the file is larger than {self._most_bytes / 2**20:,.0f} MiB, the limit (ZHINAO_MAX_UPLOAD_MB)"
        )


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to no other."""

    def __init__(self, resolve: Resolve, allowed: Sequence[Network]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise InvalidInput(f"the host {host} is not known: check the URL's spelling") from error
        refuse(host, addresses, self._allowed)
        failed: Exception = httpcore.ConnectError("it has no address")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 - the interface's
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise InvalidInput("sockets of this machine are not fetched from")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@functools.cache
def _certificates() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _unpacking(encoding: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """Bounded pieces of an answer. Servers may pack although they were asked not to."""
    match encoding.strip().lower():
        case b"" | b"identity":
            return lambda piece: iter((piece,))
        case b"gzip" | b"x-gzip" | b"deflate":
            unpacker = zlib.decompressobj(wbits=47)  # finds out itself which of the two it is
        case other:
            raise InvalidInput(
                f"the server packs the file in a way that was not asked for ({other.decode('ascii', 'replace')[:40]})"
            )

    def unpack(packed: bytes) -> Iterator[bytes]:
        while packed:
            try:
                yield unpacker.decompress(packed, _STEP)
            except zlib.error as error:
                raise InvalidInput("what the server packed is damaged: try again") from error
            packed = unpacker.unconsumed_tail

    return unpack


def _names(source: str, target: Target, said: dict[bytes, bytes]) -> Iterator[str]:
    """The answer's own name for the file, else the last part of a path, else the host; then with the host before."""
    paths = (target.path.partition("?")[0], urlsplit(source).path)
    found = [_disposition(said.get(b"content-disposition", b"")), *(_last(path) for path in paths)]
    name = next(filter(None, found), target.host)
    yield name
    yield f"{target.host}/{name}"
    yield clean_name(f"{target.host}/{_decoded(paths[0])}")[:400] or name


def _disposition(header: bytes) -> str:
    """The file name of Content-Disposition (RFC 6266), also as it should not be written."""
    message = Message()
    message["Content-Disposition"] = decode_names([header])[0].replace("\n", " ")
    name = message.get_filename() or ""
    return _last(name) if "%" in name else clean_name(name).rpartition("/")[2][:200]


def _last(path: str) -> str:
    return clean_name(_decoded(path)).rpartition("/")[2][:200]


def _decoded(path: str) -> str:
    return decode_names([unquote_to_bytes(path)])[0]
