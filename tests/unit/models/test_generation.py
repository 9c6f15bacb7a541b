from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.generation import Spelling, Writing, written
from pipeline.types import Sampling


def spelled(ids: list[int]) -> list[str]:
    spelling = Spelling(lambda part: bytes(part).decode("utf-8", "replace"))
    return [*map(spelling.feed, ids), spelling.end()]


@given(st.text())
@settings(deadline=None)
def test_the_pieces_join_to_the_text_and_no_character_is_cut(text: str) -> None:
    pieces = spelled(list(text.encode()))
    assert "".join(pieces) == text
    assert "�" in text or not any("�" in piece for piece in pieces)


def test_a_broken_end_is_shown_at_the_end() -> None:
    assert spelled(list("好".encode()[:2])) == ["", "", "�"]


def test_bytes_that_never_make_a_character_do_not_hold_the_rest_back() -> None:
    pieces = spelled([0x80] * 20 + [65])
    assert any(pieces[:19])
    assert "".join(pieces).endswith("A")


@pytest.fixture(scope="module")
def qwen2():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return Qwen2ForCausalLM(config).eval()


def never() -> bool:
    return False


def likeliest(model, prompt: list[int], count: int, vocabulary: int) -> list[int]:
    """The oracle: the whole text is read anew for every token, without a cache."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, :vocabulary]
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prefill", [3, 4096])
def test_without_temperature_the_likeliest_tokens_are_written(
    qwen2, monkeypatch: pytest.MonkeyPatch, prefill: int
) -> None:
    monkeypatch.setattr("models.generation._PREFILL", prefill)
    writing = Writing(frozenset(), vocabulary=64, max_tokens=12)
    found = list(written(qwen2, [5, 9, 2, 33, 7, 7, 1], writing, never))
    assert found == likeliest(qwen2, [5, 9, 2, 33, 7, 7, 1], 12, 64)


def test_padding_rows_are_never_written_and_a_stop_ends_the_text(qwen2) -> None:
    all_rows = likeliest(qwen2, [1, 2, 3], 20, 64)
    vocabulary = max(all_rows)  # the largest id counts as padding now
    writing = Writing(frozenset(), vocabulary, max_tokens=20)
    found = list(written(qwen2, [1, 2, 3], writing, never))
    assert found == likeliest(qwen2, [1, 2, 3], 20, vocabulary)
    assert max(found) < vocabulary
    stop = found[-1]
    ended = list(
        written(qwen2, [1, 2, 3], Writing(frozenset({stop}), vocabulary, max_tokens=20), never)
    )
    assert ended == found[: found.index(stop)]


def test_temperature_throws_dice_within_the_share(qwen2) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        shares = torch.softmax(qwen2(input_ids=torch.tensor([[1, 2]])).logits[0, -1], dim=-1)
    ranked = shares.sort(descending=True)
    inside = set(ranked.indices[: int((ranked.values.cumsum(0) < 0.3).sum()) + 1].tolist())
    writing = Writing(frozenset(), 64, max_tokens=1, temperature=1.0, sampling=Sampling(top_p=0.3))
    thrown = Counter(next(iter(written(qwen2, [1, 2], writing, never))) for _ in range(100))
    assert set(thrown) <= inside
    assert len(thrown) > 1


def thrown(model, count: int, sampling: Sampling) -> list[int]:
    writing = Writing(frozenset(), 64, max_tokens=count, temperature=1.0, sampling=sampling)
    return list(written(model, [1, 2], writing, never))


def test_the_same_seed_throws_the_same_and_one_candidate_is_the_likeliest(qwen2) -> None:
    first = thrown(qwen2, 20, Sampling(seed=5))
    assert thrown(qwen2, 20, Sampling(seed=5)) == first
    assert thrown(qwen2, 20, Sampling(seed=6)) != first
    assert thrown(qwen2, 9, Sampling(top_k=1)) == likeliest(qwen2, [1, 2], 9, 64)


def test_penalties_turn_away_from_what_was_written_but_not_from_the_prompt(qwen2) -> None:
    plain = Writing(frozenset(), 64, max_tokens=40)
    assert len(set(written(qwen2, [1, 2], plain, never))) < 40
    for penalty in (Sampling(presence_penalty=1000.0), Sampling(frequency_penalty=1000.0)):
        turned = Writing(frozenset(), 64, max_tokens=40, sampling=penalty)
        ids = list(written(qwen2, list(range(64)), turned, never))
        assert len(set(ids)) == 40
        assert ids[0] == likeliest(qwen2, list(range(64)), 1, 64)[0]


def test_a_reader_who_left_ends_it(qwen2) -> None:
    read: list[int] = []
    writing = Writing(frozenset(), 64, max_tokens=1000)
    for token in written(qwen2, [1], writing, lambda: len(read) == 3):
        read.append(token)
    assert len(read) == 3
