"""A generation for oneself: neither a publish nor a merge runs in it meanwhile."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from indexer.index.commit import Target
from indexer.jobs.lease import Lease, holding
from indexer.sql.database import Database
from pipeline.errors import Unavailable

_WAIT_S = 120.0
_POLL_S = 0.1


@contextmanager
def alone_in(database: Database, target: Target) -> Iterator[Lease]:
    """The publish lease, with the merge lease held beside it.

    Raises Unavailable when others hold them for two minutes.
    """
    end = time.monotonic() + _WAIT_S
    while True:
        with ExitStack() as stack:
            number = target.generation_id
            merging = stack.enter_context(holding(database, f"merge {number}"))
            if merging is not None:
                held = stack.enter_context(holding(database, f"publish {number}"))
                if held is not None:
                    yield held
                    return
        if time.monotonic() > end:
            raise Unavailable(
                "the collection is published to or merged without a pause: try again when fewer files come in"
            )
        time.sleep(_POLL_S)
