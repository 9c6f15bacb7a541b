"""What a model server's refusal means for the user: an HTTP status and body become our error."""

import json
import re

from pipeline.errors import ModelUnavailable, Overloaded, RagError, TooLarge

# As OpenAI ("context_length_exceeded"), vLLM ("maximum context length", "maximum model length"),
# llama.cpp ("exceed_context_size_error"), SGLang and TGI say it.
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum (context|model) length|max_model_len"
    r"|longer than the (maximum|model)|(prompt|input) is too long|max_new_tokens`? must be",
    re.IGNORECASE,
)
_QUOTED = 200


def too_long(text: str) -> bool:
    """Whether a server's words say that prompt and answer do not fit its context."""
    return _TOO_LONG.search(text) is not None


def server_words(body: str) -> str:
    """The message inside an OpenAI-style error body, else the body, in one line of 200 characters."""
    try:
        found = json.loads(body)
    except ValueError:
        found = body
    if isinstance(found, dict):
        error = found.get("error", found)
        found = error.get("message", body) if isinstance(error, dict) else error
    line = " ".join(str(found).split()).removesuffix(".")
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "…"


def refusal(status: int, body: str, *, label: str, key_setting: str) -> RagError:
    """The error for an HTTP status other than 200 with the text of its body.

    401 and 403 never repeat the body, because servers put pieces of the key into it.
    """
    words = server_words(body)
    if status in {401, 403}:
        return ModelUnavailable(
            f"{label} refused the API key (HTTP {status}): set the right one in {key_setting}."
        )
    if status == 413 or (status in {400, 422} and too_long(body)):
        return TooLarge(
            f"{label} says that the prompt is longer than its context: {words}. "
            "Ask about fewer or shorter documents, or set the context to what the model has."
        )
    if status == 404:
        return ModelUnavailable(
            f"{label} has no such address or model (HTTP 404): check URL and model name. "
            f"It says: {words}"
        )
    if status == 429:
        return Overloaded(f"{label} is busy (HTTP 429): try again in a moment. It says: {words}")
    if 300 <= status < 400:
        return ModelUnavailable(
            f"{label} answered with a redirect (HTTP {status}), which is not followed: "
            "set the URL that it leads to."
        )
    if status >= 500:
        return ModelUnavailable(
            f"{label} failed (HTTP {status}): look into its log. It says: {words}"
        )
    return ModelUnavailable(
        f"{label} did not accept the request (HTTP {status}): check the model name and that the "
        f"server is OpenAI-compatible. It says: {words}"
    )
