"""The likelihood of one's own texts: windows, their scores and how they are counted."""

import math
from shutil import copytree

import pytest
import tiny
import torch
from evaluated import changed, printed, rows_of
from hypothesis import given
from hypothesis import strategies as st
from tasks.words import word_tokenizer

from transfer.adapters.language_model import load_language_model
from transfer.errors import UserError
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.perplexity_benchmark import windows_of
from transfer.evaluation.runner import evaluate
from transfer.tasks.texts import read_texts

TEXT = "The lamp is red and the box is blue. A river runs through the valley at night. " * 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("text") / "model"
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path.parent / "texts" / "more").mkdir(parents=True)
    (path.parent / "texts" / "a.txt").write_text(TEXT)
    (path.parent / "texts" / "more" / "b.py").write_text(TEXT[::-1])
    (path.parent / "texts" / ".hidden").write_bytes(b"\xff")
    # Nothing is predicted of it, and it is no text that the others would be drawn beside.
    (path.parent / "texts" / "empty.py").write_text("")
    return path


@pytest.fixture
def config(folder):
    return changed(
        LanguageEval(
            model=str(folder), task=("perplexity",), data=folder.parent / "texts", length=(40, 64)
        ),
        policy=("h2o",),
        budget=(0.25,),
        update_interval=8,
        threads=1,
    )


@given(st.integers(0, 300), st.integers(2, 50))
def test_every_token_but_the_first_is_scored_once_after_half_a_window(count, length):
    ids, scored = list(range(count)), []
    for window in windows_of(ids, length):
        assert len(window.ids) <= length
        assert list(window.ids) == ids[window.start : window.start + len(window.ids)]
        scored += window.ids[window.scored :]
        assert window.start == 0 or window.scored >= length // 2
    assert scored == ids[1:]


def test_the_full_cache_says_what_the_model_says(config, folder):
    results = evaluate(config)
    loaded = load_language_model(str(folder))
    ids = loaded.tokenizer.encode(TEXT)
    for row in rows_of(results, "full", length=40, cluster="a.txt"):
        start = int(row["item"].split(":")[1])
        window = torch.tensor([ids[start : start + 40]])
        with torch.no_grad():
            said = loaded.model(window).logits[0, :-1].log_softmax(-1)
        chosen = said.gather(1, window[0, 1:, None])[:, 0]
        own = chosen[-row["scored_tokens"] :].mean().item()
        assert row["log_likelihood"] == pytest.approx(own, rel=1e-4)
    for entry in results.summary:
        rows = rows_of(results, entry["policy"], length=entry["length"])
        tokens = sum(row["scored_tokens"] for row in rows)
        total = sum(row["scored_tokens"] * row["log_likelihood"] for row in rows)
        texts = read_texts(config.data).values()
        assert tokens == sum(len(loaded.tokenizer.encode(text)) - 1 for text in texts if text)
        assert entry["perplexity"] == pytest.approx(math.exp(-total / tokens))
        assert entry["mean"] == pytest.approx(total / tokens)
        [whole] = [
            each
            for each in results.summary
            if (each["policy"], each["length"]) == ("full", entry["length"])
        ]
        assert entry["delta_vs_full"] == pytest.approx(entry["mean"] - whole["mean"], abs=1e-12)
    assert "perplexity" in printed(results) and "of 2 texts" in printed(results)


def test_the_first_windows_of_every_text_come_first(config):
    results = evaluate(changed(config, documents=2, length=(40,)))
    assert [row["item"] for row in rows_of(results, "full")] == ["a.txt:0", "more/b.py:0"]


def test_a_text_that_was_changed_ends_the_resume(config, folder, tmp_path):
    texts = tmp_path / "texts"
    copytree(folder.parent / "texts", texts)
    config = changed(config, data=texts, documents=2, length=(40,), out=tmp_path / "out")
    assert evaluate(config).rows == evaluate(config).rows
    (texts / "more" / "b.py").write_text(TEXT)
    with pytest.raises(UserError, match="holds a run with texts"):
        evaluate(config)


def test_texts_of_a_file_and_of_a_folder(folder):
    assert read_texts(folder.parent / "texts") == {
        "a.txt": TEXT, "empty.py": "", "more/b.py": TEXT[::-1]
    }  # fmt: skip
    assert read_texts(folder.parent / "texts" / "a.txt") == {"a.txt": TEXT}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b" \n", "holds no text"), (b"\xff\xfe\xff", "cannot read"), (None, "cannot read")],
)
def test_bad_texts_are_one_sentence(config, tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, data=tmp_path / "x.txt"))


def test_bad_settings_are_one_sentence(config):
    with pytest.raises(UserError, match="needs texts; name a file or folder with --data"):
        evaluate(changed(config, data=None))
    with pytest.raises(UserError, match="has other scores than the others; name it alone"):
        changed(config, task=("perplexity", "recall"))
    with pytest.raises(UserError, match="a window of 5000 tokens is longer than the 4096"):
        evaluate(changed(config, length=(5000,)))
    with pytest.raises(UserError, match="length is 1; a window"):
        evaluate(changed(config, length=(1,)))
    with pytest.raises(UserError, match="--question is of no use for --task perplexity; leave it"):
        evaluate(changed(config, question=("seen",)))
