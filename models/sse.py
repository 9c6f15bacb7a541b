"""Server-sent events, read from bytes with a limit on how much is kept."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

DONE = "[DONE]"
"""The event that ends an OpenAI-compatible stream."""

_FIELDS = frozenset({"", "data", "event", "id", "retry"})  # "" is a comment, such as a ping


class NotEvents(ValueError):
    """The bytes are not a stream of events, or hold more than a limit allows."""


async def read_events(
    chunks: AsyncIterator[bytes], *, total_bytes: int, line_bytes: int
) -> AsyncGenerator[str, None]:
    """The data of each event, in order; an event that the end cuts off is dropped.

    Raises NotEvents for a line without a known field, for bytes that are not UTF-8, for more than
    `total_bytes` in all or `line_bytes` in one line. Format: WHATWG HTML, 9.2.6. Lines end at
    `\\n` or `\\r\\n` only, because JSON may hold the other line breaks of Unicode.
    """
    data: list[str] = []
    async with aclosing(_lines(chunks, total_bytes, line_bytes)) as lines:
        async for line in lines:
            field, _, value = line.partition(":")
            if not line:
                if data:
                    yield "\n".join(data)
                data = []
            elif field not in _FIELDS:
                raise NotEvents("a line without a known field")
            elif field == "data":
                data.append(value.removeprefix(" "))


async def _lines(
    chunks: AsyncIterator[bytes], total_bytes: int, line_bytes: int
) -> AsyncGenerator[str, None]:
    rest = b""
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        if received > total_bytes or max(map(len, (*lines, rest))) > line_bytes:
            raise NotEvents("too many bytes")
        for line in lines:
            try:
                yield line.removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise NotEvents("not UTF-8") from error
