"""The kind of a model is what its config.json says, whatever it is called."""

import json
import subprocess
import sys

import pytest
import tiny
from tiny_control import save_tiny_control
from tiny_video import llava

from transfer.adapters.kinds import ALIASES, kind_of, shipped_models
from transfer.adapters.published_control import published_models
from transfer.checkpoints import shipped
from transfer.doctor import examine
from transfer.errors import UserError


def folder_with(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def test_everything_that_ships_and_its_short_names():
    found = {
        name: kind for kind in ("language", "video", "control") for name in shipped_models(kind)
    }
    assert set(found) == set(shipped("config.json")) - set(shipped("namm.safetensors"))
    assert all(kind_of(name) == kind for name, kind in found.items())
    assert found["gpt2-recall"] == "language"
    assert [found[name] for name in ALIASES.values()] == ["control", "video"]
    assert [kind_of(name) for name in ALIASES] == ["control", "video"]


def test_names_of_folders_do_not_matter(tmp_path):
    language, video = tmp_path / "decision-transformer-llava-next-video", tmp_path / "my-llama"
    tiny.llama().config.save_pretrained(language)
    llava().config.save_pretrained(video)
    assert (kind_of(language), kind_of(video)) == ("language", "video")


def test_a_decision_transformer_is_one_without_its_control_json(tmp_path):
    save_tiny_control(tmp_path)
    (tmp_path / "control.json").unlink()
    assert kind_of(tmp_path) == "control"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "llama"}, "language"),
        ({"model_type": "new", "architectures": ["NewForCausalLM"]}, "language"),
        (
            {
                "model_type": "newer",
                "architectures": ["NewerForConditionalGeneration"],
                "text_config": {},
            },
            "language",
        ),
        ({"model_type": "llava_next_video", "architectures": None}, "video"),
    ],
)
def test_families(tmp_path, config, kind):
    assert kind_of(folder_with(tmp_path, **config)) == kind


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {},
    ],
)
def test_other_families_are_refused(tmp_path, config):
    with pytest.raises(UserError, match=f"type '{config.get('model_type')}', which is none that"):
        kind_of(folder_with(tmp_path, **config))


def test_folders_without_a_usable_configuration(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json; save a model there, or check"):
        kind_of(tmp_path)
    for text, sentence in (("{", "is not valid JSON"), ("[]", "is no JSON object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=f"config.json {sentence}"):
            kind_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("lama-recall", "llama-recall"),
        ("decision-transformr", "decision-transformer"),
        ("llava-next-vido", "llava-next-video"),
        ("decision-transformer-hoper-mixed", "decision-transformer-hopper-mixed"),
    ],
)
def test_a_name_that_is_nothing(name, near):
    with pytest.raises(UserError, match=rf"unknown model '{name}'; did you mean {near}\b"):
        kind_of(name)


def test_repositories_say_it_by_their_config(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repo, file):
        asked.append((repo, file))
        return tmp_path / file

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    folder_with(tmp_path, model_type="llava_next_video")
    assert kind_of("someone/llama-3-renamed") == "video"
    assert asked == [("someone/llama-3-renamed", "config.json")]
    assert all(kind_of(name) == "control" for name in published_models())
    assert len(asked) == 1


def test_a_repository_that_cannot_be_reached():
    with pytest.raises(UserError, match=r"config.json could not be fetched .*; check the name and"):
        kind_of("nobody/nothing")


def test_it_imports_nothing_heavy():
    program = (
        "import sys; from transfer.adapters.kinds import kind_of; kind_of('llama-recall');"
        "print(sorted({'torch', 'transformers', 'gymnasium', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_doctor_takes_every_kind():
    for name in ("llama-recall", "decision-transformer"):
        *_, last = examine(name)
        assert last.ok
        assert last.text.startswith(name)
