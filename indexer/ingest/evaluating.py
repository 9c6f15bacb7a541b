"""A collection asked its own questions: how many of them its first hits answer, and in which place."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from indexer.ingest.comparing import stored_questions
from indexer.ingest.gate import Asked
from indexer.ingest.stoppable import Stoppable
from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Result, Say
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow
from pipeline.errors import Conflict
from pipeline.evaluate import reciprocal_rank
from pipeline.retrieve import Retriever
from pipeline.types import Hit, JobId, JobKind, Query, SearchMode

TOP = 10
_MOST_MISSED = 50
_SHOWN = 200


def submit_evaluate(database: Database, jobs: Jobs, collection: str, *, top_k: int = TOP) -> JobId:
    """A job that evaluates a collection; the one that waits or runs already, if any.

    Raises NotFound, and Conflict where the collection has no questions.
    """
    if not stored_questions(database, collection):
        raise _unasked(collection)
    return jobs.submit(
        JobKind.EVALUATE, collection=collection, payload={"top_k": top_k}, alone=True
    )


class Evaluating:
    """Implements Handler. `retriever` searches as the API does; it is made when the first job comes."""

    def __init__(self, database: Database, retriever: Callable[[], Retriever]) -> None:
        self._database = database
        self._retriever = retriever
        self._asking = Stoppable()

    def run(self, claim: Claim, say: Say) -> Result:
        """Mean recall@k and reciprocal rank as collections are searched (with the reranker), by vectors alone and by
        words alone, and the questions that no first hit answers.

        Raises Conflict where there are no questions.
        """
        with self._database.read() as session:
            name = session.get_one(CollectionRow, claim.collection_id).name
        asked = stored_questions(self._database, name)
        if not asked:
            raise _unasked(name)
        top_k = int(claim.payload.get("top_k", TOP))
        say("evaluate", 0, len(asked))
        return self._asking.run(_evaluated(self._retriever(), name, asked, top_k, say))

    def interrupt(self) -> None:
        """End the question that is asked."""
        self._asking.stop()


async def _evaluated(
    retriever: Retriever, name: str, asked: Sequence[Asked], top_k: int, say: Say
) -> Mapping[str, object]:
    figures: dict[SearchMode, list[tuple[float, float]]] = {mode: [] for mode in SearchMode}
    missed: list[str] = []
    for done, each in enumerate(asked):
        say("evaluate", done, len(asked))
        for mode, rows in figures.items():
            found = await retriever.search(Query(each.question, name, top_k, mode))
            rows.append(_row(each, found.hits))
        if figures[SearchMode.HYBRID][-1][1] == 0.0:
            missed.append(each.question[:_SHOWN])
    say("evaluate", len(asked), len(asked))
    return {
        "questions": len(asked),
        "top_k": top_k,
        "modes": {
            mode.value: {
                "recall": round(mean(recall for recall, _ in rows), 4),
                "mrr": round(mean(rank for _, rank in rows), 4),
            }
            for mode, rows in figures.items()
        },
        "missed": len(missed),
        "missed_questions": missed[:_MOST_MISSED],
    }


def _row(asked: Asked, hits: Sequence[Hit]) -> tuple[float, float]:
    return asked.found(hits), reciprocal_rank([asked.answered(hit) for hit in hits])


def _unasked(collection: str) -> Conflict:
    return Conflict(
        f'the collection "{collection}" has no questions to be evaluated by: store some with zhinao questions, or '
        "PUT /collections/{name}/questions"
    )
