import json

import pytest

from models.refusal import refusal, server_words
from pipeline.errors import ModelUnavailable, Overloaded, RagError, TooLarge

TOO_LONG = [
    '{"error": {"code": "context_length_exceeded", "message": "Please reduce the prompt."}}',
    '{"error": {"message": "This model\'s maximum context length is 8192 tokens. However, you"}}',
    '{"message": "The decoder prompt (length 9) is longer than the maximum model length of 8."}',
    '{"error": {"message": "request (9 tokens) exceeds the available context size (8 tokens)"}}',
    '{"error": "`inputs` tokens + `max_new_tokens` must be <= 4096."}',
    "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
]


def told(status: int, body: str = "") -> RagError:
    return refusal(status, body, label="The server at http://m", key_setting="THE_KEY")


@pytest.mark.parametrize("body", TOO_LONG)
def test_a_prompt_over_the_context_is_too_large(body: str) -> None:
    assert isinstance(told(400, body), TooLarge)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (301, ModelUnavailable, "redirect"),
        (400, ModelUnavailable, "did not accept"),
        (401, ModelUnavailable, "THE_KEY"),
        (403, ModelUnavailable, "THE_KEY"),
        (404, ModelUnavailable, "check URL and model name"),
        (413, TooLarge, "longer than its context"),
        (429, Overloaded, "busy"),
        (500, ModelUnavailable, "log"),
        (503, ModelUnavailable, "log"),
    ],
)
def test_each_status_says_what_to_do(status: int, kind: type[RagError], says: str) -> None:
    error = told(status, '{"error": {"message": "no"}}')
    assert type(error) is kind
    assert says in str(error)
    assert "http://m" in str(error)


def test_a_server_that_fails_is_not_taken_for_a_long_prompt() -> None:
    assert isinstance(told(500, TOO_LONG[0]), ModelUnavailable)


def test_a_refused_key_is_not_repeated() -> None:
    body = json.dumps({"error": {"message": "Incorrect API key provided: sk-secret"}})
    assert "secret" not in str(told(401, body))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "a\\n b."}}', "a b"),
        ('{"error": "c"}', "c"),
        ('{"message": "d"}', "d"),
        ("[1]", "[1]"),
        ("<p>e</p>", "<p>e</p>"),
        ("", ""),
    ],
)
def test_the_words_of_a_server_are_found(body: str, words: str) -> None:
    assert server_words(body) == words


def test_the_words_of_a_server_are_cut() -> None:
    assert len(server_words("x" * 10_000)) == 201
