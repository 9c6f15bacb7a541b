"""Splits a model's thinking off its answer: `<think>…</think>` before the answer, as O1.5 writes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelUnavailable

_OPEN, _CLOSE = "<think>", "</think>"
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


class AnswerOnly:
    """Takes pieces of a text as they come, and gives the answer's part of each.

    The thinking is what stands between `<think>` at the very beginning and the first `</think>`,
    with the blanks after it. A text that begins otherwise is all answer, unless `begun` says that
    the prompt opened the thinking already: then it reaches to the first `</think>`.

    >>> thought = AnswerOnly()
    >>> [thought.feed(piece) for piece in ("<thi", "nk>hm", "</thin", "k>\\n\\n", "42", " <think>")]
    ['', '', '', '', '42', ' <think>']
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._held = ""
        self._state = "thinking" if begun else "before"
        self._unmarked: list[str] | None = [] if begun else None

    def feed(self, piece: str) -> str:
        """The part of the answer that is certain now."""
        if self._state == "answer":
            return piece
        self._held += piece
        if self._unmarked is not None:
            self._unmarked.append(piece)
        if self._state == "before":
            start = self._held.lstrip()
            if _OPEN.startswith(start[: len(_OPEN)]) and len(start) < len(_OPEN):
                return ""
            if not start.startswith(_OPEN):
                return self._answer(self._held)
            self._state, self._held = "thinking", start[len(_OPEN) :]
        if self._state == "thinking":
            _, closed, after = self._held.partition(_CLOSE)
            if not closed:
                self._held = self._held[-(len(_CLOSE) - 1) :]
                return ""
            self._state, self._held, self._unmarked = "after", after, None
        rest = self._held.lstrip()
        return self._answer(rest) if rest else ""

    def end(self, *, complete: bool = False) -> str:
        """What was held back and turns out to be answer.

        `complete` says that the model ended the text, not a limit. If the prompt opened thinking that
        nothing closed, it is then the answer of a server that takes the thinking out without a word.
        """
        if self._state == "before":
            return self._answer(self._held)
        text = "".join(self._unmarked or ())
        if complete and not text.lstrip().startswith(_OPEN):
            return self._answer(text)
        return ""

    def _answer(self, text: str) -> str:
        self._state, self._held, self._unmarked = "answer", "", None
        return text


def opened_thinking(folder: Path) -> str:
    """The end of a prompt that opens the thinking, so that the model's own text begins inside it:
    `<think>` with the blanks after it, as the folder's chat template writes it.

    Empty where the template does not, where the folder has none, and where it is one that plain Jinja
    does not render. Raises ModelUnavailable, naming the folder, for a file that cannot be read.
    """
    from jinja2.exceptions import TemplateError

    try:
        template, marks = _template(folder)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelUnavailable(
            f"the chat template in {folder} cannot be read ({error}): get the model again."
        ) from error
    try:
        prompt = _rendered(template, marks) if template else ""
    except (TemplateError, TypeError, ValueError):
        return ""
    _, opened, after = prompt.rpartition(_OPEN)
    return "" if not opened or after.strip() else opened + after


def _template(folder: Path) -> tuple[str | None, Mapping[str, str]]:
    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    named = {name: fields.get(name) for name in _TOKENS}
    marks = {
        name: str(mark.get("content")) if isinstance(mark, dict) else str(mark or "")
        for name, mark in named.items()
    }
    apart = folder / "chat_template.jinja"
    if apart.is_file():
        return apart.read_text("utf-8"), marks
    given = fields.get("chat_template")
    return given if isinstance(given, str) else None, marks


def _rendered(template: str, marks: Mapping[str, str]) -> str:
    """The prompt of one question. The folder's template runs in Jinja's sandbox, as transformers does it."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> Any:  # noqa: ANN401
        raise TemplateError(message)

    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.globals["raise_exception"] = raise_exception
    sandbox.globals["strftime_now"] = lambda _format: ""
    messages = [{"role": "user", "content": "?"}]
    return sandbox.from_string(template).render(
        messages=messages, add_generation_prompt=True, tools=None, documents=None, **marks
    )
