"""A chat model from a GGUF file, run by llama.cpp inside this process (extra `gguf`)."""

import asyncio
import secrets
import shutil
import tempfile
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from models.http import Limits
from models.remote import RemoteChat
from pipeline.errors import ModelUnavailable, Overloaded
from pipeline.types import Message, Sampling, Usage

if TYPE_CHECKING:
    from xllamacpp import Server

_SOCKET = "llama.sock"  # llama.cpp knows a socket by the ending
_LONGEST_SOCKET = 100
"""Bytes in the path of a Unix socket: the kernel's limit is 107."""


class GgufChat:
    """A chat model in this process: one answer at a time, a short line of those who wait.

    llama.cpp runs in threads of its own and is spoken to through a Unix socket in a folder that
    only this user can enter, with a key made for this run. So no port is open, Python's lock is
    never held, and a consumer who leaves stops the generation: at the next token, and within a
    second or a batch while the prompt is still being read.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        context_tokens: int = 8192,
        threads: int | None = None,
        waiting: int = 4,
        wait_s: float = 300.0,
    ) -> None:
        """Load a file; blocks for as long as that takes (seconds for gigabytes).

        `context_tokens` is cut to what the model was trained for. `threads` is llama.cpp's own
        choice when None. At most `waiting` questions wait for their turn, each `wait_s` seconds
        at most. Raises ModelUnavailable when the extra is not installed, and when the file is
        missing, damaged or of a kind that this llama.cpp does not know.
        """
        folder, key = _private_folder(), secrets.token_hex(16)
        self._sweep = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        socket = folder / _SOCKET
        self._server: Server | None = _start(path, socket, key, context_tokens, threads)
        self._label = f"The chat model {path}"
        self._local = httpx.Client(
            base_url="http://gguf",
            headers={"Authorization": f"Bearer {key}"},
            transport=httpx.HTTPTransport(uds=str(socket)),
            timeout=60.0,
            trust_env=False,
        )
        context = self._local.get("/props").json()["default_generation_settings"]["n_ctx"]
        self._chat = RemoteChat(
            "http://gguf",
            name or path.stem,
            api_key=key,
            context_tokens=int(context),
            label=self._label,
            limits=Limits(answer_s=1800.0, retries=0),
            transport=httpx.AsyncHTTPTransport(uds=str(socket)),
        )
        self._waiting = waiting
        self._wait_s = wait_s
        self._inside = 0
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"GgufChat({self._label!r})"

    @property
    def name(self) -> str:
        """The name given, else the file's without its ending."""
        return self._chat.name

    async def context_tokens(self) -> int:
        """The most tokens that prompt and answer may take together."""
        return await self._chat.context_tokens()

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the model's own vocabulary, without the marks of its template."""
        if self._server is None:
            raise self._closed()
        try:
            reply = self._local.post(
                "/tokenize",
                json={"content": text, "add_special": False, "parse_special": False},
            )
            return len(reply.raise_for_status().json()["tokens"])
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"{self._label} does not answer any more: start the application again."
            ) from error

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]:
        """Pieces of the answer as they come, then one Usage.

        Raises Overloaded when the line is full, TooLarge when the prompt does not fit the context,
        ModelUnavailable when the model fails or was closed.
        """
        async with self._my_turn():
            answer = self._chat.stream(
                messages, max_tokens=max_tokens, temperature=temperature, sampling=sampling
            )
            async with aclosing(answer) as pieces:
                async for piece in pieces:
                    yield piece

    async def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]:
        """What follows a plain text; errors as in `stream`."""
        async with self._my_turn():
            text = self._chat.complete(
                prompt, max_tokens=max_tokens, temperature=temperature, sampling=sampling
            )
            async with aclosing(text) as pieces:
                async for piece in pieces:
                    yield piece

    async def aclose(self) -> None:
        """Stop the server and free the model; further calls raise ModelUnavailable."""
        await self._chat.aclose()
        self._local.close()
        server, self._server = self._server, None
        if server is not None:
            del server  # the last reference: joins llama.cpp's threads
            self._sweep()

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        if self._server is None:
            raise self._closed()
        if self._inside > self._waiting:
            raise self._overloaded()
        self._inside += 1
        try:
            await self._take_turn()
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._inside -= 1

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turn.acquire()
        except TimeoutError as error:
            raise self._overloaded() from error

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._label} writes one answer at a time and others wait already: "
            "ask again in a moment."
        )

    def _closed(self) -> ModelUnavailable:
        return ModelUnavailable(f"{self._label} was closed: the application stops.")


def _start(
    path: Path, socket: Path, key: str, context_tokens: int, threads: int | None
) -> "Server":
    if not _is_gguf(path):
        raise ModelUnavailable(
            f"The chat model {path} is not a GGUF file: give the path of a .gguf file."
        )
    try:
        from xllamacpp import CommonParams, Server
    except ModuleNotFoundError as error:
        if error.name != "xllamacpp":
            raise
        raise ModelUnavailable(
            "A chat model from a GGUF file needs the extra gguf: pip install zhinao-rag[gguf]."
        ) from error
    params = CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_parallel = 1
    params.hostnames = [str(socket)]
    params.api_keys = [key]
    params.cache_ram_mib = 0  # else up to 8 GiB of old prompts stay in memory
    params.ui = False
    params.offline = True
    params.verbosity = 0
    if threads is not None:
        params.cpuparams.n_threads = threads
    try:
        return Server(params)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"The chat model {path} does not load: the file is damaged, of a kind that this "
            "llama.cpp does not know, or larger than the memory. Get it again, or try a smaller "
            "one."
        ) from error


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError as error:
        raise ModelUnavailable(
            f"The chat model {path} cannot be read ({error.strerror}): "
            "give the path of a .gguf file that is there."
        ) from error


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="zhinao-gguf-"))
    if len(bytes(folder / _SOCKET)) <= _LONGEST_SOCKET:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="zhinao-gguf-", dir="/tmp"))
