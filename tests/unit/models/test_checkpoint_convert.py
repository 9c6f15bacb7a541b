"""A published checkpoint becomes a plain folder that transformers loads without code of ours."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_zhinao import reference_qwen2, write_chat, write_reranker, write_search

from models.checkpoint.convert import PROGRESS, convert
from models.checkpoint.errors import DamagedCheckpoint, NotEnoughSpace, UnknownCheckpoint
from models.checkpoint.manifest import MANIFEST, FileRecord, check_files, read_manifest, record
from models.checkpoint.plan import Part, Piece, pack
from models.checkpoint.writer import Entry, write_tensors
from pipeline.errors import Conflict, NotFound, RagError

IDS = torch.tensor([[5, 9, 200, 31, 77, 256, 12]])


def run(source: Path, target: Path, **options: Any) -> Any:
    return convert(source, target, name="tiny", free=lambda _: 10**12, **options)


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        return model(IDS).logits


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize(
    ("shards", "form"), [(1, "safetensors"), (2, "safetensors"), (1, "bin"), (2, "bin")]
)
def test_a_converted_chat_model_answers_with_the_logits_of_the_reference(
    tmp_path: Path, kv_heads: int, shards: int, form: str
) -> None:
    source = write_chat(tmp_path / "a", kv_heads=kv_heads, shards=shards, form=form)
    target = tmp_path / "b"
    run(source, target, shard_bytes=300_000 if shards > 1 else 10**9)
    assert (len(list(target.glob("*.safetensors"))) > 1) == (shards > 1)
    reference = reference_qwen2(source).float()
    with torch.no_grad():
        assert torch.equal(logits(target), reference(IDS).logits)
    assert "auto_map" not in json.loads((target / "config.json").read_text())


def test_context_rope_and_sampling_come_over(tmp_path: Path) -> None:
    from transformers import AutoConfig, GenerationConfig

    changed = {"rope_theta": 5e7, "max_position_embeddings": 360000}
    source = write_chat(tmp_path / "a", config=changed)
    run(source, tmp_path / "b")
    config = AutoConfig.from_pretrained(tmp_path / "b")
    assert config.rope_parameters["rope_theta"] == 5e7
    assert config.max_position_embeddings == 360000
    assert config.tie_word_embeddings is False
    sampling = GenerationConfig.from_pretrained(tmp_path / "b")
    assert len(sampling.eos_token_id) == 3
    assert sampling.pad_token_id == sampling.eos_token_id[0]
    with torch.no_grad():
        assert torch.equal(logits(tmp_path / "b"), reference_qwen2(source).float()(IDS).logits)


def test_the_tokenizer_reads_spaces_and_chat_messages(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = write_chat(tmp_path / "a")
    run(source, tmp_path / "b")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b", local_files_only=True)
    text = "def f():\n        return 1  # 你好"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}], add_generation_prompt=True, return_dict=False
    )
    assert prompt.count(config["eos_token_id"][2]) == 2
    assert tokenizer.model_max_length == config["max_position_embeddings"]


HARD = [
    "def f():\n        return 1  # 你好",
    "空气净化器",
    "人工智能 空气净化器的",
    " headquarters",
    "e\u0301 é",
    "one[br]two<br>three",
    "a   b  c         d",
    "<|im_start|>user\n你好<|im_end|>\n",
    "\ud55c\uad6d\uc5b4 3.14 'll",
]


def test_any_loader_reads_texts_as_the_published_tokenizer_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from models.zhinao.tokenizer import load_tokenizer

    for name, write in (("chat", write_chat), ("rerank", write_reranker)):
        source = write(tmp_path / name)
        run(source, tmp_path / f"{name}-plain")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / f"{name}-plain", local_files_only=True)
        published = load_tokenizer(source)
        for text in HARD:
            expected = published.encode(text, add_special_tokens=False).ids
            assert tokenizer(text)["input_ids"] == expected, text
            assert tokenizer.decode(expected) == published.decode(expected, False), text


def test_the_reranker_has_a_score_and_no_language_head(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    source = write_reranker(tmp_path / "a")
    run(source, tmp_path / "b")
    published = torch.load(source / "pytorch_model.bin", weights_only=True)
    held = all_tensors(tmp_path / "b")
    assert torch.equal(held["score.weight"], published["linear.weight"])
    assert not any(name.startswith(("lm_head", "linear")) for name in held)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "b", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        state = model.model(IDS).last_hidden_state[:, -1]
        assert torch.allclose(model(IDS).logits, model.score(state), atol=1e-6)
    assert model.config.score_position is None


def test_the_embedder_loads_as_bert_with_its_pooling_files(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    source = write_search(tmp_path / "a")
    run(source, tmp_path / "b")
    published = torch.load(source / "pytorch_model.bin", weights_only=True)
    held = all_tensors(tmp_path / "b")
    assert {f"bert.{name}" for name in held} == {n for n in published if "position_ids" not in n}
    assert all(torch.equal(published[f"bert.{name}"], tensor) for name, tensor in held.items())
    model, info = AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert type(model).__name__ == "BertModel"
    assert not info["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b")
    ids = tokenizer("保修")["input_ids"]
    words = (source / "vocab.txt").read_text("utf-8").splitlines()
    assert [words[one] for one in ids] == ["[CLS]", "保", "修", "[SEP]"]
    modules = json.loads((tmp_path / "b" / "modules.json").read_text())
    assert [one["path"] for one in modules] == ["", "1_Pooling", "2_Normalize"]
    pooling = json.loads((tmp_path / "b" / "1_Pooling" / "config.json").read_text())
    assert [name for name, on in pooling.items() if on is True] == ["pooling_mode_cls_token"]


TEI = {
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "hidden_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "initializer_range", "layer_norm_eps", "pad_token_id", "architectures", "model_type",
}  # fmt: skip
"""What TEI's BERT asks of config.json and has no default for (its bert.rs and router)."""


