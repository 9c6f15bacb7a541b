"""Splits a model's thinking off its answer: `<think>…</think>` before the answer, as O1.5 writes it."""

_OPEN, _CLOSE = "<think>", "</think>"


class AnswerOnly:
    """Takes pieces of a text as they come, and gives the answer's part of each.

    The thinking is what stands between `<think>` at the very beginning and the first `</think>`,
    with the blanks after it. A text that begins otherwise is all answer, unless `begun` says that
    the prompt opened the thinking already.

    >>> thought = AnswerOnly()
    >>> [thought.feed(piece) for piece in ("<thi", "nk>hm", "</thin", "k>\\n\\n", "42", " <think>")]
    ['', '', '', '', '42', ' <think>']
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._held = ""
        self._state = "thinking" if begun else "before"

    def feed(self, piece: str) -> str:
        """The part of the answer that is certain now."""
        if self._state == "answer":
            return piece
        self._held += piece
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
            self._state, self._held = "after", after
        rest = self._held.lstrip()
        return self._answer(rest) if rest else ""

    def end(self) -> str:
        """What was held back and turns out to be answer."""
        return self._answer(self._held) if self._state == "before" else ""

    def _answer(self, text: str) -> str:
        self._state, self._held = "answer", ""
        return text
