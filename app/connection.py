"""The way to the API: typed replies, one exception for all that goes wrong."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from app.problems import ApiProblem, from_response

Model = TypeVar("Model", bound=BaseModel)

TIMEOUT = httpx.Timeout(connect=5, read=120, write=120, pool=30)
ANSWER_TIMEOUT = httpx.Timeout(connect=5, read=300, write=30, pool=30)


class Connection:
    """Requests to the server at `base_url`. Raises ApiProblem for whatever keeps a reply from coming.

    Proxies named in the environment are not used: the API is on this machine or beside it.
    """

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            transport=transport,
            timeout=TIMEOUT,
            trust_env=False,
            verify=_trust(self.base_url),
            headers={"Accept": "application/json"},
        )
        self._request = self._http.build_request

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _call(self, model: type[Model], request: httpx.Request) -> Model:
        async with self._sent(request) as response:
            body = await response.aread()
        return parse(model, body)

    @asynccontextmanager
    async def _sent(
        self, request: httpx.Request, accept: frozenset[int] = frozenset()
    ) -> AsyncIterator[httpx.Response]:
        try:
            response = await self._http.send(request, stream=True)
            try:
                if not response.is_success and response.status_code not in accept:
                    raise from_response(response, await response.aread())
                yield response
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise ApiProblem(
                "No answer in time", "The service did not answer in time. Try again.", None
            ) from error
        except httpx.HTTPError as error:
            raise ApiProblem(
                "Unreachable",
                f"The service at {self.base_url} cannot be reached. Check that it is running.",
                None,
            ) from error


def _trust(url: str) -> ssl.SSLContext | bool:
    """Reading certificates takes 0.05 s, which plain http need not pay."""
    secure = url.lower().startswith("https:")
    return True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def parse(model: type[Model], body: str | bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ApiProblem(
            "Unexpected answer",
            "The service answered in a way this interface does not know. Use the same version of both.",
            None,
        ) from error


def segment(value: str) -> str:
    return quote(value, safe="")
