"""Requests to a model hub: the listing of a repository, and files that go on where they ended."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from models.checkpoint.errors import HubRefused, WrongChecksum
from models.checkpoint.hubs import Hub, Listing, RemoteFile, file_url, listing_url, read_listing
from pipeline.errors import InvalidInput, ModelUnavailable, NotFound

_LISTING_BYTES = 32 * 1024 * 1024
_HIGHEST = 500

Progress = Callable[[str, int, int], None]
"""Told the file, the bytes of it that are there, and its size."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which repository, from which hub. `endpoint` is the hub's address or that of a mirror."""

    hub: Hub
    endpoint: str
    repository: str
    revision: str


class HubClient:
    """Requests to one hub. Only GET; never from https to http; the token stays with the hub.

    Proxy settings of the environment are followed, since nothing but names of models is sent.
    A request is repeated `retries` times with growing pauses as long as nothing new arrives.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        retries: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            url = httpx.URL(endpoint)
        except httpx.InvalidURL as error:
            raise InvalidInput(f"the endpoint {endpoint!r} is not a URL.") from error
        if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
            raise InvalidInput(f"the endpoint {endpoint!r} is not http://host or https://host.")
        self.endpoint = endpoint
        self._secure = url.scheme == "https"
        self._retries = retries
        self._sleep = sleep
        headers = {"Accept-Encoding": "identity", "User-Agent": "zhinao-rag"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=10.0),
            follow_redirects=True,
            max_redirects=5,
            event_hooks={"request": [self._guard]},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def listing(self, wanted: Wanted) -> Listing:
        """The files of a repository. Raises NotFound, HubRefused or ModelUnavailable."""
        url = listing_url(wanted.hub, self.endpoint, wanted.repository, wanted.revision)
        for attempt in range(self._retries + 1):
            try:
                with self._open(url, wanted, {}) as response:
                    body = _bounded(response)
                break
            except httpx.HTTPError as error:
                if attempt == self._retries:
                    raise self._unreachable(error) from error
                self._sleep(0.5 * 2**attempt)
        try:
            value = json.loads(body)
        except ValueError as error:
            raise ModelUnavailable(
                f"{self.endpoint} answered with something else than a listing of files: check the "
                "endpoint (a login page of the network answers like this too)."
            ) from error
        return read_listing(wanted.hub, value, wanted.repository, wanted.revision)

    def fetch(self, wanted: Wanted, file: RemoteFile, part: Path, step: Progress) -> None:
        """Bring the part to the file's size; goes on where the part ends. Checks no checksum."""
        url = file_url(wanted.hub, self.endpoint, wanted.repository, wanted.revision, file.path)
        idle = 0
        while (have := size_of(part)) < file.bytes:
            try:
                self._append(url, wanted, file, part, step)
            except httpx.HTTPError as error:
                idle = idle + 1 if size_of(part) <= have else 0
                if idle > self._retries:
                    raise self._unreachable(error) from error
                self._sleep(0.5 * 2**idle)
            else:
                idle = idle + 1 if size_of(part) <= have else 0
                if idle > self._retries:
                    raise ModelUnavailable(
                        f"{self.endpoint} ends {file.path} at {have} of {file.bytes} bytes again "
                        "and again: try later, or another endpoint."
                    )

    def _append(
        self, url: str, wanted: Wanted, file: RemoteFile, part: Path, step: Progress
    ) -> None:
        have = size_of(part)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._open(url, wanted, headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()
                return
            starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT and starts
            if not goes_on:
                have = 0
            with part.open("ab" if goes_on else "wb") as target:
                for block in response.iter_raw():
                    have += len(block)
                    if have > file.bytes:
                        target.close()
                        part.unlink()
                        raise WrongChecksum(
                            f"{self.endpoint} sent more of {file.path} than the {file.bytes} bytes "
                            "that it lists: try another endpoint or revision."
                        )
                    target.write(block)
                    step(file.path, have, file.bytes)

    @contextmanager
    def _open(self, url: str, wanted: Wanted, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with self._client.stream("GET", url, headers=headers) as response:
            status = response.status_code
            name = f"{wanted.repository} at {wanted.revision}"
            if status in {401, 403}:
                raise HubRefused(
                    f"{self.endpoint} does not show {name} without a token that may read it "
                    f"({status}): check the name, accept the model's conditions on its page, and "
                    "set HF_TOKEN or MODELSCOPE_API_TOKEN."
                )
            if status == httpx.codes.NOT_FOUND:
                raise NotFound(
                    f"{self.endpoint} has no {name}: check the name, the revision and the endpoint."
                )
            if status == httpx.codes.TOO_MANY_REQUESTS or status >= _HIGHEST:
                raise httpx.ReadError(f"status {status}", request=response.request)
            if status != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and not response.is_success:
                raise ModelUnavailable(f"{self.endpoint} answered {status} for {name}.")
            yield response

    def _guard(self, request: httpx.Request) -> None:
        if self._secure and request.url.scheme != "https":
            raise ModelUnavailable(
                f"{self.endpoint} leads to {request.url.host} without encryption: nothing was "
                "fetched; check the endpoint."
            )

    def _unreachable(self, error: httpx.HTTPError) -> ModelUnavailable:
        return ModelUnavailable(
            f"{self.endpoint} cannot be reached, or breaks off ({error or type(error).__name__}): "
            "check the network and the endpoint; what has arrived is kept, so run it again."
        )


def size_of(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    for block in response.iter_bytes():
        body += block
        if len(body) > _LISTING_BYTES:
            raise ModelUnavailable("the hub's listing of files is too long to be one.")
    return bytes(body)
