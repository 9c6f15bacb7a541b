"""The fakes behave as their docstrings say."""

from models.fakes import ScriptedChat
from pipeline.types import Message, Usage


async def test_a_scripted_chat_streams_its_pieces_and_then_its_usage():
    chat = ScriptedChat(["five ", "days ", "off"])
    prompt = [Message("user", "how many 年假")]
    pieces = [piece async for piece in chat.stream(prompt, max_tokens=2)]
    assert pieces == ["five ", "days ", Usage(4, 2)]
    assert chat.prompts == [tuple(prompt)]
