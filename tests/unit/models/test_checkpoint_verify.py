"""A converted folder is compared with its original, and the reranker's score position measured."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_zhinao import write_chat, write_reranker, write_search

from models.checkpoint.convert import convert
from models.checkpoint.errors import DamagedCheckpoint
from models.checkpoint.manifest import check_files, read_manifest, record, write_manifest
from models.checkpoint.probe import position_scores
from models.checkpoint.score_position import (
    Pair,
    ScorePosition,
    auc,
    chance_limit,
    decide,
    read_pairs,
)
from models.checkpoint.verify import TOLERANCE, check_folder, verify
from pipeline.errors import Conflict, InvalidInput, NotFound

RELEVANT = [True] * 12 + [False] * 12


def run(source: Path, target: Path) -> None:
    convert(source, target, name="tiny", free=lambda _: 10**12)


def forge(target: Path, name: str, change: Any) -> None:
    """Change a tensor and make the manifest agree, as a wrong converter would."""
    path = target / "model.safetensors"
    tensors = load_file(path)
    change(tensors, name)
    save_file(tensors, path, metadata={"format": "pt"})
    manifest = read_manifest(target)
    manifest.files["model.safetensors"] = record(path)
    write_manifest(target, manifest)


@pytest.mark.parametrize("write", [write_chat, write_search, write_reranker])
def test_a_conversion_is_its_original_to_the_bit(tmp_path: Path, write: Any) -> None:
    source = write(tmp_path / "a")
    run(source, tmp_path / "b")
    report = verify(source, tmp_path / "b")
    assert report.tensors == len(load_file(tmp_path / "b" / "model.safetensors"))
    assert report.files == len(read_manifest(tmp_path / "b").files)
    assert report.logits is not None
    assert report.logits <= TOLERANCE
    assert report.decision is None


def swap(tensors: dict[str, torch.Tensor], name: str) -> None:
    other = name.replace("k_proj", "v_proj")
    tensors[name], tensors[other] = tensors[other], tensors[name]


def drop(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def cast(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = tensors[name].double().half()


def nudge(tensors: dict[str, torch.Tensor], name: str) -> None:
    flat = tensors[name].view(-1)
    flat[0] = flat[0] * 1.5 + 1


@pytest.mark.parametrize("change", [swap, drop, cast, nudge])
def test_a_wrong_tensor_is_named(tmp_path: Path, change: Any) -> None:
    source = write_chat(tmp_path / "a")
    run(source, tmp_path / "b")
    name = "model.layers.1.self_attn.k_proj.weight"
    forge(tmp_path / "b", name, change)
    with pytest.raises(DamagedCheckpoint, match=re.escape(name)):
        verify(source, tmp_path / "b")


def test_a_config_that_computes_something_else_shows_in_the_logits(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a")
    run(source, tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_theta": 3.0}))
    manifest = read_manifest(tmp_path / "b")
    manifest.files["config.json"] = record(path)
    write_manifest(tmp_path / "b", manifest)
    with pytest.raises(DamagedCheckpoint, match="logits"):
        verify(source, tmp_path / "b")


def test_a_changed_short_or_missing_file_is_named(tmp_path: Path) -> None:
    run(write_chat(tmp_path / "a"), tmp_path / "b")
    path = tmp_path / "b" / "tokenizer.json"
    whole = path.read_bytes()
    for wrong in (whole[:-1] + b" ", whole[:-1]):
        path.write_bytes(wrong)
        with pytest.raises(DamagedCheckpoint, match=r"tokenizer\.json"):
            check_folder(tmp_path / "b")
    path.unlink()
    with pytest.raises(DamagedCheckpoint, match="missing"):
        check_folder(tmp_path / "b")
    with pytest.raises(NotFound, match="convert"):
        check_folder(tmp_path / "a")


def test_another_original_is_a_conflict(tmp_path: Path) -> None:
    run(write_chat(tmp_path / "a"), tmp_path / "b")
    with pytest.raises(Conflict, match="other weights"):
        verify(write_chat(tmp_path / "c", form="bin"), tmp_path / "b")


def test_a_bias_of_the_head_is_kept_as_an_offset(tmp_path: Path) -> None:
    source = write_reranker(tmp_path / "a", bias=True)
    run(source, tmp_path / "b")
    published = torch.load(source / "pytorch_model.bin", weights_only=True)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["score_offset"] == pytest.approx(published["linear.bias"].item())
    report = verify(source, tmp_path / "b")
    assert report.logits is not None
    assert report.logits <= TOLERANCE


def test_a_random_head_leaves_the_position_undecided(tmp_path: Path) -> None:
    source = write_reranker(tmp_path / "a")
    run(source, tmp_path / "b")
    before = (tmp_path / "b" / "config.json").read_bytes()
    report = verify(source, tmp_path / "b", pairs=read_pairs(), probe=False)
    assert report.decision is not None
    assert report.decision.winner is None
    assert "nothing was recorded" in report.decision.says
    assert (tmp_path / "b" / "config.json").read_bytes() == before


def fit_head(source: Path, target: Path, place: ScorePosition) -> None:
    """Give the reranker a head that separates the shipped pairs at one position and fails elsewhere.

    The head solves least squares: +1 and -1 at `place`, 0 at every other position.
    """
    pairs = read_pairs()
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    states = {one: torch.tensor(states_at(target, pairs, one)) for one in ScorePosition}
    wanted = torch.tensor([1.0 if pair.relevant else -1.0 for pair in pairs])
    rows = torch.cat([states[place], *(states[one] for one in ScorePosition if one is not place)])
    aims = torch.cat([wanted, torch.zeros(len(rows) - len(pairs))])
    head = torch.linalg.lstsq(rows, aims[:, None], driver="gelsd").solution
    weights["linear.weight"] = head.t().contiguous().to(weights["linear.weight"].dtype)
    torch.save(weights, source / "pytorch_model.bin")


def states_at(target: Path, pairs: list[Pair], place: ScorePosition) -> list[list[float]]:
    from models.checkpoint.probe import position_states

    return [states[place].tolist() for states in position_states(target, pairs)]


@pytest.mark.parametrize("place", [ScorePosition.BEFORE_PLACEHOLDER, ScorePosition.LAST])
def test_the_position_that_works_is_recorded(tmp_path: Path, place: ScorePosition) -> None:
    source = write_reranker(tmp_path / "a")
    run(source, tmp_path / "first")
    fit_head(source, tmp_path / "first", place)
    target = tmp_path / "b"
    run(source, target)
    report = verify(source, target, pairs=read_pairs(), probe=False)
    assert report.decision is not None
    assert report.decision.winner is place
    config = json.loads((target / "config.json").read_text())
    assert config["score_position"] == place.value
    assert config["score_position_auc"][place.value] > 0.9
    check_files(target, read_manifest(target).files)


def test_a_score_before_the_placeholder_is_last_token_pooling(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    from models.checkpoint.probe import prompt_ids

    run(write_reranker(tmp_path / "a"), tmp_path / "b")
    pair = read_pairs()[0]
    ids, tail = prompt_ids(tmp_path / "b", pair)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "b", dtype=torch.float32)
    with torch.no_grad():
        pooled = float(model(torch.tensor([ids[:-tail]])).logits)
    scored = position_scores(tmp_path / "b", [pair])[ScorePosition.BEFORE_PLACEHOLDER][0]
    assert scored == pytest.approx(pooled, abs=1e-5)


@given(st.lists(st.integers(-5, 5), min_size=24, max_size=24))
@settings(deadline=None, max_examples=50)
def test_the_area_counts_ordered_pairs(scores: list[int]) -> None:
    area = auc(scores, RELEVANT)
    assert area + auc([-score for score in scores], RELEVANT) == pytest.approx(1)
    assert auc([3 * score + 1 for score in scores], RELEVANT) == area
    brute = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[:12] for b in scores[12:])
    assert area == brute / 144


def test_chance_has_a_limit_that_falls_with_more_pairs() -> None:
    assert chance_limit(12, 12) == pytest.approx(0.5 + 3 * math.sqrt(25 / 1728))
    assert chance_limit(200, 200) < chance_limit(12, 12) < 1


def test_between_equal_positions_the_likelier_wins() -> None:
    good = [float(yes) for yes in RELEVANT]
    decision = decide(dict.fromkeys(ScorePosition, good), RELEVANT)
    assert decision.winner is ScorePosition.BEFORE_PLACEHOLDER


def test_scores_in_the_wrong_order_win_nothing() -> None:
    bad = [-float(yes) for yes in RELEVANT]
    assert decide(dict.fromkeys(ScorePosition, bad), RELEVANT).winner is None


def test_scores_that_are_no_numbers_are_damage() -> None:
    with pytest.raises(DamagedCheckpoint, match="NaN"):
        decide({place: [math.nan] * 24 for place in ScorePosition}, RELEVANT)


def test_the_shipped_pairs_are_balanced_in_both_languages() -> None:
    pairs = read_pairs()
    assert len(pairs) == 24
    assert sum(pair.relevant for pair in pairs) == 12
    assert sum(any(c > "\u4e00" for c in pair.query) for pair in pairs) == 12


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1"),
        ('{"query": "a", "passage": "b"}', "line 1"),
        ('{"query": "a", "passage": "b", "label": "yes"}', "line 1"),
        ('{"query": "a", "passage": "b", "label": 1}', "at least 8"),
    ],
)
def test_wrong_files_of_pairs_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput, match=says):
        read_pairs(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
