"""The one exception of the interface: what the API, or nobody, answered."""

import json
import re

import httpx
from pydantic import ValidationError

from app.schemas import Problem


class ApiProblem(Exception):
    """What the API answered instead of what was asked; `status` None means that no answer came at all.

    `detail` is a sentence for the user in every case.
    """

    def __init__(self, title: str, detail: str, status: int | None) -> None:
        super().__init__(detail)
        self.title = title
        self.detail = detail
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same call may work a little later."""
        return self.status in (None, 503)


def from_problem(problem: Problem) -> ApiProblem:
    """A problem of the API; its sentence begins with a capital here."""
    sentence = problem.detail[:1].upper() + problem.detail[1:]
    return ApiProblem(problem.title, sentence, problem.status)


def from_response(response: httpx.Response, body: bytes) -> ApiProblem:
    """The problem in a response that is none of the expected; a made one where it explains nothing."""
    try:
        return from_problem(Problem.model_validate_json(body))
    except ValidationError:
        said = re.search(rb'"error":\s*\{"message":\s*("(?:[^"\\]|\\.)*")', body)  # of /v1
        if said:
            return ApiProblem("Error", json.loads(said[1]), response.status_code)
        return ApiProblem(
            response.reason_phrase or "Error",
            f"The service answered with status {response.status_code} and no explanation.",
            response.status_code,
        )
