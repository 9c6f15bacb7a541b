"""Fit the background of the bundled embedder: `python -m bench.fit_background`.

Reads our own texts in bench/background (a blank line between paragraphs) and writes models/data/e5_background.npz:
the mean passage vector of each script, and the share of paragraphs that hold a term (terms of two paragraphs at least).
"""

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np

from models.bundled import ensure_e5
from models.calibration import BACKGROUND
from models.embed import E5Embedder
from pipeline.analyze import script_of, terms
from pipeline.types import Passage, Script

_ROOT = Path(__file__).parent.parent
_TEXTS = {Script.HAN: "zh.txt", Script.LATIN: "en.txt"}


def main() -> None:
    embedder = E5Embedder.load(ensure_e5(_ROOT / ".cache" / "models"), threads=2)
    means, shares = [], {}
    for script, name in _TEXTS.items():
        text = (_ROOT / "bench" / "background" / name).read_text(encoding="utf-8")
        paragraphs = [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]
        embedded = asyncio.run(embedder.embed_passages([Passage("", p) for p in paragraphs]))
        means.append(embedded.vectors.mean(axis=0))
        counts = Counter(term for p in paragraphs for term in set(terms(p)))
        found = {
            term: round(count / len(paragraphs), 4)
            for term, count in counts.items()
            if count >= 2 and script_of(term) is script
        }
        shares.update(found)
        print(f"{script}: {len(paragraphs)} paragraphs, {len(found)} terms")
    embedder.close()
    path = _ROOT / "models" / "data" / BACKGROUND
    np.savez_compressed(
        path,
        means=np.asarray(means, dtype=np.float32),
        shares=np.frombuffer(json.dumps(shares, ensure_ascii=False).encode(), dtype=np.uint8),
    )
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
