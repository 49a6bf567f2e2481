import sys
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import UserError
from transfer.tasks.benchmarks import metrics
from transfer.tasks.benchmarks.metrics import (
    bare_text,
    bare_tokens,
    chinese_f1,
    chinese_rouge_l,
    chinese_words,
    classified,
    code_similarity,
    rouge_l,
    share_of_numbers,
    token_f1,
    word_f1,
)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("The cat, an Ant;  and A\tdog!", "cat ant and dog"),
        ("U.S.A. state-of-the-art", "usa stateoftheart"),
        ("theory (a)", "theory"),
        ("“the”", "“ ”"),
        (" .,", ""),
    ],
)
def test_bare_text(text, bare):
    assert bare_text(text) == bare


@pytest.mark.parametrize(
    ("reply", "gold", "score"),
    [
        ("The cat sat, on a mat.", "cat on mat", 6 / 7),
        ("no no no", "no", 0.5),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 0.0),
    ],
)
def test_word_f1(reply, gold, score):
    assert word_f1(reply, gold) == pytest.approx(score, abs=1e-12)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_f1_is_symmetric_and_one_for_the_same_tokens(reply, gold):
    score = token_f1(reply, gold)
    assert score == pytest.approx(token_f1(gold, reply), abs=1e-12)
    assert (score == 1) == (sorted(reply) == sorted(gold) != [])
    assert (score == 0) == (not set(reply) & set(gold))
    assert 0 <= score <= 1


def test_chinese_words_and_their_f1():
    assert chinese_words("我来到北京清华大学，OK") == ["我", "来到", "北京", "清华大学", "，", "OK"]
    # The authors' list of punctuation has one of the two brackets.
    assert bare_tokens(["《", "OK", " ", "a，b.", "。", "》"]) == ["《", "ok", "ab"]
    # Of three words and two, two are the same: precision 2/3, recall 1.
    assert chinese_f1("我来到北京。", "“来到”北京") == pytest.approx(0.8)


def test_chinese_words_print_nothing_and_leave_nothing_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    metrics._chinese_cutter.cache_clear()
    assert chinese_words("北京大学") == ["北京大学"]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_rouge_l():
    # The longest common subsequence has two of three and two of four words.
    assert rouge_l("the cat sat", "the big cat ran") == pytest.approx(4 / 7, abs=1e-7)
    assert rouge_l("one two.", "one two") == pytest.approx(1, abs=1e-7)
    assert chinese_rouge_l("我来到北京", "我来到上海") == pytest.approx(2 / 3, abs=1e-7)


@pytest.mark.parametrize(("reply", "gold"), [("", "a b"), ("...", "a b"), ("a b", ".")])
def test_rouge_l_without_a_sentence(reply, gold):
    assert rouge_l(reply, gold) == 0


def test_rouge_l_does_not_depend_on_the_depth_of_the_caller():
    def deep(levels):
        return deep(levels - 1) if levels else rouge_l("a " * 400, "b " * 400 + "a")

    assert deep(400) == deep(0) > 0
    assert rouge_l("a " * 1100, "b ") == 0


@pytest.mark.parametrize(
    ("reply", "classes", "score"),
    [
        ("Sport", ("Sport", "Art"), 1.0),
        ("Sport or Art", ("Sport", "Art"), 0.5),
        ("Art", ("Sport", "Art"), 0.0),
        ("sport", ("Sport", "Art"), 0.0),
        # Named within the right one, it does not count...
        ("Sport", ("port", "Sport"), 1.0),
        # ... but of two that follow each other, the walk skips the second.
        ("Sport", ("port", "or", "Sport"), 0.5),
        ("Sport", ("port", "Sport", "or"), 1.0),
    ],
)
def test_classified(reply, classes, score):
    assert classified(reply, "Sport", classes) == score


@pytest.mark.parametrize(
    ("reply", "score"),
    [("2", 1), ("12, 2 and 2", 2 / 3), ("02", 0), ("two", 0), ("", 0), ("-2.2", 1)],
)
def test_share_of_numbers(reply, score):
    assert share_of_numbers(reply, "2") == score


@pytest.mark.parametrize(
    ("reply", "gold", "score"),
    [
        ("abcd", "bcde", 0.75),
        ("a", "abcde", 0.33),
        ("\n\nx = 1\ny = 2", "x = 1", 1.0),
        ("```python\n# why\n// why\nx = 1", "x = 1", 1.0),
        ("# why", "x = 1", 0.0),
        ("x\n", "", 0.0),
        ("#", "", 1.0),
        # Beyond 200 characters difflib leaves out what is common: with all of them it were 0.99.
        ("b" + "a" * 300, "a" * 300, 0.0),
    ],
)
def test_code_similarity(reply, gold, score):
    assert code_similarity(reply, gold) == score


@pytest.mark.parametrize(("package", "metric"), [("jieba", chinese_f1), ("rouge", rouge_l)])
def test_a_missing_package_is_named(package, metric, monkeypatch):
    metrics._chinese_cutter.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} .*namm-transfer\[benchmarks\]'`$"):
        metric("北京", "北京")
