"""How events of the page reach our functions, the same way everywhere."""

from collections.abc import Callable, Sequence
from typing import Literal

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from ui.words import Language, Words, preferred
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE

CLICKS = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-event]');
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger(target.dataset.event, {...target.dataset});
});
"""
"""What a click on a marked element of our HTML does: the event it names, with its `data-` attributes."""


def words_of(request: gr.Request) -> Words:
    """The words for the browser that sent this request."""
    match preferred(request.headers.get("accept-language")):
        case Language.CHINESE:
            return CHINESE
        case Language.ENGLISH:
            return ENGLISH


def quietly(
    triggers: Sequence[Callable[..., Dependency]],
    act: Callable[..., object],
    inputs: Sequence[Component] | None,
    outputs: Sequence[Component],
    *,
    cancels: Sequence[Dependency] = (),
    trigger_mode: Literal["once", "multiple", "always_last"] | None = None,
) -> Dependency:
    """Binds `act` to events without spinners over the page, and keeps it out of Gradio's own API."""
    bound: Dependency = gr.on(
        list(triggers),
        act,
        list(inputs or ()),
        list(outputs),
        show_progress="hidden",
        api_visibility="private",
        cancels=list(cancels),
        trigger_mode=trigger_mode,
    )
    return bound


def named(event: gr.EventData, key: str) -> str:
    """What a click named in `data-<key>`; empty when the event was no click on our HTML."""
    data = event._data  # noqa: SLF001  # its attributes raise on a missing name
    return str(data.get(key, "")) if isinstance(data, dict) else ""
