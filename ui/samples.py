"""Questions that the sample documents answer, offered where those documents are."""

from collections.abc import Iterable, Mapping

QUESTIONS: Mapping[str, tuple[str, ...]] = {}
"""Questions by the file name of the sample that answers them."""
OFFERED = 4


def questions_for(filenames: Iterable[str]) -> list[str]:
    """At most four questions that the named files answer, one a file before a second of any."""
    offered = [QUESTIONS[name] for name in filenames if name in QUESTIONS]
    rounds = max((len(questions) for questions in offered), default=0)
    ordered = [
        questions[turn] for turn in range(rounds) for questions in offered if turn < len(questions)
    ]
    return ordered[:OFFERED]
