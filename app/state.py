"""What the routes need of the application, given by `create_app`."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from app.children import Children
from app.looks import Looks
from app.queue import CeleryQueue
from app.watchdog import Watchdog
from app.wiring import Services
from indexer.pictures import Pictures


@dataclass(frozen=True, slots=True)
class State:
    """One a process. `uploading` bounds the uploads that are stored at the same time, `fetching` the URLs.

    `watchdog` is None where the workers are others' business.
    """

    services: Services
    queue: CeleryQueue
    children: Children | None = None
    watchdog: Watchdog | None = None
    uploading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    fetching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    looks: Looks = field(default_factory=Looks)
    pictures: Pictures = field(default_factory=Pictures)


def _state(request: Request) -> State:
    state: State = request.app.state.zhinao
    return state


Given = Annotated[State, Depends(_state)]
