"""AutoTokenizer reads a published folder without remote code, with the context of its model."""

import json

import pytest
from transformers import AutoConfig, AutoTokenizer

from models.zhinao import auto_tokenizer, modeling
from models.zhinao.auto_tokenizer import ZhinaoTokenizer
from models.zhinao.tokenizer import VOCABULARY, load_tokenizer
from tests.fixtures.tiny_zhinao import write_chat, write_vocabulary

TEXT = "def f():\n        return 1<br>保修期空气净化器[space4]<|im_end|>  end"
QUESTION = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(autouse=True)
def _registered():
    modeling.register()
    auto_tokenizer.register()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat(tmp_path_factory.mktemp("chat"), config={"max_position_embeddings": 360_000})


def test_a_folder_that_names_remote_code_loads_with_ours(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["auto_map"]["AutoTokenizer"][0] == "tokenization_zhinao.ZhinaoTokenizer"
    assert not list(folder.glob("*.py"))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert type(tokenizer) is ZhinaoTokenizer
    assert tokenizer(TEXT)["input_ids"] == load_tokenizer(folder).encode(TEXT).ids
    ranks = len((folder / VOCABULARY).read_text().splitlines())
    assert len(tokenizer) == ranks + 11
    assert tokenizer.bos_token is None
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (ranks, ranks + 1)
    assert tokenizer.eos_token_id == ranks + 3
    assert tokenizer.padding_side == "left"


def test_skipping_special_tokens_keeps_spaces(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a    b<|im_end|><eod><mask>        c")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a    b        c"


def test_the_published_test_vector_has_22_tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)["input_ids"]
    assert len(ids) == 22


def test_the_context_is_the_models_and_not_the_tokenizer_files(folder):
    told = json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"]
    assert told == 4096
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 360_000
    assert AutoTokenizer.from_pretrained(folder, model_max_length=100).model_max_length == 100


def test_a_saved_tokenizer_is_the_same_again(folder, tmp_path):
    first = AutoTokenizer.from_pretrained(folder)
    first.save_pretrained(tmp_path)
    assert not (tmp_path / VOCABULARY).exists()
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is ZhinaoTokenizer
    assert again(TEXT)["input_ids"] == first(TEXT)["input_ids"]
    assert again.decode(again(TEXT)["input_ids"]) == first.decode(first(TEXT)["input_ids"])
    assert len(again) == len(first)
    assert again.apply_chat_template(QUESTION, tokenize=False) == first.apply_chat_template(
        QUESTION, tokenize=False
    )
    assert again.model_max_length == 360_000


def test_a_folder_without_a_template_gets_the_one_of_training(tmp_path):
    write_vocabulary(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["chat_template"]
    path.write_text(json.dumps(config))
    text = ZhinaoTokenizer.from_pretrained(tmp_path).apply_chat_template(QUESTION, tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")


def test_the_template_of_the_folder_is_kept(tmp_path):
    write_vocabulary(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"chat_template": "{{ messages[0]['content'] }}!"}
    path.write_text(json.dumps(config))
    tokenizer = ZhinaoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.apply_chat_template(QUESTION, tokenize=False) == "Who are you?!"


def test_a_damaged_vocabulary_is_named(tmp_path):
    write_vocabulary(tmp_path)
    path = tmp_path / VOCABULARY
    path.write_text(path.read_text().replace(" 20\n", " x\n", 1))
    with pytest.raises(ValueError, match=r"360\.tiktoken, line 21: not a base64 word"):
        ZhinaoTokenizer.from_pretrained(tmp_path)


def test_the_configuration_is_found_too(folder):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    assert config.max_position_embeddings == 360_000
