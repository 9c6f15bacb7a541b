"""`/collections`."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.cursor import decode, encode
from app.present import collection_out
from app.schemas import (
    CollectionOut,
    CollectionQuestion,
    CollectionRequest,
    CollectionsResponse,
    QuestionsRequest,
    QuestionsResponse,
)
from app.state import Given
from indexer.catalog.questions import Wanted, questions_of, store_questions
from indexer.catalog.views import CollectionView
from indexer.sql.database import Database

router = APIRouter(prefix="/collections", tags=["collections"])


@router.get("")
async def collections(
    state: Given,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> CollectionsResponse:
    """A page of collections, by name."""
    after = decode(cursor)
    views = await asyncio.to_thread(state.services.core.catalog.collections)
    page, last = cut(views, limit, None if after is None else after[1])
    following = None if last is None else encode((last.created, last.name))
    return CollectionsResponse(collections=[collection_out(v) for v in page], next_cursor=following)


@router.post("", status_code=201)
async def create(request: CollectionRequest, state: Given) -> CollectionOut:
    """A new, empty collection."""
    catalog = state.services.core.catalog
    view = await asyncio.to_thread(catalog.create_collection, request.name, rerank=request.rerank)
    return collection_out(view)


@router.get("/{name:path}/questions")
async def questions(name: str, state: Given) -> QuestionsResponse:
    """The questions that a collection is judged by, when it is evaluated and when it is indexed anew."""
    return await asyncio.to_thread(_questions, state.services.core.database, name)


@router.put("/{name:path}/questions")
async def put_questions(name: str, request: QuestionsRequest, state: Given) -> QuestionsResponse:
    """Put questions in the place of those that are there. One whose documents are all deleted goes with them."""
    wanted = [
        Wanted(each.question, tuple(each.document_ids), tuple(each.filenames), each.passage)
        for each in request.questions
    ]
    database = state.services.core.database
    await asyncio.to_thread(store_questions, database, name, wanted)
    return await asyncio.to_thread(_questions, database, name)


def _questions(database: Database, name: str) -> QuestionsResponse:
    return QuestionsResponse(
        questions=[
            CollectionQuestion(
                question=each.text,
                document_ids=list(each.documents),
                filenames=list(each.documents.values()),
                passage=each.passage,
            )
            for each in questions_of(database, name)
        ]
    )


@router.delete("/{name:path}", status_code=204, response_class=Response)
async def delete(name: str, state: Given) -> None:
    """A collection with all its documents, gone at once."""
    await asyncio.to_thread(state.services.core.catalog.delete_collection, name)


def cut(
    views: Sequence[CollectionView], limit: int, after: str | None
) -> tuple[list[CollectionView], CollectionView | None]:
    """The next `limit` collections whose names follow `after`, in the order of code points.

    The second value is the last of them where more follow.
    """
    rest = sorted((v for v in views if after is None or v.name > after), key=lambda v: v.name)
    page = rest[:limit]
    return page, page[-1] if len(rest) > limit else None
