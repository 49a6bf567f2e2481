"""The needle grid: where needles stand, how long texts are, and what replies score."""

import sys

import pytest
from tasks.words import word_tokenizer

from transfer.errors import UserError
from transfer.tasks.benchmarks import niah, reading_tasks
from transfer.tasks.prose import sentences

pytest.importorskip("rouge_score", reason="needs the extra `benchmarks`")

(GRID,) = reading_tasks("niah")
NEEDLE = niah.NEEDLE


@pytest.fixture(scope="module")
def words():
    return word_tokenizer()


def haystack(sample):
    before, needle, after = sample.context.partition(NEEDLE)
    assert needle and NEEDLE not in after
    before = before.removeprefix("This is a very long story book: <book> ")
    return before, after.removesuffix(" </book>.\n ")


def used(sample, tokenizer):
    text = f"{sample.context}{sample.question}{sample.prefix}"
    return len(tokenizer(text)["input_ids"]) + GRID.new_tokens


def test_by_default_there_are_eleven_depths(words):
    found = list(GRID.samples(512, (0, 1), words))
    depths = [f"{step / 10:g}" for step in range(11)]
    assert [sample.item for sample in found] == [f"{seed}@{d}" for seed in (0, 1) for d in depths]
    assert [sample.groups for sample in found[:11]] == [{"depth": depth} for depth in depths]


@pytest.mark.parametrize("length", [1024, 4096])
def test_a_needle_stands_behind_the_last_full_stop_before_its_depth(length, words):
    prose = " ".join(sentences())
    for sample in GRID.samples(length, (0,), words):
        before, after = haystack(sample)
        assert prose.startswith(before + after)
        depth, share = float(sample.groups["depth"]), len(before) / len(before + after)
        assert depth - 0.1 < share <= depth + 0.05
        assert not before or before.endswith(".") or depth == 1
        assert not after or depth < 1
        # Of the 200 tokens that are left to them, question and reply take about 100.
        assert length - 200 < used(sample, words) <= length


def test_texts_of_other_seeds_start_elsewhere_and_come_again(words):
    first, second = GRID.samples(1024, (1, 2), words, depths=(0.5,))
    assert haystack(first) != haystack(second)
    assert [second] == list(GRID.samples(1024, (2,), words, depths=(0.5,)))
    for sample in (first, second):
        beginning = haystack(sample)[0].strip()
        assert beginning[0].isupper() and beginning in " ".join(sentences())


def test_short_texts_of_the_users_are_repeated(words, tmp_path):
    (tmp_path / "essay.txt").write_text("First of all. Second of all.")
    sample, late = GRID.samples(1024, (0, 5), words, depths=(0.5,), data=tmp_path)
    before, after = haystack(sample)
    assert (before + after).startswith("First of all. Second of all.\nFirst of all. Second")
    assert before.rstrip().endswith(" of all.")
    assert haystack(late)[1].count("First of all.") > 10


def test_the_prompt_is_that_of_papers_on_eviction(words):
    [sample] = GRID.samples(1024, (0,), words, depths=(0.3,))
    asked = "Based on the content of the book, Question: The best thing to do in San Francisco is: "
    assert f"{sample.question}{sample.prefix}" == f"{asked}\nAnswer:"
    assert sample.answers == (NEEDLE.strip(),)
    assert (GRID.new_tokens, GRID.ends_at_newline) == (30, True)


@pytest.mark.parametrize(
    ("reply", "shared", "words_of_reply"),
    [
        (NEEDLE, 21, 21),
        (" eat a sandwich and sit in Dolores Park on a sunny day.", 12, 12),
        ("Eating sandwiches!", 2, 2),
        ("Sleep late", 0, 2),
    ],
)
def test_a_reply_scores_rouge_1(reply, shared, words_of_reply, words):
    [sample] = GRID.samples(1024, (0,), words, depths=(0.3,))
    assert GRID.score(reply, sample) == pytest.approx(2 * shared / (21 + words_of_reply))
    assert GRID.score(" \n", sample) == 0


def test_the_likely_reply_is_what_the_needle_says(words):
    [sample] = GRID.samples(1024, (0,), words, depths=(0.3,))
    assert GRID.answer(sample) == " eat a sandwich and sit in Dolores Park on a sunny day."


def test_a_length_without_room_is_refused_and_the_least_fits(words):
    with pytest.raises(UserError, match="--length 200 does not hold niah") as error:
        list(GRID.samples(200, (0,), words))
    least = int(str(error.value).split()[-3])
    [sample] = GRID.samples(least, (0,), words, depths=(1.0,))
    assert used(sample, words) <= least
    with pytest.raises(UserError, match=f"use --length {least + 50} or more"):
        list(GRID.samples(least + 49, (0,), words, depths=(1.0,), around=50))
    assert [sample] == list(GRID.samples(least + 50, (0,), words, depths=(1.0,), around=50))


def test_a_text_without_full_stops_is_refused(words, tmp_path):
    (tmp_path / "list.txt").write_text("only words and words")
    with pytest.raises(UserError, match=r"list.txt has no full stop"):
        list(GRID.samples(1024, (0,), words, data=tmp_path / "list.txt"))


def test_without_its_scorer_nothing_is_asked(words, monkeypatch):
    niah._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UserError, match=r"rouge_score .*pip install 'namm-transfer\[benchmarks\]'"):
        next(iter(GRID.samples(1024, (0,), words)))
