"""A model is known by what its weights are: not by their place, their time, or what lies beside."""

import os
import shutil

import pytest
import tiny

from transfer.adapters import weights
from transfer.adapters.weights import weights_digest


@pytest.fixture
def model(tmp_path):
    found = tiny.llama()
    found.save_pretrained(tmp_path / "model")
    found.name_or_path = str(tmp_path / "model")
    return found


@pytest.mark.parametrize("whole", [2**26, 1000])
def test_another_place_and_time_are_the_same_and_other_numbers_are_not(
    model, tmp_path, whole, monkeypatch
):
    monkeypatch.setattr(weights, "_WHOLE", whole)
    monkeypatch.setattr(weights, "_PIECES", 50)
    monkeypatch.setattr(weights, "_PIECE", 64)
    first = weights_digest(model)
    file = shutil.copytree(model.name_or_path, tmp_path / "copy") / "model.safetensors"
    model.name_or_path = str(tmp_path / "copy")
    os.utime(file, (0, 0))
    (tmp_path / "copy" / "notes.json").write_text("{}")
    assert weights_digest(model) == first
    content = bytearray(file.read_bytes())
    for start in (0, len(content) // 2, len(content) - 64):
        # As long as between two pieces.
        end = start + len(content) // 49
        file.write_bytes(content[:start] + bytes(len(content[start:end])) + content[end:])
        assert weights_digest(model) != first
    file.write_bytes(content + b"\0")
    assert weights_digest(model) != first


def test_of_the_hub_it_is_the_commit(model):
    model.name_or_path, model.config._commit_hash = "org/llama", "abc"
    assert weights_digest(model) == "org/llama abc"
