"""Find the refusal threshold: `python -m bench.calibrate DATA [SET...]`.

DATA is a data folder that `bench.quality --data DATA retrieval` has filled. Prints, for each set and for all, how well
the best sentence's score tells answerable questions from others (AUROC), and what each threshold declines of both.
"""

import asyncio
import sys
from pathlib import Path
from statistics import mean

import numpy as np

from app.settings import load
from app.wiring import build_services
from bench.sets import Asked, load_set
from pipeline.answer import Answerer
from pipeline.retrieve import Retriever
from pipeline.types import Query

NAMES = ("xquad-zh", "xquad-en", "cmrc2018-trial")
LOST = (0.01, 0.02, 0.03, 0.05)


async def best_score(
    retriever: Retriever, answerer: Answerer, asked: Asked, collection: str
) -> float:
    """The score that a refusal is decided by."""
    found = await retriever.search(Query(asked.text, collection, top_k=3))
    evidence = await answerer.evidence(asked.text, found)
    return evidence[0].score if evidence else -1.0


def auroc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The chance that an answerable question scores above an unanswerable one."""
    return float(mean((right > w).mean() + 0.5 * (right == w).mean() for w in wrong))


def report(name: str, right: np.ndarray, wrong: np.ndarray) -> None:
    print(f"\n{name}: {len(right)} answerable, {len(wrong)} not; AUROC {auroc(right, wrong):.3f}")
    for lost in LOST:
        threshold = float(np.quantile(right, lost))
        print(
            f"  {lost:.0%} lost: threshold {threshold:.4f} declines {(wrong < threshold).mean():.2f}"
        )


async def main() -> None:
    services = build_services(load(data=Path(sys.argv[1])))
    every_right, every_wrong = [], []
    for name in sys.argv[2:] or NAMES:
        given = load_set(name)
        scores = [
            np.asarray(
                [await best_score(services.retriever, services.answerer, q, name) for q in group]
            )
            for group in (given.answerable, given.unanswerable)
        ]
        report(name, *scores)
        every_right.append(scores[0])
        every_wrong.append(scores[1])
    right, wrong = np.concatenate(every_right), np.concatenate(every_wrong)
    report("together", right, wrong)
    print("\nOne threshold for all, what each set loses and declines:")
    for threshold in np.quantile(right, (0.01, 0.02, 0.03, 0.04)):
        parts = [
            f"{(r < threshold).mean():.3f}/{(w < threshold).mean():.2f}"
            for r, w in zip(every_right, every_wrong, strict=True)
        ]
        print(f"  {threshold:.4f}: {', '.join(parts)}")
    await services.stop()
    services.close()


if __name__ == "__main__":
    asyncio.run(main())
