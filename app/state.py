"""What the routes need of the application, given by `create_app`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.queue import CeleryQueue
from app.wiring import Services


@dataclass(frozen=True, slots=True)
class State:
    """One a process."""

    services: Services
    queue: CeleryQueue


def _state(request: Request) -> State:
    state: State = request.app.state.zhinao
    return state


Given = Annotated[State, Depends(_state)]