def test_the_embedder_has_every_field_and_file_that_tei_reads(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import BertConfig

    source = write_search(tmp_path / "a")
    bare = {
        "hidden_act",
        "hidden_dropout_prob",
        "initializer_range",
        "layer_norm_eps",
        "pad_token_id",
    }
    path = source / "config.json"
    published = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in published.items() if k not in bare}))
    run(source, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert set(config) >= TEI
    defaults = BertConfig()
    assert {name: config[name] for name in bare} == {name: getattr(defaults, name) for name in bare}
    pooling = json.loads((tmp_path / "b" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_cls_token"] is True
    assert pooling["pooling_mode_mean_tokens"] is False
    limits = json.loads((tmp_path / "b" / "sentence_bert_config.json").read_text())
    assert limits["max_seq_length"] == 512
    prompts = json.loads((tmp_path / "b" / "config_sentence_transformers.json").read_text())
    assert prompts["prompts"] == {"query": "为这个句子生成表示以用于检索相关文章：", "document": ""}
    words = (source / "vocab.txt").read_text("utf-8").splitlines()
    ids = Tokenizer.from_file(str(tmp_path / "b" / "tokenizer.json")).encode("保修").ids
    assert [words[one] for one in ids] == ["[CLS]", "保", "修", "[SEP]"]
    assert {name.split(".")[0] for name in all_tensors(tmp_path / "b")} == {
        "embeddings",
        "encoder",
        "pooler",
    }


def test_the_manifest_names_every_file_and_the_source(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a", shards=2)
    manifest = run(source, tmp_path / "b")
    assert read_manifest(tmp_path / "b") == manifest
    files = {
        str(path.relative_to(tmp_path / "b"))
        for path in (tmp_path / "b").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert set(manifest.files) == files - {MANIFEST}
    check_files(tmp_path / "b", manifest.files)
    for name, one in manifest.source.files.items():
        assert record(source / name) == one
    assert manifest.kind == "chat"


def test_a_stopped_conversion_goes_on_and_keeps_its_finished_shards(tmp_path: Path) -> None:
    source, target = write_chat(tmp_path / "a"), tmp_path / "b"

    def stop(what: str, done: int, _: int) -> None:
        if what == "converting" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, shard_bytes=200_000, step=stop)
    assert not (target / MANIFEST).exists()
    finished = {path: path.stat().st_mtime_ns for path in target.glob("*.safetensors")}
    assert len(finished) == 2
    damaged, kept = sorted(finished)
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    (target / ".model-00003-of-00009.safetensors.part").write_bytes(b"half")
    run(source, target, shard_bytes=200_000)
    assert kept.stat().st_mtime_ns == finished[kept]
    once = tmp_path / "c"
    run(source, once, shard_bytes=200_000)
    assert read_manifest(once).files == read_manifest(target).files
    assert not list(target.glob(".*.part"))
    assert not (target / PROGRESS).exists()


def test_a_finished_folder_is_checked_and_left(tmp_path: Path) -> None:
    source, target = write_chat(tmp_path / "a"), tmp_path / "b"
    first = run(source, target)
    before = (target / "model.safetensors").stat().st_mtime_ns
    assert run(source, target) == first
    assert (target / "model.safetensors").stat().st_mtime_ns == before
    (target / "config.json").write_text("{}")
    with pytest.raises(DamagedCheckpoint, match=r"config\.json"):
        run(source, target)


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("dear")
    with pytest.raises(Conflict, match=r"letter\.txt"):
        run(source, tmp_path / "b")
    run(source, tmp_path / "c")
    with pytest.raises(Conflict, match="other files"):
        run(write_chat(tmp_path / "d", seed=1), tmp_path / "c")
    assert (tmp_path / "b" / "letter.txt").read_text() == "dear"


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a")
    with pytest.raises(NotEnoughSpace, match="larger disk"):
        convert(source, tmp_path / "b", name="tiny", free=lambda _: 1000)
    assert not list((tmp_path / "b").glob("*.safetensors"))


def change(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


NORM = "model.norm.weight"
BAD: dict[str, tuple[Any, type[RagError], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), NotFound, "config.json"),
    "a broken config": (lambda f: (f / "config.json").write_text("{"), DamagedCheckpoint, "config"),
    "another architecture": (
        lambda f: change(f, model_type="gpt2"), UnknownCheckpoint, "360Zhinao family",
    ),
    "a plain model": (lambda f: change(f, model_type="qwen2"), UnknownCheckpoint, "no conversion"),
    "other sizes": (lambda f: change(f, vocab_size=512), UnknownCheckpoint, "shape"),
    "no size": (lambda f: change(f, hidden_size=None), UnknownCheckpoint, "hidden_size"),
    "heads that do not fit": (
        lambda f: change(f, num_key_value_heads=3), UnknownCheckpoint, "do not fit",
    ),
    "a scaled rope": (
        lambda f: change(f, rope_scaling={"type": "linear"}), UnknownCheckpoint, "rotary",
    ),
    "another activation": (lambda f: change(f, hidden_act="gelu"), UnknownCheckpoint, "gelu"),
    "a missing file": (lambda f: (f / "model.safetensors").unlink(), NotFound, "no weights"),
    "an empty file": (
        lambda f: (f / "model.safetensors").write_bytes(b""), DamagedCheckpoint, "is empty",
    ),
    "a truncated file": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:-100]
        ),
        DamagedCheckpoint, "model.safetensors is truncated",
    ),
    "an unknown tensor": (
        lambda f: edit(f, "model.extra.weight", torch.zeros(1)), UnknownCheckpoint, "model.extra",
    ),
    "a missing tensor": (lambda f: edit(f, NORM, None), DamagedCheckpoint, NORM),
    "a wrong dtype": (
        lambda f: edit(f, NORM, torch.zeros(128, dtype=torch.int8)), UnknownCheckpoint, "I8",
    ),
    "no vocabulary": (lambda f: shutil.rmtree(f / "vocab"), NotFound, "360.tiktoken"),
    "an unfinished download": (
        lambda f: (f / ".model.safetensors.abc.part").write_bytes(b"x"), NotFound, "models pull",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    spoil, error, says = BAD[name]
    source = write_chat(tmp_path / "a")
    spoil(source)
    with pytest.raises(error, match=re.escape(says)):
        run(source, tmp_path / "b")
    assert not (tmp_path / "b" / MANIFEST).exists()


def test_shards_that_are_missing_or_lack_a_tensor_are_named(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a", shards=2)
    last = max(source.glob("*.safetensors"))
    tensors = load_file(last)
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, last)
    with pytest.raises(DamagedCheckpoint, match=f"{last.name}.*{re.escape(name)}"):
        run(source, tmp_path / "b")
    last.unlink()
    with pytest.raises(NotFound, match=last.name):
        run(source, tmp_path / "b")


def test_a_bin_that_is_cut_or_holds_code_is_refused(tmp_path: Path) -> None:
    source = write_chat(tmp_path / "a", form="bin")
    path = source / "pytorch_model.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedCheckpoint, match=r"pytorch_model\.bin"):
        run(source, tmp_path / "b")
    torch.save({"model.norm.weight": re.compile("x")}, path)
    with pytest.raises(DamagedCheckpoint, match="more than tensors"):
        run(source, tmp_path / "b")
    torch.save([torch.zeros(1)], path)
    with pytest.raises(UnknownCheckpoint, match="no table"):
        run(source, tmp_path / "b")


def test_packing_keeps_order_limits_and_the_parts_of_a_tensor_together() -> None:
    pieces = [
        Piece(Entry(f"{file}{n}{part.value}", "F32", (10,)), f"{file}{n}", file, part)
        for file in "ab"
        for n in range(5)
        for part in (Part.Q, Part.K, Part.V)
    ]
    shards = pack(pieces, 250)
    assert [piece for shard in shards for piece in shard] == pieces
    for shard in shards:
        assert len({piece.file for piece in shard}) == 1
        assert sum(piece.target.bytes for piece in shard) <= 250
        assert len(shard) % 3 == 0
    assert len(pack(pieces, 1)) == 10


def test_the_writer_s_files_are_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).bfloat16(),
        "b": torch.arange(7, dtype=torch.int32),
        "c": torch.randn(4, 6).t(),
        "d": torch.tensor(2.5),
        "e": torch.zeros(0, 3),
    }
    names = {torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32"}
    entries = [Entry(n, names[t.dtype], tuple(t.shape)) for n, t in tensors.items()]
    written = write_tensors(tmp_path / "x.safetensors", entries, tensors.values())
    assert written == record(tmp_path / "x.safetensors")
    assert isinstance(written, FileRecord)
    read = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


MEMORY = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from models.checkpoint.convert import convert
    warm, source, target = map(Path, sys.argv[1:])
    convert(warm, target / "warm", name="x")
    def status(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(l for l in lines if l.startswith(name)).split()[1])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is held now
    before = status("VmRSS")
    convert(source, target / "big", name="x")
    print(status("VmHWM") - before)
    """
)


def write_large(folder: Path, *, form: str) -> int:
    """A checkpoint of four shards of 39 MB, one layer each; gives the bytes of the largest shard."""
    sizes = {"hidden_size": 1024, "intermediate_size": 1792, "num_hidden_layers": 4}
    write_chat(folder, config=None)
    config = json.loads((folder / "config.json").read_text())
    config |= sizes | {"num_attention_heads": 8, "num_key_value_heads": 8}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    shapes = {
        "self_attn.qkv_proj.weight": (3072, 1024),
        "self_attn.qkv_proj.bias": (3072,),
        "self_attn.o_proj.weight": (1024, 1024),
        "mlp.gate_proj.weight": (1792, 1024),
        "mlp.up_proj.weight": (1792, 1024),
        "mlp.down_proj.weight": (1024, 1792),
        "input_layernorm.weight": (1024,),
        "post_attention_layernorm.weight": (1024,),
    }
    table: dict[str, str] = {}
    for layer in range(4):
        held = {f"model.layers.{layer}.{name}": shape for name, shape in shapes.items()}
        if layer == 0:
            held["model.embed_tokens.weight"] = (config["vocab_size"], 1024)
            held["lm_head.weight"] = (config["vocab_size"], 1024)
            held["model.norm.weight"] = (1024,)
        tensors = {name: torch.rand(shape) for name, shape in held.items()}
        if form == "bin":
            file = f"pytorch_model-{layer + 1:05d}-of-00004.bin"
            torch.save(tensors, folder / file)
        else:
            file = f"model-{layer + 1:05d}-of-00004.safetensors"
            save_file(tensors, folder / file)
        table |= dict.fromkeys(tensors, file)
    stem = "pytorch_model.bin" if form == "bin" else "model.safetensors"
    (folder / f"{stem}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return max((folder / file).stat().st_size for file in table.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_peak_memory_stays_under_two_shards(tmp_path: Path, form: str) -> None:
    shard = write_large(tmp_path / "big", form=form)
    warm = write_chat(tmp_path / "warm", form=form)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(warm), str(tmp_path / "big"), str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
    )
    peak = int(done.stdout)
    total = sum(path.stat().st_size for path in (tmp_path / "out" / "big").glob("*.safetensors"))
    assert total > 3.5 * shard
    assert shard / 10 < peak < 2 * shard
