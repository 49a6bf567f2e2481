"""NAMMs go to a Hub and come back, with their cards, through the client as it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest
from huggingface_hub import ModelCard

from transfer.checkpoints import shipped
from transfer.namm.checkpoint import TENSORS_FILE
from transfer.namm.network import NAMM

ROOT = Path(__file__).parents[2]
CARDS = {name: folder / "CARD.md" for name, folder in shipped(TENSORS_FILE).items()}

PUSHING = """
import os, sys
import torch
from transfer.errors import UserError
from transfer.namm.config import NAMMConfig
from transfer.namm.network import NAMM

def same(first, second):
    pairs = zip(first.tensors.values(), second.tensors.values())
    return first.config == second.config and all(torch.equal(*pair) for pair in pairs)

recall = NAMM.from_pretrained("recall")
assert recall.push_to_hub("me/mine") == os.environ["HF_ENDPOINT"] + "/me/mine"
back = NAMM.from_pretrained("me/mine")
assert same(back, recall) and back.card == recall.card and back.digest() == recall.digest()
# Once more, over what is there, without a card of its own.
plain = NAMM(NAMMConfig(hidden=2), torch.randn(1, NAMMConfig(hidden=2).size))
plain.push_to_hub("me/mine")
again = NAMM.from_pretrained("me/mine")
assert same(again, plain) and "# An evolved Neural" in again.card
again.save_pretrained(sys.argv[1])
assert NAMM.from_pretrained(sys.argv[1]).card == again.card
try:
    NAMM.from_pretrained("me/other")
except UserError as error:
    print(error)
"""
REFUSED = """
from transfer.errors import UserError
from transfer.namm.network import NAMM
try:
    NAMM.from_pretrained("recall").push_to_hub("me/mine")
except UserError as error:
    print(error)
"""


def run(hub, tmp_path, script):
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    env |= {
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_of_a_test",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    words = [sys.executable, "-c", script, str(tmp_path / "folder")]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def test_what_is_pushed_comes_back_with_its_card(tmp_path):
    with fake_hub.serving() as hub:
        said = run(hub, tmp_path, PUSHING)
    assert "the Hugging Face Hub gives no NAMM of that name" in said and "Traceback" not in said
    assert sorted(hub.repos["me/mine"]) == ["README.md", "config.json", TENSORS_FILE]
    card = hub.repos["me/mine"]["README.md"].decode()
    assert ModelCard(card).data.library_name == "namm-transfer"
    assert 'NAMM.from_pretrained("me/mine")' in card


def test_who_is_not_let_in_is_told_how(tmp_path):
    with fake_hub.serving() as hub:
        hub.refuses = True
        said = run(hub, tmp_path, REFUSED)
    assert "the Hugging Face Hub did not take me/mine" in said and "hf auth login" in said
    assert not hub.repos


@pytest.mark.parametrize("name", CARDS)
def test_cards_that_ship_are_as_the_hub_wants_them(name):
    text = CARDS[name].read_text()
    data = ModelCard(text).data
    assert (data.license, data.library_name) == ("apache-2.0", "namm-transfer")
    assert set(data.tags) >= {"kv-cache", "namm"}
    assert f'NAMM.from_pretrained("{name.removeprefix("namm-")}")' in text
    assert NAMM.from_pretrained(name).card == text


@pytest.mark.parametrize("name", ["namm-recall", "namm-replay", "namm-universal"])
def test_results_of_cards_are_those_of_the_documents(name):
    data = ModelCard(CARDS[name].read_text()).data
    assert data.model_name == name and len(data.eval_results) == 5
    for result in data.eval_results:
        document = (ROOT / result.metric_args["document"]).read_text()
        value = f"{result.metric_value:.{1 if abs(result.metric_value) > 1 else 3}f}"
        told = [value, *re.findall(r"\d+\.\d", result.metric_name)]
        assert all(re.search(rf"(?<![\d.]){re.escape(one)}(?!\d)", document) for one in told)
