"""How much faster batches of the right size are, on tiny random 360Zhinao models. Prints a Markdown table.

    python -m bench.models

Exits with 1 when a floor is missed: the reranker pads 5 times fewer tokens and is 4 times faster than the published
recipe (every pair padded to 1024 tokens, batches by count) on the same weights; the embedder's batches waste under 5 %
of their tokens; and 64 embeddings asked for at the same moment cost 1.3 times one batch of 64 at most.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.batch import Budget, batches
from models.checkpoint.score_position import ScorePosition
from models.zhinao_embed import ZhinaoEmbedder
from models.zhinao_folder import Words
from models.zhinao_rerank import Prompt, ZhinaoReranker
from pipeline.ports import EncodedQuery
from pipeline.types import Chunk, ChunkId, DocumentId, Hit, Key, Passage, Script

T = TypeVar("T")
_PAIRS, _SINGLES, _ROUNDS = 100, 64, 5
_FIXED, _COUNT = 1024, 16
_HAN = (
    "空气净化器的主机保修期为三十六个月滤网建议每六个月更换一次员工满一年有五天年假"
    "维中心设在杭州市长江全里"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `good` says whether the floor is kept."""

    what: str
    reference: str
    ours: str
    measured: str
    floor: str
    good: bool


def main() -> None:
    """Writes the models into a temporary folder, measures, prints."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fixtures"))
    tiny_zhinao = import_module("tiny_zhinao")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rerank = tiny_zhinao.write_reranker(folder / "reranker")
        search = tiny_zhinao.write_search(folder / "search")
        rows = [*asyncio.run(_reranking(rerank)), *asyncio.run(_embedding(search))]
    print("| what | reference | ours | measured | floor |")
    print("|---|---|---|---|---|")
    for row in rows:
        missed = "" if row.good else " **missed**"
        print(
            f"| {row.what} | {row.reference} | {row.ours} | {row.measured}{missed} | {row.floor} |"
        )
    sys.exit(0 if all(row.good for row in rows) else 1)


def passages(count: int, dice: np.random.Generator) -> list[str]:
    """Han texts with lengths as chunks have them: 20 to 400 characters, most around 120."""
    lengths = np.clip(dice.lognormal(np.log(120), 0.5, count), 20, 400).astype(int)
    letters = list(_HAN)
    return ["".join(dice.choice(letters, length)) for length in lengths]


async def _reranking(folder: Path) -> list[Row]:
    import torch

    dice = np.random.default_rng(7)
    texts = passages(_PAIRS, dice)
    query = "空气净化器的主机保修期多长？"
    words = Words.load(folder)
    own = ZhinaoReranker.load(folder, device="cpu")
    prompt = Prompt(words, ScorePosition.LAST)
    whole = [prompt.row(query, text) for text in texts]
    right = [Prompt(words, ScorePosition.BEFORE_PLACEHOLDER).row(query, text) for text in texts]
    model, head = own._backbone, own._head  # noqa: SLF001  (the same weights, another recipe)

    def published() -> list[float]:
        """As the published script does: all to 1024, sixteen at a time, a mask over the padding."""
        scores: list[float] = []
        for first in range(0, len(whole), _COUNT):
            part = whole[first : first + _COUNT]
            ids = torch.tensor([[*row, *[0] * (_FIXED - len(row))] for row in part])
            sizes = torch.tensor([len(row) for row in part])
            mask = torch.arange(_FIXED)[None, :] < sizes[:, None]
            with torch.inference_mode():
                states = model(
                    input_ids=ids, attention_mask=mask.long(), use_cache=False
                ).last_hidden_state
                read = states[torch.arange(len(part)), sizes - 4].float()
                scores += torch.sigmoid(read @ head).tolist()
        return scores

    hits = [_hit(number, text) for number, text in enumerate(texts)]
    asked = EncodedQuery(query, np.zeros(1, np.float32), None, {})

    async def theirs() -> list[float]:
        return published()

    slow, before = await _timed(theirs, rounds=2)
    fast, after = await _timed(lambda: own.score(asked, hits), rounds=_ROUNDS)
    own.close()
    apart = max(abs(a - b) for a, b in zip(before, after, strict=True))
    if apart > 1e-4:
        raise SystemExit(f"the two recipes disagree by {apart:.1e}: the figures would mean nothing")
    lengths = [len(row) for row in right]
    reference = _FIXED * len(whole) - sum(map(len, whole))
    planned = batches(lengths, Budget())
    ours = sum(max(lengths[i] for i in part) * len(part) for part in planned) - sum(lengths)
    fewer, faster = reference / max(1, ours), slow / fast
    return [
        Row(
            "padding of 100 pairs, tokens",
            f"{reference:,}",
            f"{ours:,}",
            f"{fewer:.0f}x fewer",
            "5x",
            fewer >= 5,
        ),
        Row(
            "reranking 100 pairs, ms",
            f"{slow * 1000:.0f}",
            f"{fast * 1000:.0f}",
            f"{faster:.1f}x faster",
            "4x",
            faster >= 4,
        ),
    ]


async def _embedding(folder: Path) -> list[Row]:
    dice = np.random.default_rng(11)
    embedder = ZhinaoEmbedder.load(folder, device="cpu")
    lengths = [embedder.count_tokens(text) for text in passages(500, dice)]
    planned = batches(lengths, Budget())
    padded = sum(max(lengths[i] for i in part) * len(part) for part in planned)
    waste = 1 - sum(lengths) / padded
    by_count = [as_they_come(lengths[first : first + 32]) for first in range(0, len(lengths), 32)]
    usual = 1 - sum(lengths) / sum(by_count)
    texts = [Passage("", text) for text in passages(_SINGLES, dice)]

    async def together() -> object:
        return await embedder.embed_passages(texts)

    async def singles() -> object:
        return await asyncio.gather(*(embedder.embed_passages([text]) for text in texts))

    one, _ = await _timed(together, rounds=2 * _ROUNDS)
    many, _ = await _timed(singles, rounds=2 * _ROUNDS)
    embedder.close()
    ratio = many / one
    return [
        Row(
            "padding of 500 passages, share",
            f"{usual:.0%}",
            f"{waste:.1%}",
            f"{waste:.1%}",
            "under 5 %",
            waste < 0.05,
        ),
        Row(
            "64 single embeddings at once, ms",
            f"{one * 1000:.0f} (one call of 64)",
            f"{many * 1000:.0f}",
            f"{ratio:.2f}x",
            "1.3x",
            ratio <= 1.3,
        ),
    ]


def as_they_come(lengths: Sequence[int]) -> int:
    """Tokens of a batch in the order of arrival, padding included."""
    return max(lengths) * len(lengths)


async def _timed(call: Callable[[], Awaitable[T]], *, rounds: int) -> tuple[float, T]:
    """The best of some rounds after one to warm up, in seconds, and the result."""
    result = await call()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        await call()
        best = min(best, time.perf_counter() - start)
    return best, result


def _hit(number: int, text: str) -> Hit:
    chunk = Chunk(
        ChunkId(str(number)), Key(number), DocumentId("d"), "d", 1, text, 0, len(text), None, (), "", Script.HAN
    )  # fmt: skip
    return Hit(chunk, 0.0)


if __name__ == "__main__":
    main()
