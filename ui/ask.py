"""The tab that asks: a conversation whose answers stream in, with links to the passages behind them."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import gradio as gr

from app.client import ApiClient
from ui.conversation import Conversation, exchanged, opening
from ui.render import conversation
from ui.wiring import CLICKS, named, quietly, words_of

REDRAWN_EVERY = 0.08
"""Seconds between two redraws while tokens stream in."""
FOLLOW = """
let asked = 0, below = true;
const chat = () => element.querySelector('.zn-chat');
element.addEventListener('scroll', () => {
  below = chat().scrollHeight - chat().scrollTop - chat().clientHeight < 60;
}, true);
watch('value', () => {
  const count = element.querySelectorAll('.zn-exchange').length;
  if (count && (count > asked || below)) chat().scrollTo({top: chat().scrollHeight});
  asked = count;
});
"""
"""A new question is scrolled into view; what streams in is followed unless the reader scrolled up."""


@dataclass(frozen=True, slots=True)
class AskTab:
    """The components that other parts of the page listen to."""

    conversation: gr.HTML
    exchanges: gr.State


def ask_tab(client: ApiClient, collection: gr.Dropdown, i18n: gr.I18n) -> AskTab:
    """Lays the tab out and wires it; every session has its own conversation."""
    exchanges = gr.State(())
    shown = gr.HTML(elem_id="zn-conversation", js_on_load=CLICKS + FOLLOW, apply_default_css=False)
    with gr.Row(elem_id="zn-composer"):
        question = gr.Textbox(
            show_label=False,
            label=i18n("question"),
            placeholder=i18n("question_hint"),
            lines=1,
            max_lines=5,
            max_length=4000,
            scale=10,
            min_width=120,
            container=False,
            elem_id="zn-question",
        )
        send = gr.Button(i18n("send"), variant="primary", scale=0, min_width=84, elem_id="zn-send")
        stop = gr.Button(
            i18n("stop"), variant="stop", scale=0, min_width=84, visible=False, elem_id="zn-stop"
        )
        fresh = gr.Button(i18n("new_conversation"), scale=0, min_width=96, elem_id="zn-new")

    async def asked(
        event: gr.EventData, typed: str, so_far: Conversation, chosen: str, request: gr.Request
    ) -> AsyncIterator[tuple[object, ...]]:
        words = words_of(request)
        text = (named(event, "question") or typed).strip()[:4000]
        if not text:
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        drawn = 0.0
        async for exchange in exchanged(client, text, so_far, chosen):
            if exchange.text and exchange.open and time.monotonic() - drawn < REDRAWN_EVERY:
                continue
            drawn = time.monotonic()
            now = (*so_far, exchange)
            open_ = exchange.open
            yield (
                conversation(now, "", words),
                now,
                "",
                gr.update(visible=not open_),
                gr.update(visible=open_),
            )

    async def stopped(so_far: Conversation, request: gr.Request) -> tuple[object, ...]:
        now = tuple(replace(one, stopped=True) if one.open else one for one in so_far)
        return (
            conversation(now, "", words_of(request)),
            now,
            gr.update(visible=True),
            gr.update(visible=False),
        )

    async def cleared(chosen: str, request: gr.Request) -> tuple[object, ...]:
        return (
            await opening(client, chosen, words_of(request)),
            (),
            gr.update(visible=True),
            gr.update(visible=False),
        )

    asking = quietly(
        [question.submit, send.click, shown.select],
        asked,
        [question, exchanges, collection],
        [shown, exchanges, question, send, stop],
        trigger_mode="once",
    )
    quietly([stop.click], stopped, [exchanges], [shown, exchanges, send, stop], cancels=[asking])
    quietly(
        [fresh.click, collection.change],
        cleared,
        [collection],
        [shown, exchanges, send, stop],
        cancels=[asking],
    )
    return AskTab(shown, exchanges)
