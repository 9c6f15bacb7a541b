from collections.abc import Iterator

import pytest

from app.errors import problem, status_of
from pipeline import errors


def below(kind: type[errors.RagError]) -> Iterator[type[errors.RagError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


@pytest.mark.parametrize("kind", list(below(errors.RagError)))
def test_every_error_has_a_status_and_a_stable_type(kind: type[errors.RagError]) -> None:
    body = problem(kind("what was wrong, and what to do"))
    assert body["status"] in (404, 409, 422, 500, 503)
    assert body["type"].startswith("urn:zhinao:")
    assert body["detail"] == "what was wrong, and what to do"


def test_only_what_may_pass_is_a_503() -> None:
    assert {k for k in below(errors.RagError) if status_of(k("x")) == 503} == {
        k for k in below(errors.RagError) if k.retryable
    }
