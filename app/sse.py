"""Server-sent events as they come over the wire."""

from collections.abc import AsyncIterator


async def server_sent_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str]]:
    """(event, data) pairs of a `text/event-stream` whose lines end with LF or CRLF.

    Lines are cut on bytes: U+2028 and its like are line breaks to `str.splitlines`, not to the protocol.
    """
    buffer = b""
    name, data = "message", list[str]()
    async for piece in pieces:
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8")
            if not line:
                if data:
                    yield name, "\n".join(data)
                name, data = "message", []
                continue
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "event":
                name = value
            elif key == "data":
                data.append(value)
