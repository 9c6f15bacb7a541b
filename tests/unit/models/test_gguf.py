import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_gguf

from models.gguf import GgufChat
from pipeline.errors import ModelUnavailable, Overloaded, TooLarge
from pipeline.types import Message, Usage

HELLO = [Message("user", "hello")]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=2048)


@pytest.fixture
async def chat(path: Path) -> AsyncIterator[GgufChat]:
    chat = GgufChat(path, threads=1, waiting=1)
    yield chat
    await chat.aclose()


async def test_the_file_gives_name_and_context(chat: GgufChat) -> None:
    assert chat.name == "tiny"
    assert await chat.context_tokens() == 2048


@pytest.mark.parametrize("text", ["", "hello", "你好", "a b", "<s> is text", "�😀"])
async def test_tokens_are_counted_by_the_models_own_vocabulary(chat: GgufChat, text: str) -> None:
    assert chat.count_tokens(text) == len(text.encode())


async def test_the_usage_is_exact(chat: GgufChat) -> None:
    *pieces, usage = [piece async for piece in chat.stream(HELLO, max_tokens=20)]
    prompt = "user: hello\nassistant: "
    assert usage == Usage(prompt_tokens=1 + len(prompt), completion_tokens=20)
    assert len("".join(pieces)) == 20


async def test_a_prompt_over_the_context_is_too_large_and_names_the_file(
    chat: GgufChat, path: Path
) -> None:
    with pytest.raises(TooLarge, match=str(path)):
        await anext(chat.stream([Message("user", "长" * 3000)], max_tokens=5))


async def test_a_full_line_is_overloaded_and_empties_again(chat: GgufChat) -> None:
    async def whole() -> list[str | Usage]:
        return [piece async for piece in chat.stream(HELLO, max_tokens=5)]

    async with aclosing(chat.stream(HELLO, max_tokens=2000)) as first:
        await anext(first)
        second = asyncio.create_task(whole())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await whole()
    assert len(await second) == 6
    assert len(await whole()) == 6


async def test_waiting_has_an_end(path: Path) -> None:
    chat = GgufChat(path, threads=1, wait_s=0.05)
    async with aclosing(chat.stream(HELLO, max_tokens=2000)) as first:
        await anext(first)
        with pytest.raises(Overloaded):
            await anext(chat.stream(HELLO, max_tokens=5))
    await chat.aclose()


async def test_a_cancelled_reader_gives_up_its_turn(chat: GgufChat) -> None:
    async def read() -> None:
        async for _ in chat.stream(HELLO, max_tokens=2000):
            started.set()

    started = asyncio.Event()
    reader = asyncio.create_task(read())
    await started.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert len([piece async for piece in chat.stream(HELLO, max_tokens=5)]) == 6


async def test_closing_ends_a_stream_frees_the_threads_and_says_so(path: Path) -> None:
    before = threads()
    chat = GgufChat(path, threads=1)
    folder = Path(chat._local._transport._pool._uds).parent
    assert folder.stat().st_mode & 0o077 == 0
    async with aclosing(chat.stream(HELLO, max_tokens=2000)) as pieces:
        await anext(pieces)
        await chat.aclose()
        with pytest.raises(ModelUnavailable):
            async for _ in pieces:
                pass
    with pytest.raises(ModelUnavailable, match="closed"):
        chat.count_tokens("a")
    with pytest.raises(ModelUnavailable, match="closed"):
        await anext(chat.stream(HELLO, max_tokens=5))
    assert not folder.exists()
    assert threads() <= before + 1  # asyncio's or the binding's own, once


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000, 100_000, -1])
def test_a_damaged_file_is_named(path: Path, tmp_path: Path, keep: int) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelUnavailable, match=str(damaged)):
        GgufChat(damaged)


def test_a_missing_file_a_folder_and_another_kind_of_file_are_named(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    for path in (tmp_path / "none.gguf", tmp_path, other):
        with pytest.raises(ModelUnavailable, match=str(path)):
            GgufChat(path)


def test_without_the_extra_it_says_what_to_install(path: Path) -> None:
    program = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from pathlib import Path\n"
        "from models.gguf import GgufChat\n"
        "from pipeline.errors import ModelUnavailable\n"
        "try:\n    GgufChat(Path(sys.argv[1]))\n"
        "except ModelUnavailable as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "pip install zhinao-rag[gguf]" in done.stdout
