"""`zhinao chat`: a conversation in the terminal, with a model or with the documents of a collection."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from app.client import ApiClient
from app.problems import ApiProblem
from app.served import RAG
from app.terminal import ERR, OUT, place, plain
from pipeline.types import Message

HELP = """\
/clear        forget the conversation             忘记之前的对话
/system TEXT  set the system message (none: off)  设置系统提示（留空则取消）
/help         this help                           显示本帮助
/quit         leave (also Ctrl-D)                 退出（或按 Ctrl-D）
Ctrl-C stops an answer; a second one leaves.      Ctrl-C 停止回答，再按一次退出。"""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said. `system` is for models; answers from documents have rules of their own."""

    turns: tuple[Message, ...] = ()
    system: str = ""

    def asked(self, text: str) -> list[dict[str, str]]:
        """The messages of a request with this question."""
        first = (Message("system", self.system),) if self.system else ()
        turns = (*first, *self.turns, Message("user", text))
        return [{"role": turn.role, "content": turn.content} for turn in turns]

    def answered(self, question: str, answer: str) -> "Conversation":
        """With one more question and answer."""
        return replace(
            self, turns=(*self.turns, Message("user", question), Message("assistant", answer))
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What a typed line leads to: something to say, to ask, or the end."""

    conversation: Conversation
    says: str = ""
    asks: str = ""
    leaves: bool = False


def step(conversation: Conversation, line: str) -> Step:
    """A line that begins with / is a command, any other a question; blank ones do nothing."""
    line = line.strip()
    if not line.startswith("/"):
        return Step(conversation, asks=line)
    command, _, rest = line.partition(" ")
    match command:
        case "/clear":
            return Step(replace(conversation, turns=()), says="forgotten · 已清空")
        case "/system":
            says = "system message set · 已设置" if rest.strip() else "no system message · 已取消"
            return Step(replace(conversation, system=rest.strip()), says=says)
        case "/help":
            return Step(conversation, says=HELP)
        case "/quit" | "/exit":
            return Step(conversation, leaves=True)
        case _:
            return Step(conversation, says=f"there is no {command}, see /help · 没有这个命令")


def chat(
    url: str,
    *,
    collection: str | None,
    model: str | None,
    system: str,
    as_json: bool,
    read: Callable[[], str | None],
) -> None:
    """Ask and answer until the end of the input. Raises ApiProblem when there is nobody to talk to.

    `read` gives the next line, None at the end; it is called between answers, on this thread, so
    that Ctrl-C leaves there. With `as_json` each answer is one line of JSON: {"answer",
    "citations", "stopped", "error"}.
    """
    api = ApiClient(url)
    with asyncio.Runner() as runner:
        try:
            name = f"{RAG}{collection}" if collection else model or runner.run(_first_model(api))
            if not as_json:
                OUT.print(f"[dim]{plain(name)} · /help[/]")
            conversation = Conversation(system=system)
            while (line := read()) is not None:
                found = step(conversation, line)
                conversation = found.conversation
                if found.leaves:
                    return
                if found.says:
                    (ERR if as_json else OUT).print(plain(found.says), highlight=False)
                if found.asks:
                    told = runner.run(
                        told_by(api, name, conversation.asked(found.asks), as_json=as_json)
                    )
                    if told.text:
                        conversation = conversation.answered(found.asks, told.text)
        finally:
            runner.run(api.aclose())


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, whole or stopped."""

    text: str = ""
    citations: tuple[dict[str, Any], ...] = ()
    stopped: bool = False
    error: str | None = None


async def told_by(
    api: ApiClient, model: str, messages: list[dict[str, str]], *, as_json: bool
) -> Told:
    """Show an answer as it comes; the first Ctrl-C stops it, the next one is the shell's usual."""
    pieces: list[str] = []
    citations: list[dict[str, Any]] = []

    async def listen() -> None:
        async with aclosing(api.chat(model, messages)) as events:
            async for event in events:
                citations.extend(event.get("citations") or [])
                for choice in event.get("choices") or []:
                    piece = (choice.get("delta") or {}).get("content") or ""
                    pieces.append(piece)
                    if piece and not as_json:
                        OUT.print(piece, end="", markup=False, highlight=False)

    loop = asyncio.get_running_loop()
    task = asyncio.create_task(listen())

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        task.cancel()

    told = Told()
    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await task
    except asyncio.CancelledError:
        told = replace(told, stopped=True)
    except ApiProblem as problem:
        told = replace(told, error=problem.detail)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    told = replace(told, text="".join(pieces), citations=tuple(citations))
    _show(told, as_json=as_json)
    return told


def _show(told: Told, *, as_json: bool) -> None:
    if as_json:
        line = {
            "answer": told.text,
            "citations": list(told.citations),
            "stopped": told.stopped,
            "error": told.error,
        }
        print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201
        return
    OUT.print("[dim] (stopped · 已停止)[/]" if told.stopped else "")
    for cited in told.citations:
        where = place(cited["filename"], cited["page"], cited["heading"], cited.get("cells"))
        OUT.print(f"  [cyan][{cited['marker']}][/] {plain(where)}")
        OUT.print(f"      “{plain(' '.join(cited['quote'].split()))}”")
    if told.error:
        ERR.print(f"[red]error:[/] {plain(told.error)}")


async def _first_model(api: ApiClient) -> str:
    """The server's chat model; without one, the documents of the collection “default”."""
    ready = await api.ready()
    answers = ready.models["answers"]
    return f"{RAG}default" if answers == "extractive" else answers


def read_line(*, prompt: bool) -> str | None:
    """A line of the standard input; None at its end."""
    if not prompt:
        line = sys.stdin.readline()
        return line or None
    try:
        return input("> ")
    except EOFError:
        return None
