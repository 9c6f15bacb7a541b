"""`/collections`."""

import asyncio

from fastapi import APIRouter, Response

from app.present import collection_out
from app.schemas import CollectionOut, CollectionRequest, CollectionsResponse
from app.state import Given

router = APIRouter(prefix="/collections", tags=["collections"])


@router.get("")
async def collections(state: Given) -> CollectionsResponse:
    """All collections, by name."""
    views = await asyncio.to_thread(state.services.core.catalog.collections)
    return CollectionsResponse(collections=[collection_out(v) for v in views], next_cursor=None)


@router.post("", status_code=201)
async def create(request: CollectionRequest, state: Given) -> CollectionOut:
    """A new, empty collection."""
    catalog = state.services.core.catalog
    view = await asyncio.to_thread(catalog.create_collection, request.name, rerank=request.rerank)
    return collection_out(view)


@router.delete("/{name}", status_code=204, response_class=Response)
async def delete(name: str, state: Given) -> None:
    """A collection with all its documents, gone at once."""
    await asyncio.to_thread(state.services.core.catalog.delete_collection, name)
