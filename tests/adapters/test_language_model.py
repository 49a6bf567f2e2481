import pytest
import tiny
import torch
from tasks.words import word_tokenizer

from transfer.adapters import kinds, placement
from transfer.adapters.kinds import shipped_models
from transfer.adapters.language_model import load_language_model
from transfer.adapters.scoring import score_batch
from transfer.errors import UserError
from transfer.tasks.recall import TASKS, make_batch


@pytest.fixture
def folder(tmp_path):
    tiny.llama().save_pretrained(tmp_path / "small")
    return tmp_path / "small"


def test_a_folder_without_a_tokenizer(folder):
    loaded = load_language_model(folder)
    assert loaded.tokenizer is None
    assert loaded.name == "small"
    assert not loaded.model.training
    assert loaded.model.config.num_key_value_heads == 2


def test_symbol_models_are_float32_in_memory(tmp_path):
    model = tiny.gpt2().half()
    model.save_pretrained(tmp_path)
    loaded = load_language_model(tmp_path).model
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight.float())


def test_a_folder_with_a_tokenizer_keeps_its_type(folder, monkeypatch):
    monkeypatch.setattr(placement, "_has_arithmetic", lambda half: True)
    tiny.llama().bfloat16().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    loaded = load_language_model(str(folder))
    assert loaded.tokenizer is not None
    assert loaded.model.dtype == torch.bfloat16
    assert (
        loaded.tokenizer.decode(loaded.tokenizer.encode("The lamp is red.")) == "The lamp is red."
    )


def test_a_shipped_name(folder, monkeypatch):
    ships = {"config.json": {"tiny": folder}, "namm.safetensors": {}}
    monkeypatch.setattr(kinds, "shipped", ships.get)
    assert shipped_models("language") == ["tiny"]
    assert load_language_model("tiny").name == "tiny"


def test_what_ships():
    assert {"llama-recall", "llama-recall-wide", "gpt2-recall"} <= set(shipped_models("language"))


@pytest.mark.parametrize("name", shipped_models("language"))
@pytest.mark.parametrize("length", [256, 512])
def test_shipped_models_retrieve(name, length):
    model = load_language_model(name).model
    assert model.dtype == torch.float32
    batch = make_batch(TASKS["recall"], length, range(5000, 5048))
    assert score_batch(model, batch).correct.mean() > 0.95


def test_no_such_model():
    with pytest.raises(UserError, match=r"^'nobody/nothing' is no shipped model or folder, and "):
        load_language_model("nobody/nothing")


def test_damaged_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="small cannot be loaded"):
        load_language_model(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="small cannot be loaded"):
        load_language_model(folder)


def test_incomplete_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 'model\.layers\.1\.self_attn\.q_proj\.weight'"):
        load_language_model(folder)


def test_no_language_model(tmp_path):
    tiny.decision_transformer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is a Decision Transformer .*, not a language model"):
        load_language_model(tmp_path)
