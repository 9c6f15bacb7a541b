"""`POST /search`."""

from time import perf_counter

from fastapi import APIRouter

from app.present import hit_out
from app.schemas import SearchRequest, SearchResponse
from app.state import Given
from pipeline.errors import InvalidInput
from pipeline.types import DocumentId, Query, SearchMode

router = APIRouter(tags=["search"])


@router.post("/search")
async def search(request: SearchRequest, state: Given) -> SearchResponse:
    """The best chunks for a query, with the score of every leg."""
    if not request.query.strip():
        raise InvalidInput("the query is empty: type some words")
    started = perf_counter()
    documents = request.document_ids
    found = await state.services.retriever.search(
        Query(
            request.query,
            request.collection,
            request.top_k,
            SearchMode(request.mode),
            request.rerank,
            None if documents is None else tuple(map(DocumentId, documents)),
        )
    )
    total = round((perf_counter() - started) * 1000, 3)
    return SearchResponse(
        hits=[hit_out(rank, hit) for rank, hit in enumerate(found.hits, 1)],
        timings_ms={**(found.timings_ms if request.explain else {}), "total": total},
    )
