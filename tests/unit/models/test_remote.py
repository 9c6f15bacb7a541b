import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_openai import (
    Reply,
    ScriptedOpenAI,
    chat,
    drop,
    endless,
    raw,
    silence,
    status,
    stream_of,
    then_silence,
)

from models.http import Limits
from models.remote import Delta, RemoteChat, estimate_tokens, load_counter, read_delta
from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded, RagError, TooLarge
from pipeline.types import Message, Usage

KEY = "sk-very-secret"
QUICK = Limits(connect_s=5.0, answer_s=0.5, pause_s=0.5)


class Client:
    """A RemoteChat on the scripted server, that notes its pauses instead of sleeping."""

    def __init__(self, server: ScriptedOpenAI) -> None:
        self.server = server
        self.pauses: list[float] = []
        self.build()

    def build(self, url: str = "", limits: Limits = Limits(), **more) -> "Client":  # noqa: B008
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        self.chat = RemoteChat(
            url or self.server.url,
            "tiny",
            api_key=KEY,
            limits=limits,
            sleep=sleep,
            dice=lambda: 1.0,
            **more,
        )
        return self

    async def ask(self, *replies: Reply) -> list[str | Usage]:
        if replies:
            self.server.replies = list(replies)
        messages = [Message("system", "Be brief."), Message("user", "你好")]
        return [piece async for piece in self.chat.stream(messages, max_tokens=9, temperature=0.5)]

    async def fail(self, *replies: Reply) -> RagError:
        with pytest.raises(RagError) as caught:
            await self.ask(*replies)
        assert KEY not in str(caught.value)
        assert self.chat._server._url in str(caught.value)
        return caught.value


@pytest.fixture
async def client(scripted_openai: ScriptedOpenAI) -> AsyncIterator[Client]:
    client = Client(scripted_openai)
    yield client
    await client.chat.aclose()


async def test_the_request_is_what_an_openai_server_expects(client: Client) -> None:
    await client.ask()
    (request,) = client.server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "你好"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_usage_is_the_servers(client: Client) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    assert await client.ask(chat(["a", "b"], usage=usage)) == ["a", "b", Usage(3, 4)]


async def test_a_server_that_counts_nothing_is_counted_for(client: Client) -> None:
    *_, usage = await client.ask(chat(["好", "的"], usage=None))
    assert usage == Usage(estimate_tokens("Be brief.") + estimate_tokens("你好"), 2)


async def test_one_connection_serves_one_answer_after_the_other(client: Client) -> None:
    for _ in range(3):
        await client.ask()
    assert [request.connection for request in client.server.requests] == [1, 1, 1]


async def test_reasoning_is_left_out(client: Client) -> None:
    events = [
        {"choices": [{"delta": {"reasoning_content": "hm"}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]},
    ]
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    assert (await client.ask(stream_of(data.encode())))[:-1] == ["yes"]


async def test_thinking_at_the_beginning_is_left_out_where_the_server_does_not(
    client: Client,
) -> None:
    found = await client.ask(chat(["<thi", "nk>hm", "</think>", "\n", "4", "2 <think>"]))
    assert found[:-1] == ["4", "2 <think>"]


def event(delta: dict[str, str], end: str | None = None) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": end}]}) + "\n\n"


@pytest.mark.parametrize(
    ("pieces", "end", "says"),
    [
        ([("content", "six by "), ("content", "seven</think>\n4"), ("content", "2")], "stop", "42"),
        ([("content", "six by ")], "length", ""),
        ([("content", "42")], "stop", "42"),  # the server took the thinking out without a word
        ([("reasoning_content", "six"), ("content", "4"), ("content", "2")], "length", "42"),
    ],
)
async def test_a_template_beside_the_tokenizer_says_that_the_answer_begins_inside_the_thinking(
    client: Client, tmp_path: Path, pieces: list[tuple[str, str]], end: str, says: str
) -> None:
    (tmp_path / "chat_template.jinja").write_text(
        "{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    client.build(tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))
    events = [event({kind: text}) for kind, text in pieces] + [event({}, end)]
    data = "".join(events) + "data: [DONE]\n\n"
    assert "".join((await client.ask(stream_of(data.encode())))[:-1]) == says


async def test_a_finish_reason_ends_an_answer_without_done(client: Client) -> None:
    data = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    assert (await client.ask(stream_of(data)))[0] == "a"


async def test_a_port_where_nothing_listens_is_unavailable(client: Client) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        error = await client.build(url).fail()
    assert isinstance(error, ModelUnavailable)
    assert "start it" in str(error)
    assert client.pauses == [0.5, 1.0]


async def test_a_busy_server_is_asked_again(client: Client) -> None:
    pieces = await client.ask(status(429), status(503), chat(["ok"]))
    assert pieces[0] == "ok"
    assert client.pauses == [0.5, 1.0]


async def test_a_server_says_when_to_ask_again_but_not_for_ever(client: Client) -> None:
    await client.ask(
        status(429, headers={"Retry-After": "3"}),
        status(503, headers={"Retry-After": "86400"}),
        chat(["ok"]),
    )
    assert client.pauses == [3.0, 10.0]


async def test_a_server_that_stays_busy_is_overloaded(client: Client) -> None:
    assert isinstance(await client.fail(status(429)), Overloaded)
    assert len(client.server.requests) == 3


async def test_a_connection_that_was_closed_meanwhile_is_opened_again(client: Client) -> None:
    assert (await client.ask(drop(), chat(["ok"])))[0] == "ok"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 500, 502])
