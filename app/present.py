"""Values to the JSON of the API."""

from collections.abc import Mapping

from app.job_schemas import JobOut
from app.schemas import (
    AskResponse,
    BoxOut,
    CitationOut,
    CollectionOut,
    DocumentOut,
    HitOut,
    MembersOut,
    SentenceOut,
    SimilarOut,
    UsageOut,
)
from indexer.catalog.views import CollectionView, DocumentView
from pipeline.rows import cited
from pipeline.types import Answer, AnswerMode, Hit, Job


def hit_out(rank: int, hit: Hit) -> HitOut:
    chunk = hit.chunk
    table, cells = cited(chunk.text, chunk.tables)
    return HitOut(
        rank=rank,
        chunk_id=chunk.id,
        document_id=chunk.document,
        version=chunk.version,
        filename=chunk.name,
        page=hit.page or chunk.page,
        heading=list(chunk.heading),
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        table=table,
        cells=cells,
        score=round(hit.score, 6),
        scores={leg.value: round(score, 6) for leg, score in hit.scores.items()},
    )


def answer_out(answer: Answer, timings_ms: Mapping[str, float]) -> AskResponse:
    return AskResponse(
        id=answer.id,
        answer=answer.text,
        sentences=[
            SentenceOut(
                text=s.text, markers=list(s.markers), support=s.support, verdict=s.verdict.value
            )
            for s in answer.sentences
        ],
        citations=[
            CitationOut(
                marker=c.marker,
                document_id=c.document,
                version=c.version,
                filename=c.name,
                page=c.page,
                heading=list(c.heading),
                quote=c.quote,
                start=c.start,
                end=c.end,
                chunk_id=c.chunk,
                boxes=[BoxOut(page=b.page, x0=b.x0, y0=b.y0, x1=b.x1, y1=b.y1) for b in c.boxes],
                table=c.table,
                cells=c.cells,
            )
            for c in answer.citations
        ],
        mode="document" if answer.mode is AnswerMode.DOCUMENT else "chunks",
        refused=answer.refused,
        model=answer.model,
        usage=UsageOut(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        ),
        timings_ms=dict(timings_ms),
    )


def document_out(view: DocumentView) -> DocumentOut:
    return DocumentOut(
        id=view.id,
        collection=view.collection,
        filename=view.name,
        title=view.title,
        version=view.live,
        versions=list(view.versions),
        media_type=view.media_type,
        size=view.size,
        pages=view.pages,
        chunks=view.chunks,
        status=view.status,
        error=view.error,
        job_id=view.job,
        similar=[
            SimilarOut(document_id=id_, filename=name, share=round(share, 3))
            for id_, name, share in view.similar
        ],
        parent=view.parent,
        members=view.members and MembersOut(total=view.members.total, read=view.members.read),
        source=view.source,
        created=view.created,
        updated=view.updated,
    )


def job_out(job: Job) -> JobOut:
    return JobOut(
        id=job.id,
        kind=job.kind.value,
        status=job.status.value,
        stage=job.stage,
        done=job.done,
        total=job.total,
        error=job.error,
        error_type=job.error_type,
        collection=job.collection,
        document_id=job.document,
        filename=job.filename,
        parent=job.parent,
        attempts=job.attempts,
        created=job.created,
        updated=job.updated,
        payload=dict(job.payload),
        result=dict(job.result),
    )


def collection_out(view: CollectionView) -> CollectionOut:
    return CollectionOut(
        name=view.name,
        rerank=view.rerank,
        documents=view.documents,
        chunks=view.chunks,
        created=view.created,
    )
