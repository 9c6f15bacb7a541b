"""The one guarded way out to model servers: who is asked, how long, how often, how much is read.

Every remote model (chat now, embeddings and reranking later) sends its requests through
`ModelServer`. The environment is not trusted: proxies and netrc files of the shell are ignored,
because a request carries the words of documents. Redirects are not followed.
"""

import asyncio
import json
import random
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import httpx

from models.refusal import refusal
from models.sse import DONE, NotEvents, read_events
from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded, RagError

_BUSY = frozenset({429, 503})
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.RemoteProtocolError,
    httpx.WriteError,
)
_ERROR_BYTES = 64 * 1024
_END_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take. Times are seconds, sizes are bytes.

    `answer_s` is the time from a request to its first answer, and for a stream to its first piece
    of text. `pause_s` is the longest silence between two events of a stream (comments that only
    keep a connection open do not count). A stream as a whole has no time limit.
    """

    connect_s: float = 5.0
    answer_s: float = 300.0
    pause_s: float = 60.0
    pool_s: float = 10.0
    connections: int = 32
    retries: int = 2
    backoff_s: float = 0.5
    longest_backoff_s: float = 10.0
    reply_bytes: int = 64 * 1024 * 1024
    line_bytes: int = 1024 * 1024


def endpoint(url: str, path: str) -> httpx.URL:
    """The address of `path` (such as "chat/completions") on a server given by URL.

    The URL may end in a version (`/v1`, as the official client wants it) or not; a `path` that
    begins with a slash stands beside the version ("/rerank"). Raises
    InvalidInput for anything that is not plain http or https, without repeating the URL where it
    holds a password.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise InvalidInput(
            "The model server's URL is not a URL: write http://host:port."
        ) from error
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidInput(
            "The model server's URL holds a user, a query or a fragment: give the address alone, "
            "and a key in the setting for the API key."
        )
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidInput(f"The model server's URL {url!r} is not http://host:port.")
    base = re.sub(r"/v\d+$", "", parsed.path.rstrip("/")) if path.startswith("/") else parsed.path
    base = base.rstrip("/")
    if not path.startswith("/") and not re.search(r"/v\d+$", base):
        base += "/v1"
    return parsed.copy_with(path=f"{base}/{path.lstrip('/')}")


