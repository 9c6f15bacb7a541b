"""What a database refuses, told apart by its driver's codes, with the sentence that says what mends it."""

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError

_RESTORE = "stop the server and bring a backup back with zhinao restore FOLDER --force"
_PG_READ_ONLY = "25006"
_PG_NOT_SUPPORTED = "0A000"
_PG_LOCKED = "55P03"  # lock_not_available


def is_state(error: DBAPIError, *, writing: bool) -> bool:
    """Whether it is the state of the database, and no mistake of ours: as it is to write where one only reads."""
    known = isinstance(error, OperationalError) or error.connection_invalidated
    return known or _is_damaged(error) or (writing and _is_read_only(error))


def mended(error: DBAPIError, name: str, *, sqlite: bool) -> str:
    """What happened to the database of this name, and what to do."""
    told = said(error)
    if _is_read_only(error):
        return f"the database {name} takes no writes ({told}): let this user write it, or mend the disk under it"
    if getattr(error.orig, "sqlstate", None) == _PG_LOCKED:
        return f"another program holds the database's rows ({told}): end it, or try again"
    if not sqlite:
        return (
            f"the database {name} does not answer ({told}): check that PostgreSQL runs there and takes this user, then "
            "try again"
        )
    if _is_damaged(error):
        return damaged(name, told)
    if "locked" in told:
        return (
            f"another program holds the database ({told}): end what has {name} open, or try again"
        )
    return f"the database does not answer ({told}): check the disk's free space, then try again"


def damaged(name: str, told: str) -> str:
    """A SQLite file with a broken page, or with bytes that are none of SQLite's."""
    return f"the database {name} is damaged ({told}): {_RESTORE}"


def said(error: DBAPIError) -> str:
    """The first line of what the driver said, which never has the password."""
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__


def _is_damaged(error: DBAPIError) -> bool:
    return _sqlite_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_read_only(error: DBAPIError) -> bool:
    """The file or its disk may not be written; PostgreSQL is a standby, or told to take no writes."""
    if _sqlite_code(error) == sqlite3.SQLITE_READONLY:
        return True
    state = getattr(error.orig, "sqlstate", None)
    return state == _PG_READ_ONLY or (state == _PG_NOT_SUPPORTED and "recovery" in said(error))


def _sqlite_code(error: DBAPIError) -> int:
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF
