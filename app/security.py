"""Requests that a browser was talked into by another site are refused, before anything reads them.

A page of another site may send forms and files here: its `Origin` gives it away. A name that it owns may be made to
lead to this machine (DNS rebinding): the `Host` gives that away. Programs send no `Origin`.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import make_problem, respond

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class SameSite:
    """On loopback only this machine's own names are answered; writing needs an origin that is ours, or none."""

    def __init__(self, app: ASGIApp, listening: str) -> None:
        self._app = app
        self._names = _LOOPBACK | {listening.lower()} if is_loopback(listening) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        refused = self._refusal(scope.get("method", "websocket"), headers)
        if refused is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await respond(refused)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, method: str, headers: dict[str, str]) -> dict[str, object] | None:
        host = host_of(headers.get("host", ""))
        if self._names is not None and host not in self._names:
            return make_problem(
                "MisdirectedRequest",
                421,
                "this server listens on this machine alone and answers to 127.0.0.1, localhost and [::1]: use one of "
                "these in the address; a proxy before it must send one of them as Host",
            )
        origin = headers.get("origin")
        if origin is None or method in _READING:
            return None
        # A page of another site cannot send X-Forwarded-Host without asking first, which is never allowed.
        ours = {host, host_of(headers.get("x-forwarded-host", ""))} - {""} | (self._names or set())
        if origin_host(origin) in ours:
            return None
        return make_problem(
            "CrossSite",
            403,
            "the request comes from a page of another site: open this server's own page, or send no Origin header; "
            "a proxy before it must pass its own name on as X-Forwarded-Host",
        )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "rag.example")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_of(header: str) -> str:
    """The name in a `Host` header, in small letters and without its port; empty for one that is no host.

    >>> host_of("LocalHost:8000"), host_of("[::1]:8000"), host_of("[::1"), host_of("a@b")
    ('localhost', '::1', '', '')
    """
    return "" if set(header) & set("/@?#\\\\") else origin_host(f"//{header}")


def origin_host(origin: str) -> str:
    """The host in an `Origin` header; empty for "null" and what is no origin.

    >>> origin_host("https://rag.example:8443"), origin_host("null")
    ('rag.example', '')
    """
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