async def test_other_refusals_are_final(client: Client, code: int) -> None:
    echoed = json.dumps({"error": {"message": f"bad key {KEY}"}})
    assert isinstance(await client.fail(status(code, echoed)), ModelUnavailable)
    assert len(client.server.requests) == 1


async def test_a_refused_key_names_its_setting(client: Client) -> None:
    assert "ZHINAO_CHAT__API_KEY" in str(await client.fail(status(401)))


async def test_a_prompt_over_the_context_is_too_large(client: Client) -> None:
    body = json.dumps({"error": {"code": "context_length_exceeded", "message": "too many"}})
    assert isinstance(await client.fail(status(400, body)), TooLarge)


async def test_a_redirect_is_not_followed(client: Client) -> None:
    elsewhere = {"Location": f"{client.server.url}/v2/"}
    assert "redirect" in str(await client.fail(status(307, headers=elsewhere)))
    assert len(client.server.requests) == 1


async def test_a_huge_refusal_is_not_read_to_its_end(client: Client) -> None:
    assert len(str(await client.fail(status(500, "x" * 10_000_000)))) < 600


@pytest.mark.parametrize(
    "reply",
    [
        status(200, "<html>It works!</html>\n", {"Content-Type": "text/html"}),
        status(200, '{"choices": [{"message": {"content": "not streamed"}}]}\n'),
        stream_of(b"data: {not json\n\n"),
        stream_of(b"data: [1, 2]\n\n"),
        stream_of(b'data: {"choices": 5}\n\n'),
        stream_of(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'),
        stream_of(b"data: \xff\xfe\n\n"),
        stream_of(b"x" * 2_000_000),
    ],
)
async def test_an_answer_in_another_format_is_unavailable(client: Client, reply: Reply) -> None:
    error = await client.fail(reply)
    assert isinstance(error, ModelUnavailable)
    assert "OpenAI-compatible" in str(error)


async def test_bytes_that_are_not_http_are_unavailable(client: Client) -> None:
    assert isinstance(await client.fail(raw(b"SSH-2.0-OpenSSH_9.9\r\n")), ModelUnavailable)


async def test_an_answer_without_end_is_cut_off(client: Client) -> None:
    client.build(limits=Limits(reply_bytes=20_000))
    await client.fail(endless("又"))
    assert await asyncio.to_thread(client.server.client_left)


@pytest.mark.parametrize("complete", [True, False])
async def test_a_stream_that_ends_early_is_an_error_and_not_asked_again(
    client: Client, complete: bool
) -> None:
    data = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
    error = await client.fail(stream_of(data, complete=complete))
    assert "before its answer was complete" in str(error)
    assert len(client.server.requests) == 1


async def test_an_error_in_the_middle_of_a_stream_is_told(client: Client) -> None:
    error = await client.fail(stream_of(b'data: {"error": {"message": "CUDA out of memory"}}\n\n'))
    assert isinstance(error, ModelUnavailable)
    assert "CUDA out of memory" in str(error)
    long = stream_of(b'data: {"error": {"message": "exceeds the context size"}}\n\n')
    assert isinstance(await client.fail(long), TooLarge)


@pytest.mark.parametrize(
    "reply",
    [silence(), then_silence(), then_silence("a"), then_silence("a", pings=True)],
    ids=["no answer", "no first token", "no second token", "only comments"],
)
async def test_silence_ends(client: Client, reply: Reply) -> None:
    error = await client.build(limits=QUICK).fail(reply)
    assert isinstance(error, ModelUnavailable)
    assert "sent nothing for 0.5 s" in str(error)
    assert await asyncio.to_thread(client.server.client_left)
    assert len(client.server.requests) == 1


async def test_more_streams_than_connections_are_overloaded(client: Client) -> None:
    client.build(limits=Limits(connections=1, pool_s=0.05))
    client.server.replies = [endless("又")]
    async with aclosing(client.chat.stream([Message("user", "a")], max_tokens=9)) as pieces:
        await anext(pieces)
        with pytest.raises(Overloaded):
            await client.ask()


async def test_a_closed_model_says_so(client: Client) -> None:
    client.server.replies = [endless("又")]
    async with aclosing(client.chat.stream([Message("user", "a")], max_tokens=9)) as pieces:
        await anext(pieces)
        await client.chat.aclose()
        with pytest.raises(ModelUnavailable):
            async for _ in pieces:
                pass
    with pytest.raises(ModelUnavailable):
        await client.ask()


async def test_the_key_is_in_no_log_and_no_repr(client: Client, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        await client.ask()
        await client.fail(status(500, KEY))
    assert caplog.records
    assert KEY not in caplog.text
    assert KEY not in repr(client.chat)


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput):
        RemoteChat("localhost:8000", "m")


def test_a_delta_is_read() -> None:
    data = '{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": null}'
    assert read_delta(data) == Delta("a", finished=True)


@given(st.text())
@settings(deadline=None)
def test_any_text_is_a_delta_or_a_value_error(data: str) -> None:
    with suppress(ValueError):
        read_delta(data)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | inner))