def build_client(
    *,
    tls: bool,
    api_key: str | None = None,
    limits: Limits = Limits(),
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client that keeps its connections, follows no redirect and reads no proxy settings.

    With `tls`, servers are trusted through the system's certificates and certifi's; without, https
    fails. Reading certificates takes 0.1 s, which plain http need not pay. The key goes into the
    header and nowhere else; InvalidInput says so when it cannot be a header, without showing it.
    """
    headers = {"Accept-Encoding": "identity"}
    if api_key:
        key = api_key.strip()
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise InvalidInput("The API key holds a space or a character that is not ASCII.")
        headers["Authorization"] = f"Bearer {key}"
    return httpx.AsyncClient(
        headers=headers,
        timeout=httpx.Timeout(
            max(limits.answer_s, limits.pause_s), connect=limits.connect_s, pool=limits.pool_s
        ),
        limits=httpx.Limits(
            max_connections=limits.connections, max_keepalive_connections=limits.connections
        ),
        follow_redirects=False,
        trust_env=False,
        verify=_certificates() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        transport=transport,
    )


def _certificates() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class ModelServer:
    """One model server: its requests, its retries, and its failures as sentences.

    `label` is how errors name it (its URL otherwise), `key_setting` the setting that holds its API
    key. A request is sent again, with growing pauses, only while no answer has begun, and only
    when the connection failed or the server said that it is busy (429, 503).
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        key_setting: str,
        label: str | None = None,
        limits: Limits = Limits(),
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        tls = endpoint(url, "").scheme == "https" and transport is None
        self._url = url
        self._api_key = api_key.strip() if api_key else None
        self._key_setting = key_setting
        self._sleep = sleep
        self._dice = dice
        self._client = build_client(tls=tls, api_key=api_key, limits=limits, transport=transport)
        self.limits = limits
        self.label = label or f"The model server at {url}"

    def __repr__(self) -> str:
        return f"ModelServer({self.label!r})"

    def post(
        self, path: str, body: Mapping[str, object]
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Send JSON and give the open reply, as `get` does."""
        request = self._client.build_request(
            "POST",
            endpoint(self._url, path),
            content=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            headers={"Content-Type": "application/json"},
        )
        return self._reply(request)

    def get(self, path: str) -> AbstractAsyncContextManager[httpx.Response]:
        """Ask, and give the open reply, whose status is 200.

        What goes wrong on the way or while the reply is read becomes ModelUnavailable, Overloaded,
        or TooLarge when the server says that the prompt is longer than its context.
        """
        return self._reply(self._client.build_request("GET", endpoint(self._url, path)))

    @asynccontextmanager
    async def _reply(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        if self._client.is_closed:
            raise ModelUnavailable(f"{self.label} is not asked any more: the application stops.")
        response: httpx.Response | None = None
        try:
            response = await self._open(request)
            if response.status_code != httpx.codes.OK:
                raise await self._refusal(response)
            yield response
        except httpx.PoolTimeout as error:
            raise Overloaded(
                f"{self.label} has {self.limits.connections} requests from here already: "
                "try again in a moment."
            ) from error
        except httpx.ConnectTimeout as error:
            raise ModelUnavailable(
                f"{self.label} did not accept a connection within {self.limits.connect_s:g} s: "
                "check that it runs and that this machine can reach it."
            ) from error
        except httpx.ConnectError as error:
            raise ModelUnavailable(
                f"{self.label} cannot be reached ({error}): start it, or correct the URL."
            ) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise self.too_slow(self.limits.answer_s) from error
        except httpx.HTTPError as error:
            raise self.ended_early() from error
        finally:
            if response is not None:
                await response.aclose()

    async def events(self, response: httpx.Response) -> AsyncGenerator[str, None]:
        """The data of each server-sent event of an open reply; after `DONE` comes nothing.

        Raises ModelUnavailable for bytes that are not such a stream, and for more than
        `reply_bytes` in all or `line_bytes` in a line.
        """
        events = read_events(
            response.aiter_bytes(),
            total_bytes=self.limits.reply_bytes,
            line_bytes=self.limits.line_bytes,
        )
        try:
            async with aclosing(events):
                async for data in events:
                    yield data
                    if data == DONE:
                        await _finish(events)
                        return
        except NotEvents as error:
            raise self.garbage() from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def garbage(self) -> ModelUnavailable:
        """The error for an answer that is not in the OpenAI format."""
        return ModelUnavailable(
            f"{self.label} answered with something else than an OpenAI-compatible server does: "
            "check that the URL is that of such a server."
        )

    def ended_early(self) -> ModelUnavailable:
        """The error for a connection that broke before the answer was complete."""
        return ModelUnavailable(
            f"{self.label} closed the connection before its answer was complete: "
            "look into its log, and ask again."
        )

    def too_slow(self, seconds: float) -> ModelUnavailable:
        """The error for a server that keeps silent for longer than a limit."""
        return ModelUnavailable(
            f"{self.label} sent nothing for {seconds:g} s: "
            "it may be overloaded or stuck; look into its log, and ask again."
        )

    async def _open(self, request: httpx.Request) -> httpx.Response:
        attempt = 0
        while True:
            last = attempt == self.limits.retries
            asked_for = 0.0
            try:
                async with asyncio.timeout(self.limits.answer_s):
                    response = await self._client.send(request, stream=True)
            except _NOT_SENT:
                if last:
                    raise
            else:
                if last or response.status_code not in _BUSY:
                    return response
                asked_for = _seconds(response.headers.get("Retry-After", ""))
                await response.aclose()
            backoff = self.limits.backoff_s * 2**attempt * (0.5 + self._dice() / 2)
            await self._sleep(min(max(backoff, asked_for), self.limits.longest_backoff_s))
            attempt += 1

    async def _refusal(self, response: httpx.Response) -> RagError:
        body = bytearray()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.pause_s):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _ERROR_BYTES:
                        break
        text = bytes(body[:_ERROR_BYTES]).decode("utf-8", "replace")
        return refusal(
            response.status_code,
            text.replace(self._api_key, "***") if self._api_key else text,
            label=self.label,
            key_setting=self._key_setting,
        )


async def _finish(events: AsyncIterator[str]) -> None:
    """Read to the end of a finished stream, for only then is its connection kept for the next."""
    with suppress(TimeoutError, StopAsyncIteration, NotEvents, httpx.HTTPError):
        async with asyncio.timeout(_END_S):
            await anext(events)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
