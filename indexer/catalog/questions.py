"""The questions that a collection is judged by, each with the documents that answer it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from indexer.catalog.catalog import collection_row
from indexer.catalog.removal import forget_questions
from indexer.sql.database import Database
from indexer.sql.tables import DocumentRow, ExpectedRow, QuestionRow, known
from pipeline.errors import InvalidInput
from pipeline.types import DocumentId


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question as it is given: documents by id or by name, and words of the passage that answers it, if any."""

    text: str
    documents: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    passage: str | None = None


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """A stored question; `documents` are the names of those that answer it by their ids."""

    text: str
    documents: Mapping[DocumentId, str]
    passage: str | None


def store_questions(database: Database, collection: str, wanted: Sequence[Wanted]) -> None:
    """Put these questions in the place of the collection's; all are stored, or none.

    Raises NotFound, and InvalidInput where a question is empty or its documents are not in the collection.
    """
    with database.write() as session:
        owner = collection_row(session, collection, lock=True).id
        rows = session.execute(
            select(DocumentRow.id, DocumentRow.name).where(DocumentRow.collection_id == owner)
        ).all()
        ids, by_name = {row.id for row in rows}, {row.name: row.id for row in rows}
        forget_questions(session, owner)
        for number, each in enumerate(wanted, 1):
            expected = _expected(each, number, ids, by_name)
            row = QuestionRow(collection_id=owner, text=each.text, passage=each.passage or None)
            session.add(row)
            session.flush()
            question = known(row.id)
            session.add_all(
                ExpectedRow(question_id=question, document_id=document) for document in expected
            )


def _expected(
    each: Wanted, number: int, ids: set[str], by_name: Mapping[str, str]
) -> Sequence[str]:
    if not each.text.strip():
        raise InvalidInput(f"question {number} is empty")
    if "\0" in each.text + (each.passage or ""):
        raise InvalidInput(f"question {number} has a character U+0000: leave it out")
    missing = [name for name in each.names if name not in by_name]
    missing += [document for document in each.documents if document not in ids]
    if missing:
        raise InvalidInput(
            f'question {number}, "{each.text[:60]}", expects "{missing[0]}", which is no document of this collection: '
            "name its documents as GET /documents does"
        )
    found = dict.fromkeys([*each.documents, *(by_name[name] for name in each.names)])
    if not found:
        raise InvalidInput(
            f'question {number}, "{each.text[:60]}", names no document that answers it'
        )
    return list(found)


def questions_of(database: Database, collection: str) -> list[KnownQuestion]:
    """The questions of a collection, in the order in which they were given. Raises NotFound."""
    with database.read() as session:
        owner = collection_row(session, collection).id
        rows = session.exec(
            select(QuestionRow)
            .where(QuestionRow.collection_id == owner)
            .order_by(col(QuestionRow.id))
        ).all()
        found = session.execute(
            select(ExpectedRow.question_id, DocumentRow.id, DocumentRow.name)
            .join(DocumentRow, col(DocumentRow.id) == col(ExpectedRow.document_id))
            .where(DocumentRow.collection_id == owner)
            .order_by(DocumentRow.name)
        ).all()
    documents: dict[int, dict[DocumentId, str]] = {}
    for question_id, document_id, name in found:
        documents.setdefault(question_id, {})[DocumentId(document_id)] = name
    return [
        KnownQuestion(row.text, documents[known(row.id)], row.passage)
        for row in rows
        if known(row.id) in documents
    ]
