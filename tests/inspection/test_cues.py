"""`transfer inspect cues`: the statistic by its definition, and what a shipped model shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_model import random_model

from transfer.adapters.control_model import save_control_model
from transfer.cli import main
from transfer.inspection.cues import auc

numbers = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(numbers, numbers)
def test_auc_is_the_share_of_pairs(above, below):
    a, b = np.array(above, float), np.array(below, float)
    pairs = a[:, None] - b
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert auc(a, b) == pytest.approx(expected)


def test_the_keys_of_a_shipped_model_are_loud_where_there_is_a_cue(capsys):
    words = ["--model", "decision-transformer-tmaze-none", "--episodes", "10"]
    assert main(["inspect", "cues", *words]) == 0
    lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith(" layer")]
    assert [line.split()[:4] for line in lines] == [
        ["layer", str(layer), "head", str(head)] for layer in range(2) for head in range(2)
    ]
    # Of its first layer every one is louder than all others, new and old.
    for line in lines[:2]:
        assert line.count("1.00 (x") == 2


def test_an_environment_without_cues(tmp_path, capsys):
    save_control_model(random_model("CartPole-v1"), tmp_path)
    words = ["inspect", "cues", "--model", str(tmp_path), "--max-steps", "20"]
    assert main(words) == 2
    assert "CartPole-v1 does not say what has to be remembered" in capsys.readouterr().err