@settings(deadline=None)
def test_any_json_is_a_delta_or_a_value_error(value: object) -> None:
    for data in (value, {"choices": value}, {"choices": [value]}, {"choices": [{"delta": value}]}):
        with suppress(ValueError):
            read_delta(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("你好，世界。", 6),
        ("hello world!", 4),
        ("a=1", 3),
        ("2026年", 5),
        ("é", 1),
        ("😀", 2),
    ],
)
def test_an_estimate_follows_its_formula(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def listing(**more: object) -> dict[str, object]:
    return {"object": "list", "data": [{"id": "other", "max_model_len": 7}, {"id": "tiny", **more}]}


@pytest.mark.parametrize(
    ("listed", "context"),
    [
        (listing(max_model_len=113040), 113040),
        (listing(), 8192),
        (listing(max_model_len="many"), 8192),
        ({"data": None}, 8192),
        ({}, 8192),
        (None, 8192),
    ],
)
async def test_the_server_says_how_much_it_takes(client: Client, listed, context: int) -> None:
    client.server.listed = listed
    assert await client.chat.context_tokens() == context
    await client.chat.aclose()
    assert await client.build(context_tokens=2048).chat.context_tokens() == 2048


async def test_a_server_that_is_ready_later_is_asked_again(client: Client) -> None:
    client.server.listed = None
    assert await client.chat.context_tokens() == 8192
    client.server.listed = listing(max_model_len=5000)
    assert await client.chat.context_tokens() == 5000


@given(st.text(), st.text())
@settings(deadline=None)
def test_pieces_are_never_estimated_below_the_whole(first: str, second: str) -> None:
    assert estimate_tokens(first + second) <= estimate_tokens(first) + estimate_tokens(second)


def write_tokenizer(path: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))
    return path


def test_a_tokenizer_counts_exactly_and_cuts_nothing(tmp_path: Path) -> None:
    count = load_counter(write_tokenizer(tmp_path / "tokenizer.json"))
    assert [count(text) for text in ("", "a", "a b a b a")] == [0, 1, 5]


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        RemoteChat("http://h", "m", tokenizer=path)
