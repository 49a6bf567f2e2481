"""`transfer inspect language`: what became of each token, and the page and picture of it."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from transfer.adapters.language_model import load_language_model
from transfer.adapters.replying import read
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cli import main
from transfer.evaluation.contenders import plan
from transfer.inspection.config import InspectLanguage
from transfer.inspection.fate import NEVER, Fate, fate_of
from transfer.inspection.text import symbol_name, written
from transfer.inspection.text_page import text_page
from transfer.inspection.token_pictures import draw_tokens

IDS = [(7 * place) % 120 for place in range(90)]
CONFIG = InspectLanguage(model="llama-recall", budget=24, update_interval=16)


@pytest.fixture(scope="module")
def language():
    return load_language_model("llama-recall")


def contender(**options):
    [one] = plan(replace(CONFIG, **options).contenders)
    return one


@pytest.mark.parametrize("policy", ["namm", "snapkv", "recency"])
def test_a_token_left_when_the_cache_let_go_of_it(language, policy):
    one = contender(policy=policy)
    fate = fate_of(language.model, one.pruning, IDS, [])
    assert fate.seen == [16, 32, 48, 64, 80]
    with Memory(get_adapter(language.model), one.pruning) as memory:
        cache = memory.new_cache()
        for number, end in enumerate(fate.seen):
            read(language.model, IDS[end - 16 : end], cache)
            for layer, own in zip(cache.pruned, fate.left):
                for positions, left in zip(layer.positions_of(0), own):
                    held = ((left > number) & (torch.arange(len(IDS)) < end)).nonzero()[:, 0]
                    assert positions.tolist() == held.tolist()
        assert fate.kept()[-1] == np.mean(cache.kept())
    assert (fate.left[:, :, 80:] == NEVER).all()


def test_who_left_had_the_lower_scores(language):
    fate = fate_of(language.model, contender().pruning, IDS, [])
    last = len(fate.seen) - 1
    came = torch.arange(len(IDS)) < fate.seen[last]
    for scores, left in zip(fate.scores.flatten(0, 1), fate.left.flatten(0, 1)):
        stayed, gone = scores[(left == NEVER) & came], scores[left == last]
        # The newest stays whatever its score.
        assert stayed[:-1].min() >= gone.max()
    assert fate.scores[:, :, 80:].isnan().all()


def test_tokens_are_written_as_the_text_has_them():
    text = "añ 日本!"
    ids = list(text.encode())
    found = list(written(lambda ids: bytes(ids).decode(errors="replace"), ids))
    assert "".join(found) == text
    assert found[:4] == ["a", "", "ñ", " "] and found[4:7] == ["", "", "日"]
    assert [symbol_name(symbol) for symbol in (1, 2, 127)] == [" begin", " fact", " w47"]


def small(tokens=("a", "</script><b>", "c")) -> Fate:
    left = torch.tensor([[[0, NEVER, NEVER], [1, 1, NEVER]]], dtype=torch.int32)
    scores = torch.tensor([[[-2.0, 1.0, torch.nan], [0.5, 0.25, torch.nan]]])
    return Fate(list(tokens), [2, 3], [4], left, scores)


def test_the_page_holds_it_all_and_tokens_are_text():
    text = text_page({"policy": "namm", "model": "<i>"}, small())
    assert text.count("</script>") == 3 and "<b>" not in text and "<i>" not in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert (data["tokens"][1], data["layers"], data["heads"]) == ("</script><b>", [4], 2)
    left = np.frombuffer(base64.b64decode(data["left"]), "<u2")
    assert left.tolist() == [0, NEVER, NEVER, 1, 1, NEVER]
    scores = np.frombuffer(base64.b64decode(data["scores"]), "<i2").reshape(2, 3) / data["steps"]
    assert (scores[:, :2] * np.array(data["largest"][0])[:, None]).tolist() == [
        [-2.0, 1.0],
        [0.5, 0.25],
    ]
    assert (scores[:, 2] < -1).all()
    assert small().kept() == [1.5, 1.5]


def test_the_picture_is_dark_where_a_token_stayed():
    picture = np.asarray(draw_tokens(small().left.numpy(), [4], 2)).astype(int)
    first, second = picture[20, 100:1200:400], picture[28, 100:1200:400]
    assert first.sum(1).tolist() == [753, 163, 163]
    assert second[0].tolist() == second[1].tolist() and 163 < second[0].sum() < 753


def test_the_command_writes_either(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["inspect", "--model", "llama-recall", "--length", "96", "--budget", "16"]
    assert main(words) == 0
    assert capsys.readouterr().out == (
        "kept.html: namm 16 on 96 tokens by llama-recall: a layer and head holds 16.0 after the "
        "last of 3 updates\n"
    )
    assert main([*words, "--out", "kept.png", "--update-interval", "128"]) == 0
    assert "nothing was evicted; an update is due every 128 tokens" in capsys.readouterr().out
    with Image.open("kept.png") as picture:
        assert picture.height == 36 + 8 * 6


def test_who_evicts_nothing_or_reads_little_has_a_page_too(tmp_path, capsys):
    for policy, length in (("full", "96"), ("namm", "5")):
        words = ["--policy", policy, "--length", length, "--out", str(tmp_path / "kept.html")]
        assert main(["inspect", "--model", "gpt2-recall", *words]) == 0
    assert '"seen":[]' in (tmp_path / "kept.html").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--text", "a.txt"], "llama-recall has no tokenizer to read a.txt with"),
        (["--out", "kept.pdf"], "out kept.pdf is no .png or .html file; rename it"),
        (["--length", "100000"], "is longer than the"),
        (["--policy", "all"], "policy is all and a picture shows one"),
        (["--policy", "nope"], "unknown policy 'nope'"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "--model", "llama-recall", *more]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_page_has_no_room_for_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("transfer.inspection.fate._MOST", 100)
    assert main(["inspect", "--model", "llama-recall", "--length", "96"]) == 2
    assert "more than a page has room for; use --length 16" in capsys.readouterr().err
