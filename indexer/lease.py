"""Leases in SQL: one owner at a time, and a fencing token that rises with every owner."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlmodel import Session

from indexer.database import Database
from indexer.tables import LeaseRow
from pipeline.errors import Unavailable

_TERM_S = 30.0
_RENEW_S = 8.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Held by `owner` until `until` unless renewed."""

    name: str
    owner: str
    token: int


@contextmanager
def holding(database: Database, name: str) -> Iterator[Lease | None]:
    """Hold a lease for the block, renewed by a thread; None while another owner has it."""
    held = acquire(database, name)
    if held is None:
        yield None
        return
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_S):
            try:
                with database.write() as session:
                    check(session, held)
            except Unavailable:
                return  # lost: the holder's next check says so

    thread = threading.Thread(target=renew, name=name, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        release(database, held)


def check(session: Session, held: Lease) -> None:
    """Raise Unavailable when the lease has gone to another owner; extends it otherwise."""
    row = session.get(LeaseRow, held.name)
    if row is None or row.token != held.token or row.owner != held.owner:
        raise Unavailable(
            f"{held.name} went to another process while this one worked: the work is done again"
        )
    row.until = time.time() + _TERM_S
    session.add(row)


def acquire(database: Database, name: str) -> Lease | None:
    """Take a lease for half a minute; None while another owner holds it."""
    now = time.time()
    with database.read() as session:
        known = session.get(LeaseRow, name)
        if known is not None and known.owner and known.until > now:
            return None
    with database.write() as session:
        row = session.get(LeaseRow, name) or LeaseRow(name=name, owner="", token=0, until=0.0)
        if row.owner and row.until > now:
            return None
        row.owner, row.token, row.until = uuid.uuid4().hex, row.token + 1, now + _TERM_S
        session.add(row)
        return Lease(name, row.owner, row.token)


def release(database: Database, held: Lease) -> None:
    """Let a lease go; does nothing when it has gone to another owner."""
    with database.write() as session:
        row = session.get(LeaseRow, held.name)
        if row is not None and row.owner == held.owner:
            row.owner, row.until = "", 0.0
            session.add(row)
