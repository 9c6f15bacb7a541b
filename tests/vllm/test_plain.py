"""The folders that `zhinao models convert` writes run in vLLM with nothing of ours: plain Qwen2 and BERT."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint.convert import convert
from tests.fixtures.tiny_gptq import write_dequantised, write_int4
from tests.fixtures.tiny_zhinao import reference_qwen2, write_chat, write_reranker, write_search

ENVIRONMENT = Path(os.environ["ZHINAO_TEST_VLLM"]).resolve()
TEXTS = ["def f():\n        return 1", "空气净化器", "<|im_start|>user\n你好<|im_end|>\n"]
SEARCH = ["空气净化器的主机保修期", "the 360", "滤网" * 200]
LIMIT_S = 900
HALF = 0.02
"""How far a log-probability in half precision may be from one in single."""


def ids(count: int) -> list[int]:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count,), generator=generator).tolist()


NUMBERS = [ids(1), ids(7), ids(300)]
JOBS = {
    "mha": ("chat", NUMBERS + TEXTS),
    "gqa": ("chat", NUMBERS),
    "rerank": ("rerank", NUMBERS + TEXTS),
    "embed": ("embed", SEARCH),
    "int4": ("chat", NUMBERS),
}
Answers = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    write_chat(root / "published-mha", kv_heads=4, shards=2)
    write_chat(root / "published-gqa", kv_heads=2, form="bin")
    write_reranker(root / "published-rerank")
    write_search(root / "published-embed")
    meant = write_int4(root / "published-int4", dialect="autogptq", symmetric=True)
    write_dequantised(root / "published-int4", meant, root / "dequantised")
    for name in JOBS:
        convert(root / f"published-{name}", root / name, name="tiny", free=lambda _: 10**12)
    return root


@pytest.fixture(scope="module")
def answers(root: Path) -> Answers:
    jobs = [
        {
            "folder": str(root / name),
            "role": role,
            "dtype": "float16" if name == "int4" else "float32",
            "prompts": prompts,
        }
        for name, (role, prompts) in JOBS.items()
    ]
    (root / "asked.json").write_text(json.dumps(jobs), "utf-8")
    done = subprocess.run(
        [
            ENVIRONMENT / "bin" / "python",
            Path(__file__).with_name("plain.py").resolve(),
            root / "asked.json",
            root / "answered.json",
        ],
        cwd=root,
        env={
            **os.environ,
            "VLLM_PLUGINS": "",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        timeout=LIMIT_S,
    )
    log = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, log[-6000:]
    answered = json.loads((root / "answered.json").read_text("utf-8"))
    assert answered["ours"] == []
    return dict(zip(JOBS, answered["found"], strict=True))


@pytest.mark.parametrize("name", ["mha", "gqa"])
def test_a_converted_chat_model_writes_what_transformers_writes(
    root: Path, answers: Answers, name: str
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(root / name, dtype=torch.float32).eval()
    for one in answers[name]:
        read, probabilities = list(one["read"]), []
        with torch.inference_mode():
            for _ in range(12):
                said = model(torch.tensor([read])).logits[0, -1].log_softmax(-1)
                read.append(int(said.argmax()))
                probabilities.append(float(said.max()))
        assert one["wrote"] == read[-12:]
        assert one["logprobs"] == pytest.approx(probabilities, abs=1e-4)


def test_converted_int4_means_in_vllm_what_its_dequantised_weights_mean(
    root: Path, answers: Answers
) -> None:
    """Through vLLM's own GPTQ config, loader and repacking, in half precision."""
    model = reference_qwen2(root / "dequantised")
    for one in answers["int4"]:
        row = torch.tensor([one["read"] + one["wrote"]])
        with torch.inference_mode():
            said = model(row).logits[0, len(one["read"]) - 1 : -1].log_softmax(-1)
        given = [float(step[token]) for step, token in zip(said, one["wrote"], strict=True)]
        assert one["logprobs"] == pytest.approx(given, abs=HALF)
        assert given == pytest.approx(said.max(-1).values.tolist(), abs=HALF)


@pytest.mark.parametrize("name", ["mha", "rerank"])
def test_vllm_reads_a_text_as_the_published_tokenizer_does(
    root: Path, answers: Answers, name: str
) -> None:
    from models.zhinao.tokenizer import load_tokenizer

    published = load_tokenizer(root / f"published-{name}")
    found = [one["read"] for one in answers[name]]
    assert found[: len(NUMBERS)] == NUMBERS
    assert found[len(NUMBERS) :] == [published.encode(text).ids for text in TEXTS]


def test_a_converted_reranker_scores_as_transformers_does(root: Path, answers: Answers) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        root / "rerank", dtype=torch.float32
    ).eval()
    for one in answers["rerank"]:
        with torch.inference_mode():
            expected = model(torch.tensor([one["read"]])).logits[0].tolist()
        assert one["scores"] == pytest.approx(expected, abs=1e-4)


async def test_a_converted_embedder_gives_the_vectors_of_ours(root: Path, answers: Answers) -> None:
    from models.zhinao_embed import ZhinaoEmbedder
    from pipeline.types import Passage

    embedder = ZhinaoEmbedder.load(root / "embed", device="cpu")
    try:
        expected = await embedder.embed_passages([Passage("", text) for text in SEARCH])
    finally:
        embedder.close()
    for one, vector in zip(answers["embed"], expected.vectors, strict=True):
        assert one["vector"] == pytest.approx(vector.tolist(), abs=1e-4)
