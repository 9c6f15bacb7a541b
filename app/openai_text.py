"""From a model's pieces to what `/v1` sends: stop strings, the reason of the end, the events of a stream."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from app.openai_schemas import UsageV1
from pipeline.ports import ChatModel
from pipeline.types import Usage

Reason = Literal["stop", "length"]


class StopStrings:
    """Passes text on until one of the strings comes; what may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met = False

    def feed(self, piece: str) -> str:
        """The text that is certain now. Once `met`, nothing more."""
        if self.met:
            return ""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """What was held back and is text after all."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a text."""

    reason: Reason
    usage: Usage


async def limited(
    pieces: AsyncGenerator[str | Usage, None],
    *,
    stops: Sequence[str],
    most_tokens: int,
    model: ChatModel,
    read: str,
) -> AsyncGenerator[str | Ended, None]:
    """The pieces up to a stop string, then Ended, once.

    A stop string ends the model's writing; tokens are then counted here, over `read` and the text.
    """
    stopping = StopStrings(stops)
    usage: Usage | None = None
    written: list[str] = []
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Usage):
                usage = piece
                continue
            written.append(piece)
            if text := stopping.feed(piece):
                yield text
            if stopping.met:
                break
    if text := stopping.end():
        yield text
    if usage is None:
        usage = Usage(model.count_tokens(read), model.count_tokens("".join(written)))
    full = not stopping.met and usage.completion_tokens >= most_tokens
    yield Ended("length" if full else "stop", usage)


def usage_out(usage: Usage) -> UsageV1:
    read, written = usage.prompt_tokens, usage.completion_tokens
    return UsageV1(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every event of one answer carries."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        return f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"

    def begin(self) -> dict[str, Any] | None:
        """The first event of a chat stream."""
        return self._event({"role": "assistant", "content": ""}) if self.chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """A piece of the text."""
        return self._event({"content": text} if self.chat else text)

    def end(self, reason: Reason, **more: object) -> dict[str, Any]:
        """The last event with a choice."""
        return {**self._event({} if self.chat else "", reason), **more}

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The event of `stream_options.include_usage`."""
        return {**self._frame(), "choices": [], "usage": usage_out(usage).model_dump()}

    def _event(self, written: object, reason: Reason | None = None) -> dict[str, Any]:
        kind = "delta" if self.chat else "text"
        choice = {"index": 0, kind: written, "finish_reason": reason, "logprobs": None}
        return {**self._frame(), "choices": [choice]}

    def _frame(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model}
