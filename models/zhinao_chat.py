"""A chat model of the 360Zhinao or Qwen2 kind, run in this process by transformers."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from models.device import choose, require_torch
from models.generation import Spelling, Writing, written
from models.reasoning import AnswerOnly, opened_thinking
from models.zhinao_folder import (
    Words,
    config_of,
    folder_tensors,
    generation_defaults,
    qwen2,
)
from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded, RagError, TooLarge
from pipeline.types import Message, Sampling, Usage

ARCHITECTURES = ("ZhinaoForCausalLM", "Qwen2ForCausalLM")
DEFAULT_SYSTEM = "You are a helpful assistant."
"""What stands first where no system message does: the text of training, with its full stop."""
Piece = str | Usage | RagError | None


class ZhinaoChat:
    """Implements the ports ChatModel and Completer: one answer at a time, a short line of those who wait.

    A consumer who leaves stops the generation at the next token, or between two parts of a long
    prompt. Thinking before the answer (`<think>…</think>`, as O1.5 writes it) is left out and counted
    in the usage; `opening` is what the prompt opens it with.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401  transformers ships no types
        words: Words,
        *,
        name: str,
        context_tokens: int,
        stops: frozenset[int],
        opening: str = "",
        top_p: float = 1.0,
        waiting: int = 4,
        wait_s: float = 300.0,
    ) -> None:
        self._model = model
        self._words = words
        self._name = name
        self._context = context_tokens
        self._stops = stops
        self._opening = opening
        self._top_p = top_p
        self._waiting = waiting
        self._wait_s = wait_s
        self._inside = 0
        self._turn = asyncio.Lock()
        self._closed = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chat-device")

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        name: str | None = None,
        context_tokens: int | None = None,
        waiting: int = 4,
        wait_s: float = 300.0,
    ) -> "ZhinaoChat":
        """`device` is one of models.device.choose. `context_tokens` is cut to what the model was
        trained for; None takes all of it. At most `waiting` questions wait, `wait_s` seconds each.

        Raises ModelUnavailable, NotFound or InvalidInput with the file that is wrong.
        """
        require_torch()
        options = config_of(folder, ARCHITECTURES)
        chosen = choose(device)
        words = Words.load(folder)
        from transformers import Qwen2ForCausalLM

        weights = folder_tensors(folder, lm_head=True)
        model = qwen2(Qwen2ForCausalLM, options, weights, folder=folder, device=chosen)
        trained = int(options["max_position_embeddings"])
        stops, top_p = generation_defaults(folder, words)
        return cls(
            model,
            words,
            name=name or folder.name,
            context_tokens=min(context_tokens or trained, trained),
            stops=stops,
            opening=opened_thinking(folder),
            top_p=top_p,
            waiting=waiting,
            wait_s=wait_s,
        )

    @property
    def name(self) -> str:
        """The name given, else the folder's."""
        return self._name

    async def context_tokens(self) -> int:
        """The most tokens that prompt and answer may take together."""
        return self._context

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without the marks of the template."""
        return len(self._words.ids(text))

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]:
        """Pieces of the answer as they come, then one Usage.

        The answer ends where the context does. Raises Overloaded when the line is full or the
        GPU's memory is, TooLarge when the prompt does not fit the context, ModelUnavailable when
        closed.
        """
        thinks = AnswerOnly(begun=bool(self._opening))
        read = partial(prompt_ids, self._words, messages, opening=self._opening)
        async with aclosing(self._written(read, max_tokens, temperature, sampling)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Usage):
                    if rest := thinks.end():
                        yield rest
                    yield piece
                elif shown := thinks.feed(piece):
                    yield shown

    async def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        sampling: Sampling | None = None,
    ) -> AsyncGenerator[str | Usage, None]:
        """What follows a plain text, then one Usage; errors as in `stream`."""
        if not prompt:
            raise InvalidInput("The prompt is empty: give the beginning of the text to continue.")
        read = partial(self._words.ids, prompt)
        async with aclosing(self._written(read, max_tokens, temperature, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    async def _written(
        self,
        read: Callable[[], list[int]],
        max_tokens: int,
        temperature: float,
        sampling: Sampling | None,
    ) -> AsyncGenerator[str | Usage, None]:
        async with self._place():
            prompt = await asyncio.to_thread(read)
            room = self._context - len(prompt)
            if room < 1:
                raise TooLarge(
                    f"The prompt has {len(prompt)} tokens and the chat model {self._name} reads "
                    f"{self._context}: ask about fewer or shorter documents."
                )
            asked = sampling or Sampling()
            if asked.top_p is None:
                asked = replace(asked, top_p=self._top_p)
            writing = Writing(
                self._stops, self._words.size, min(max_tokens, room), temperature, asked
            )
            async with self._generation(prompt, writing) as pieces:
                while (piece := await pieces.get()) is not None:
                    if isinstance(piece, RagError):
                        raise piece
                    yield piece

    async def aclose(self) -> None:
        """Stops what is being written and ends the thread; further calls raise ModelUnavailable."""
        self._closed.set()
        await asyncio.to_thread(self._thread.shutdown)

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None, None]:
        """A place in the line, then the turn."""
        if self._closed.is_set():
            raise self._ended()
        if self._inside > self._waiting:
            raise self._overloaded()
        self._inside += 1
        try:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._turn.acquire()
            except TimeoutError as error:
                raise self._overloaded() from error
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def _generation(
        self, prompt: Sequence[int], writing: Writing
    ) -> AsyncGenerator["asyncio.Queue[Piece]", None]:
        """Writes in the device thread while the block runs; over when the thread has stopped."""
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        gone = threading.Event()

        def show(piece: Piece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        try:
            running: Future[None] = self._thread.submit(self._write, prompt, writing, gone, show)
        except RuntimeError as error:
            raise self._ended() from error
        try:
            yield pieces
        finally:
            gone.set()
            await asyncio.wrap_future(running)

    def _write(
        self,
        prompt: Sequence[int],
        writing: Writing,
        gone: threading.Event,
        show: Callable[[Piece], None],
    ) -> None:
        """In the device thread."""
        import torch

        try:
            for piece in self._pieces(prompt, writing, gone):
                show(piece)
            if self._closed.is_set():
                show(self._ended())
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            full = Overloaded(
                f"The GPU's memory is too small for a prompt of {len(prompt)} tokens: ask about "
                "less, or try again when the GPU is less busy."
            )
            full.__cause__ = error
            show(full)
        finally:
            show(None)

    def _pieces(
        self, prompt: Sequence[int], writing: Writing, gone: threading.Event
    ) -> Iterator[str | Usage]:
        spelling, count = Spelling(self._words.decode), 0

        def left() -> bool:
            return gone.is_set() or self._closed.is_set()

        for token in written(self._model, prompt, writing, left):
            count += 1
            if piece := spelling.feed(token):
                yield piece
        if left():
            return
        if piece := spelling.end():
            yield piece
        yield Usage(len(prompt), count)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"The chat model {self._name} writes one answer at a time and others wait already: "
            "ask again in a moment."
        )

    def _ended(self) -> ModelUnavailable:
        return ModelUnavailable(f"The chat model {self._name} was closed: the application stops.")


def prompt_ids(words: Words, messages: Sequence[Message], *, opening: str = "") -> list[int]:
    """The prompt in ChatML, built piece by piece: a mark inside a message is ordinary text.

    Without a system message first, the model's usual one is put there; `opening` stands last.
    """
    from models.zhinao.tokenizer import encode_chat

    ids = encode_chat(
        words.tokenizer,
        [{"role": message.role, "content": message.content} for message in messages],
        default_system=DEFAULT_SYSTEM,
    )
    return [*ids, *words.ids(opening)] if opening else ids
