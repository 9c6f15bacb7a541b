"""Leases in SQL: one owner at a time, and a fencing token that rises with every owner."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlmodel import Session

from indexer.sql.database import Database, add_missing
from indexer.sql.locks import locked
from indexer.sql.tables import LeaseRow
from pipeline.errors import Unavailable

_TERM_S = 30.0
_RENEW_S = 8.0


class LostLease(Unavailable):
    """The lease ran out, and another owner took it."""


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
            except LostLease:
                return  # the holder's next check says so
            except Unavailable:
                continue  # the database is busy or gone for a moment

    thread = threading.Thread(target=renew, name=name, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()
        release(database, held)


def check(session: Session, held: Lease) -> None:
    """Raise LostLease when the lease has gone to another owner; extends it otherwise.

    Nobody takes the lease while the session is open: what it writes is written by the owner.
    """
    row = locked(session, LeaseRow, held.name)
    if row is None or row.token != held.token or row.owner != held.owner:
        raise LostLease(
            f"{held.name} went to another process while this one worked: the work is done again"
        )
    row.until = time.time() + _TERM_S
    session.add(row)


def acquire(database: Database, name: str) -> Lease | None:
    """Take a lease for half a minute; None while another owner holds it."""
    with database.read() as session:
        known = session.get(LeaseRow, name)
        if known is not None and known.owner and known.until > time.time():
            return None
    with database.write() as session:
        add_missing(session, LeaseRow, {"name": name, "owner": "", "token": 0, "until": 0.0})
        row = locked(session, LeaseRow, name)
        if row is None or (row.owner and row.until > time.time()):
            return None
        row.owner, row.token, row.until = uuid.uuid4().hex, row.token + 1, time.time() + _TERM_S
        session.add(row)
        return Lease(name, row.owner, row.token)


def release(database: Database, held: Lease) -> None:
    """Let a lease go; does nothing when it has gone to another owner."""
    with database.write() as session:
        row = locked(session, LeaseRow, held.name)
        if row is not None and row.owner == held.owner:
            row.owner, row.until = "", 0.0
            session.add(row)
