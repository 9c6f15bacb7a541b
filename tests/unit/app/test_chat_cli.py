"""What a line typed into `zhinao chat` leads to."""

import json
import signal
import subprocess
import sys
import time

import pytest
from scripted_openai import ScriptedOpenAI, endless

from app.chat_cli import Conversation, step
from pipeline.types import Message

TALK = Conversation((Message("user", "一"), Message("assistant", "二")), "简短")


def test_a_question_is_asked_with_all_that_was_said():
    assert step(TALK, "  三 \n").asks == "三"
    assert [turn["role"] for turn in TALK.asked("三")] == ["system", "user", "assistant", "user"]
    longer = TALK.answered("三", "四")
    assert [turn.content for turn in longer.turns] == ["一", "二", "三", "四"]


def test_a_blank_line_does_nothing():
    found = step(TALK, "\n")
    assert (found.asks, found.says, found.leaves, found.conversation) == ("", "", False, TALK)


def test_clear_forgets_the_turns_and_keeps_the_system_message():
    assert step(TALK, "/clear").conversation == Conversation(system="简短")


def test_system_is_set_and_taken_away():
    assert step(TALK, "/system be brief").conversation.system == "be brief"
    assert next(turn["role"] for turn in step(TALK, "/system").conversation.asked("x")) == "user"


@pytest.mark.parametrize("line", ["/quit", "/exit"])
def test_quit_leaves(line):
    assert step(TALK, line).leaves


@pytest.mark.parametrize(("line", "word"), [("/help", "退出"), ("/sing", "/sing")])
def test_help_and_unknown_commands_say_something_and_ask_nothing(line, word):
    found = step(TALK, line)
    assert word in found.says
    assert not found.asks


def test_ctrl_c_stops_the_answer_and_a_second_one_leaves(scripted_openai: ScriptedOpenAI):
    scripted_openai.replies = [endless("x")]
    words = [sys.executable, "-m", "app", "chat", "--json", "--model", "m"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*words, "--url", scripted_openai.url], **pipes) as process:
        process.stdin.write("hello\n")
        process.stdin.flush()
        while not scripted_openai.requests:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = json.loads(process.stdout.readline())
        assert told["stopped"]
        assert told["error"] is None
        assert scripted_openai.client_left()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
