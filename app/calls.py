"""How a command of the terminal reaches the server."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from app.client import ApiClient
from app.settings import load
from pipeline.types import JobKind

T = TypeVar("T")

Url = Annotated[
    str | None, typer.Option("--url", help="The server (default: ZHINAO_URL, else this machine's).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Some = Annotated[str | None, typer.Option("--collection", "-c", help="Only of this collection.")]
Kinds = Annotated[
    list[JobKind] | None, typer.Option("--kind", help="Only jobs of this kind; may be repeated.")
]
Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]


def call(url: str | None, action: Callable[[ApiClient], Awaitable[T]]) -> T:
    """What `action` gets from the server; raises ApiProblem."""

    async def run() -> T:
        api = ApiClient(url or default_url())
        try:
            return await action(api)
        finally:
            await api.aclose()

    return asyncio.run(run())


def default_url() -> str:
    """ZHINAO_URL, else this machine at the port that is set."""
    return os.environ.get("ZHINAO_URL") or f"http://127.0.0.1:{load().port}"
