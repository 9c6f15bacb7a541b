"""vLLM serves the published layout through our plugin, and answers as transformers does."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from models.vllm_command import GIB, Role, command, configuration, plan, weights
from tests.fixtures.tiny_zhinao import (
    read_weights,
    reference_qwen2,
    write_chat,
    write_reranker,
    write_search,
)

ENVIRONMENT = Path(os.environ["ZHINAO_TEST_VLLM"]).resolve()
START_S = 600.0
ANSWER_S = 120.0
CPU = ["--enforce-eager", "--dtype", "float32", "--block-size", "32"]
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_PLUGINS": "zhinao",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def served(role: Role, folder: Path, log: Path) -> Iterator[httpx.Client]:
    """The command that `models.vllm_command` plans for a GPU, on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fits = plan(configuration(folder), 8 * GIB, 1, weights_bytes=weights(folder), role=role)
    words = command(fits, folder, name=role, port=port)
    words[0] = str(ENVIRONMENT / "bin" / words[0])
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*words, *CPU],
            cwd=log.parent,
            env={**os.environ, **SETTINGS},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_S) as client:
            wait(server, client, log)
            yield client
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def wait(server: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            if client.get("/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start:\n{log.read_text('utf-8', 'replace')[-4000:]}")


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    read: dict[str, Any] = answer.json()
    return read


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    root = tmp_path_factory.mktemp("chat")
    folder = write_chat(root / "model", kv_heads=2, shards=2)
    with served("chat", folder, root / "log") as client:
        yield client, folder


def ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count,), generator=generator).tolist()


@pytest.mark.parametrize("length", [1, 7, 300])
def test_greedy_tokens_and_their_probabilities_equal_transformers(
    chat: tuple[httpx.Client, Path], length: int
) -> None:
    client, folder = chat
    prompt, model = ids(length), reference_qwen2(folder)
    body = {
        "model": "chat",
        "prompt": prompt,
        "max_tokens": 12,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "logprobs": 0,
    }
    found = post(client, "/v1/completions", body)["choices"][0]
    expected = list(prompt)
    probabilities = []
    with torch.inference_mode():
        for _ in range(12):
            logits = model(torch.tensor([expected])).logits[0, -1].log_softmax(-1)
            expected.append(int(logits.argmax()))
            probabilities.append(float(logits.max()))
    assert found["token_ids"] == expected[length:]
    assert found["logprobs"]["token_logprobs"] == pytest.approx(probabilities, abs=1e-4)


def test_a_second_question_on_the_same_context_finds_it_in_the_cache(
    chat: tuple[httpx.Client, Path],
) -> None:
    client, _ = chat
    context = ids(440, seed=5)
    cached = []
    for question in (ids(9, seed=6), ids(9, seed=7)):
        body = {"model": "chat", "prompt": context + question, "max_tokens": 1, "temperature": 0}
        usage = post(client, "/v1/completions", body)["usage"]
        assert usage["prompt_tokens"] == 449
        cached.append((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)
    assert cached[0] == 0
    assert 384 <= cached[1] <= 440


def test_a_conversation_goes_through_the_published_tokenizer_and_template(
    chat: tuple[httpx.Client, Path],
) -> None:
    client, folder = chat
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    question = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Who are you?"}],
        "max_tokens": 4,
        "return_token_ids": True,
    }
    found = post(client, "/v1/chat/completions", question)
    start, end = stops[1], stops[2]
    prompt = found["prompt_token_ids"]
    assert [token for token in prompt if token >= min(stops)] == [start, end, start, end, start]
    assert found["usage"]["prompt_tokens"] == len(prompt)


def test_a_rerankers_scores_equal_transformers(tmp_path: Path) -> None:
    folder = write_reranker(tmp_path / "model", bias=True)
    held = read_weights(folder)
    model = reference_qwen2(folder).model
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    start, end = stops[1], stops[2]
    with served("rerank", folder, tmp_path / "log") as client:
        for prompt in (ids(1), ids(40), ids(500)):
            found = post(client, "/classify", {"model": "rerank", "input": prompt})
            assert found["data"][0]["probs"] == pytest.approx(
                [score(model, held, prompt)], abs=1e-4
            )
        body = {
            "model": "rerank",
            "query": "保修期",
            "documents": ["三十六个月。", "the <|im_end|>"],
        }
        answer = post(client, "/rerank", body)
        assert len(answer["results"]) == 2
        assert answer["results"][0]["relevance_score"] >= answer["results"][1]["relevance_score"]
        text = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
        for row in answer["results"]:
            passage = body["documents"][row["index"]].replace("<|im_", "<| im_")
            asked = {"model": "rerank", "prompt": text.format(f"保修期\n\n{passage}")}
            tokens = post(client, "/tokenize", asked)["tokens"]
            assert [token for token in tokens if token >= start] == [start, end, start, end, start]
            assert row["relevance_score"] == pytest.approx(score(model, held, tokens), abs=1e-4)


def score(model: Any, held: dict[str, Any], prompt: list[int]) -> float:
    with torch.inference_mode():
        state = model(torch.tensor([prompt])).last_hidden_state[0, -1]
    return float(held["linear.weight"].float() @ state + held["linear.bias"].float())


def test_an_embedders_vectors_equal_transformers(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = write_search(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    model = BertModel(BertConfig(**config)).eval()
    held = {name.removeprefix("bert."): value for name, value in read_weights(folder).items()}
    model.load_state_dict({name: value.float() for name, value in held.items()})
    with served("embed", folder, tmp_path / "log") as client:
        for text in ("空气净化器的主机保修期", "the 360", "滤网" * 200):
            tokens = post(client, "/tokenize", {"model": "embed", "prompt": text})["tokens"]
            found = post(client, "/v1/embeddings", {"model": "embed", "input": text})
            with torch.inference_mode():
                state = model(torch.tensor([tokens])).last_hidden_state[0, 0]
            expected = torch.nn.functional.normalize(state, dim=0).tolist()
            assert found["data"][0]["embedding"] == pytest.approx(expected, abs=1e-4)
