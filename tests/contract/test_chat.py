"""What every chat model does, on a server by URL, on a GGUF file, and on the fake."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from scripted_openai import ScriptedOpenAI, echo, endless
from tiny_gguf import write_tiny_gguf
from tiny_zhinao import reference_qwen2, write_chat

from models.gguf import GgufChat
from models.remote import RemoteChat
from pipeline.types import Message, Usage

QUESTIONS = ["今天天气怎么样？", "What is a segment?", "第三个问题 with two scripts"]
LONG = 30_000


@dataclass
class Subject:
    """A model, and an oracle that knows what it must say to a question in `limit` tokens."""

    model: Any
    answer: Callable[[str], str]
    limit: int = 64


@pytest.fixture(params=["remote", "gguf", "scripted", "zhinao"])
async def subject(request, scripted_openai: ScriptedOpenAI, tmp_path) -> AsyncIterator[Subject]:
    match request.param:
        case "remote":
            scripted_openai.replies = [echo()]
            chat = RemoteChat(scripted_openai.url, "tiny")
            yield Subject(chat, answer=lambda question: question)
            await chat.aclose()
        case "gguf":
            path = write_tiny_gguf(tmp_path / "tiny.gguf")
            local = GgufChat(path, threads=1)
            yield Subject(local, answer=llama_oracle(path))
            await local.aclose()
        case "zhinao":
            from models.zhinao_chat import ZhinaoChat

            folder = write_chat(tmp_path / "chat", kv_heads=2)
            own = ZhinaoChat.load(folder, device="cpu")
            yield Subject(own, answer=qwen2_oracle(folder))
            await own.aclose()
        case "scripted":
            pieces = ["好的，", "the answer", " 是 42。"]
            from models import fakes

            yield Subject(fakes.ScriptedChat(pieces), answer=lambda question: "".join(pieces))


def llama_oracle(path) -> Callable[[str], str]:
    """llama.cpp asked directly and without streaming, by the binding's own call."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = str(path)
    params.verbosity = 0
    params.cpuparams.n_threads = 1
    server = Server(params)

    def answer(question: str) -> str:
        reply = server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 64,
                "temperature": 0.0,
            }
        )
        return reply["choices"][0]["message"]["content"]

    return answer


def qwen2_oracle(folder) -> Callable[[str], str]:
    """A Qwen2 whose heads were copied one by one, without a cache: the likeliest token, again and again."""
    import torch

    from models.zhinao_chat import prompt_ids
    from models.zhinao_folder import Words

    words, model = Words.load(folder), reference_qwen2(folder)
    stops = {words.control(mark) for mark in ("<eod>", "<|im_start|>", "<|im_end|>")}

    def answer(question: str) -> str:
        prompt = prompt_ids(words, [Message("user", question)])
        ids = list(prompt)
        while len(ids) < len(prompt) + 64:
            with torch.inference_mode():
                logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1, : words.size]
            if (token := int(logits.argmax())) in stops:
                break
            ids.append(token)
        return words.decode(ids[len(prompt) :])

    return answer


async def ask(subject: Subject, question: str) -> list[str | Usage]:
    messages = [Message("user", question)]
    return [piece async for piece in subject.model.stream(messages, max_tokens=subject.limit)]


async def test_the_pieces_join_to_the_whole_text(subject: Subject) -> None:
    for question in QUESTIONS:
        *pieces, _ = await ask(subject, question)
        assert "".join(pieces) == subject.answer(question)
        assert len(pieces) > 1
        assert all(pieces)


async def test_the_usage_comes_once_and_last(subject: Subject) -> None:
    *pieces, usage = await ask(subject, QUESTIONS[0])
    assert isinstance(usage, Usage)
    assert all(isinstance(piece, str) for piece in pieces)


async def test_concurrent_streams_do_not_mix(subject: Subject) -> None:
    answers = await asyncio.gather(*(ask(subject, question) for question in QUESTIONS))
    assert ["".join(pieces[:-1]) for pieces in answers] == list(map(subject.answer, QUESTIONS))


async def test_after_an_early_exit_the_next_answer_is_whole(subject: Subject) -> None:
    question = QUESTIONS[1]
    async with aclosing(subject.model.stream([Message("user", question)], max_tokens=64)) as pieces:
        first = await anext(pieces)
    assert subject.answer(question).startswith(first)
    *pieces, _ = await ask(subject, question)
    assert "".join(pieces) == subject.answer(question)


async def test_it_says_its_name_and_limits_and_counts(subject: Subject) -> None:
    assert subject.model.name
    assert await subject.model.context_tokens() > 0
    assert subject.model.count_tokens("") == 0
    assert subject.model.count_tokens("你好 world") > 0


async def test_a_server_sees_that_a_reader_left(scripted_openai: ScriptedOpenAI) -> None:
    scripted_openai.replies = [endless("又")]
    chat = RemoteChat(scripted_openai.url, "tiny")
    async with aclosing(chat.stream([Message("user", "go")], max_tokens=LONG)) as pieces:
        assert await anext(pieces) == "又"
    assert await asyncio.to_thread(scripted_openai.client_left)
    await chat.aclose()


async def test_llama_stops_when_a_reader_left(tmp_path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context=2 * LONG)
    chat = GgufChat(path, threads=1, context_tokens=2 * LONG)
    async with aclosing(chat.stream([Message("user", "go")], max_tokens=LONG)) as pieces:
        await anext(pieces)
    while (slot := chat._local.get("/slots").json()[0])["is_processing"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert 0 < slot["n_prompt_tokens"] < LONG, json.dumps(slot)
    await chat.aclose()
