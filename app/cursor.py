"""Cursors of pages: opaque to the caller, a creation time and an id inside."""

import base64
import binascii

from indexer.catalog.catalog import Cursor
from pipeline.errors import InvalidInput


def encode(cursor: Cursor | None) -> str | None:
    if cursor is None:
        return None
    return base64.urlsafe_b64encode(f"{cursor[0]!r}:{cursor[1]}".encode()).decode()


def decode(text: str | None) -> Cursor | None:
    """Raises InvalidInput for what `encode` did not make."""
    if text is None:
        return None
    try:
        created, _, row_id = base64.urlsafe_b64decode(text.encode()).decode().partition(":")
        return float(created), row_id
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            "the cursor is wrong: use next_cursor of the page before, unchanged"
        ) from error
