"""The terms of a generation in Milvus: their numbers, in how many rows each stands, and how rows are weighed.

Milvus knows dimensions, not words, and shows no frequencies: SQL gives each term a number, once, and counts its rows
in the transaction that makes them live.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, delete, func, insert, update
from sqlmodel import Session, col, select

from indexer.sql.database import Database
from indexer.sql.tables import WordRow
from pipeline.analyze import saturate

EVERY = ""
"""A term of every row, so that no row is empty; its count is the number of rows."""
MEAN = 150.0
"""Terms of a chunk, where no chunk is there to measure: chunks are cut to a length."""
_VARIABLES = 500
_LONG = 200


def saturated(terms: Iterable[str], mean: float) -> dict[str, float]:
    """The saturated frequency of each term of a row (pipeline/analyze.py), between 0 and 1; EVERY has 1.

    >>> saturated(["a", "a", "b"], 3.0)
    {'a': 0.625, 'b': 0.45454545454545453, '': 1.0}
    """
    counts = Counter(terms)
    length = counts.total()
    found = {term: saturate(count, length, mean) for term, count in counts.items()}
    return found | {EVERY: 1.0}


class Vocabulary:
    """The terms of one generation. Reading methods open a session of their own."""

    def __init__(self, database: Database, generation_id: int) -> None:
        self._database = database
        self._generation_id = generation_id

    def numbers(self, terms: Sequence[str]) -> dict[str, int]:
        """The numbers of the terms that have one."""
        with self._database.read() as session:
            return {term: row.number for term, row in self._rows(session, terms).items()}

    def frequencies(self, terms: Sequence[str]) -> tuple[list[int], int]:
        """In how many rows each term stands, and how many rows there are."""
        with self._database.read() as session:
            rows = self._rows(session, [*terms, EVERY])
        counts = {term: row.rows for term, row in rows.items()}
        return [counts.get(term, 0) for term in terms], counts.get(EVERY, 0)

    def number(self, session: Session, terms: Iterable[str]) -> dict[str, int]:
        """The numbers of all these terms and EVERY, given now to those that have none.

        Only the generation's publisher calls it. A number is never given again.
        """
        wanted = {EVERY, *terms}
        numbers = {term: row.number for term, row in self._rows(session, list(wanted)).items()}
        last = session.exec(
            select(func.max(WordRow.number)).where(WordRow.generation_id == self._generation_id)
        ).one()
        new = sorted(wanted - numbers.keys())
        given = dict(zip(new, range((last or 0) + 1, (last or 0) + 1 + len(new)), strict=True))
        if given:
            session.execute(
                insert(WordRow),
                [
                    {
                        "generation_id": self._generation_id,
                        "term": _key(term),
                        "number": number,
                        "rows": 0,
                    }
                    for term, number in given.items()
                ],
            )
        return numbers | given

    def count(self, session: Session, changes: Mapping[int, int]) -> None:
        """Add to the rows of each term, by its number."""
        table = WordRow.__table__  # type: ignore[attr-defined]
        some = [{"at": number, "more": more} for number, more in sorted(changes.items()) if more]
        if some:
            session.connection().execute(
                update(table)
                .where(
                    table.c.generation_id == self._generation_id, table.c.number == bindparam("at")
                )
                .values(rows=table.c.rows + bindparam("more")),
                some,
            )

    def recount(self, session: Session, counts: Mapping[int, int]) -> None:
        """The rows of each term, by its number, are these and no others."""
        session.execute(
            update(WordRow).where(col(WordRow.generation_id) == self._generation_id).values(rows=0)
        )
        self.count(session, counts)

    def forget(self, session: Session) -> None:
        """Remove all terms: the generation leaves Milvus."""
        session.execute(delete(WordRow).where(col(WordRow.generation_id) == self._generation_id))

    def _rows(self, session: Session, terms: Sequence[str]) -> dict[str, WordRow]:
        found: dict[str, WordRow] = {}
        keys = {_key(term): term for term in terms}
        for start in range(0, len(keys), _VARIABLES):
            some = list(keys)[start : start + _VARIABLES]
            rows = session.exec(
                select(WordRow).where(
                    WordRow.generation_id == self._generation_id, col(WordRow.term).in_(some)
                )
            ).all()
            found.update((keys[row.term], row) for row in rows)
        return found


def _key(term: str) -> str:
    """The term as its row names it: a long one by its beginning and digest, as an index of SQL has limits.

    >>> _key("walrus"), len(_key("x" * 5000))
    ('walrus', 96)
    """
    if len(term) <= _LONG:
        return term
    return term[:32] + hashlib.sha256(term.encode()).hexdigest()
