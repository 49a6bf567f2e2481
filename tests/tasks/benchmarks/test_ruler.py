"""RULER's texts, read by what they say and not by the code that made them."""

import re
from collections import Counter

import pytest
from tasks.words import word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from transfer.errors import UserError
from transfer.tasks.benchmarks import reading_tasks
from transfer.tasks.reading import Sample

MADE = [
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2"),
    *("niah_multikey_3", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"),
]
NAMES = [*MADE, "qa_1", "qa_2"]
STATED = re.compile(r"One of the special magic (\w+) for (\S+) is: (\S+)\.")
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


@pytest.fixture(scope="module")
def words():
    return word_tokenizer()


@pytest.fixture(scope="module")
def characters():
    """As many tokens as bytes, and two more around each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({word: at for at, word in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def coarse():
    """A token each word."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")


def task(name):
    return reading_tasks(f"ruler/{name}")[0]


def samples(name, tokenizer, length=4096, seeds=(0,), **more) -> list[Sample]:
    return list(task(name).samples(length, seeds, tokenizer, **more))


def tokens(sample, tokenizer) -> int:
    text = f"{sample.context}{sample.question}{sample.prefix}"
    return len(tokenizer(text)["input_ids"])


def test_the_thirteen_are_there():
    found = reading_tasks("ruler")
    assert [each.name for each in found] == [f"ruler/{name}" for name in NAMES]
    assert {each.family for each in found} == {"ruler"}
    expected = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}
    assert all(each.new_tokens == expected[each.name[6:].split("_")[0]] for each in found)


@pytest.mark.parametrize("name", MADE)
def test_prompt_and_reply_fill_the_length(name, words, characters):
    # At most a line of noise, or a needle of two UUIDs, would still have found room.
    for tokenizer, length, line in (
        (words, 2048, 80),
        (words, 8192, 80),
        (characters, 10_000, 120),
    ):
        for sample in samples(name, tokenizer, length, (0, 1)):
            used = tokens(sample, tokenizer) + task(name).new_tokens
            assert length - line <= used <= length, (length, used)


@pytest.mark.parametrize("name", MADE)
def test_a_sample_depends_on_its_seed_alone(name, words):
    first, second = samples(name, words, 2048, (5, 7))
    assert samples(name, words, 2048, (7,)) == [second]
    assert (first.item, second.item) == (5, 7)
    assert first.answers != second.answers and first.context != second.context
    longer = samples(name, words, 3000, (5,))[0]
    assert name == "cwe" or longer.answers == first.answers


@pytest.mark.parametrize("name", MADE)
def test_the_length_that_is_said_to_hold_a_task_does(name, words):
    for around in (0, 70):
        said = f"--length 100 does not hold ruler/{name}, .* use --length \\d+ or more"
        with pytest.raises(UserError, match=said) as error:
            samples(name, words, 100, around=around)
        least = int(re.findall(r"use --length (\d+) or more", str(error.value))[0])
        [sample] = samples(name, words, least, around=around)
        assert tokens(sample, words) + task(name).new_tokens <= least - around
        with pytest.raises(UserError, match="does not hold"):
            samples(name, words, least - 1, around=around)


@pytest.mark.parametrize(
    ("name", "key", "value", "stated", "asked"),
    [
        ("niah_single_1", r"[a-z]+-[a-z]+", r"\d{7}", 1, 1),
        ("niah_single_2", r"[a-z]+-[a-z]+", r"\d{7}", 1, 1),
        ("niah_single_3", r"[a-z]+-[a-z]+", UUID, 1, 1),
        ("niah_multikey_1", r"[a-z]+-[a-z]+", r"\d{7}", 4, 1),
        ("niah_multikey_2", r"[a-z]+-[a-z]+", r"\d{7}", None, 1),
        ("niah_multikey_3", UUID, UUID, None, 1),
        ("niah_multivalue", r"[a-z]+-[a-z]+", r"\d{7}", 1, 4),
        ("niah_multiquery", r"[a-z]+-[a-z]+", r"\d{7}", 4, 4),
    ],
)
def test_the_values_that_are_asked_for_are_stated(name, key, value, stated, asked, words):
    for sample in samples(name, words, seeds=range(3)):
        found: dict[str, list[str]] = {}
        for kind, one, number in STATED.findall(sample.context):
            assert kind == ("uuids" if value == UUID else "numbers")
            assert re.fullmatch(key, one) and re.fullmatch(value, number)
            found.setdefault(one, []).append(number)
        assert len(found) == stated if stated else len(found) > 20
        queried = [one for one in found if one in sample.question and one in sample.prefix]
        assert sorted(sample.answers) == sorted(each for one in queried for each in found[one])
        assert len(sample.answers) == asked


def test_a_single_needle_is_asked_for_as_one(words):
    sample = samples("niah_single_1", words, 1024)[0]
    [(_, key, value)] = STATED.findall(sample.context)
    first, *lines, last = sample.context.split("\n")
    assert first == (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards."
    )
    assert last == "" and len(lines) > 10
    needle = f"One of the special magic numbers for {key} is: {value}."
    assert Counter(lines) == {NOISE: len(lines) - 1, needle: 1}
    asked = f"special magic number for {key} mentioned in the provided text"
    assert sample.question == f"What is the {asked}?"
    assert sample.prefix == f" The {asked} is"
    assert task("niah_single_1").answer(sample) == f" {value}"


def test_several_are_asked_for_as_many(words):
    sample = samples("niah_multiquery", words)[0]
    found = {key: value for _, key, value in STATED.findall(sample.context)}
    by_value = {value: key for key, value in found.items()}
    *others, last = (by_value[value] for value in sample.answers)
    asked = f"the special magic numbers for {', '.join(others)}, and {last} mentioned in the "
    assert sample.question == f"What are all {asked}provided text?"
    assert sample.context.startswith("Some special magic numbers are hidden within the following")
    assert sample.prefix.endswith(" mentioned in the provided text are")
    assert task("niah_multiquery").answer(sample) == f" {', '.join(sample.answers)}"


@pytest.mark.parametrize("name", MADE[:8])
def test_what_is_asked_about_stands_at_its_depth(name, words):
    found = samples(name, words, 4096, (3,), depths=(0.0, 0.25, 1.0))
    assert [sample.item for sample in found] == ["3@0", "3@0.25", "3@1"]
    for sample, depth in zip(found, (0.0, 0.25, 1.0)):
        assert sample.groups == {"depth": f"{depth:g}"}
        text = sample.context.partition("\n")[2]
        for answer in sample.answers:
            assert abs(text.index(f"is: {answer}") / len(text) - depth) < 0.1
    assert samples(name, words, 4096, (3,))[0].groups == {}


@pytest.mark.parametrize("name", MADE)
def test_what_is_around_a_text_is_taken_off_its_length(name, words):
    [sample] = samples(name, words, 2048, around=300)
    assert 1748 - 80 <= tokens(sample, words) + task(name).new_tokens <= 1748


@pytest.mark.parametrize("name", MADE)
def test_samples_of_a_seed_are_a_cluster(name, words):
    depths = (0.0, 1.0) if task(name).deep else ()
    found = samples(name, words, 2048, (0, 7), depths=depths)
    assert [sample.cluster for sample in found] == [s for s in (0, 7) for _ in depths or (0,)]


@pytest.mark.parametrize("name", ["vt", "cwe", "fwe"])
def test_what_is_asked_about_all_over_has_no_depth(name, words):
    with pytest.raises(UserError, match=f"ruler/{name} asks about .* leave --depth out"):
        samples(name, words, depths=(0.5,))


def test_essays_are_the_users_or_prose(words, tmp_path):
    said = samples("niah_single_2", words, 2048)[0].context
    assert "ArgumentParser" in said
    (tmp_path / "b.md").write_text("The second file ends it!")
    (tmp_path / "a.txt").write_text("One sentence\n about  trees. ")
    (tmp_path / "c.json").write_text("{}")
    own = samples("niah_single_2", words, 2048, data=tmp_path)[0].context
    text = STATED.sub("", own.split("\n")[1])
    assert set(re.split(r"(?<=[.!]) +", text)[:-1]) == {
        "One sentence about trees.",
        "The second file ends it!",
    }
    (tmp_path / "PaulGrahamEssays.json").write_text('{"text": "Essays alone."}')
    assert "Essays alone. Essays" in samples("niah_single_2", words, 2048, data=tmp_path)[0].context


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("essay.txt", " \n ", "there is no text in"),
        ("essay.json", '{"essays": []}', "has no 'text' of essays"),
        ("essay.json", "[1]", "is no JSON object"),
        ("notes.rst", "Words.", "has no essays to hide needles in"),
    ],
)
def test_what_holds_no_essays_is_named(words, tmp_path, file, content, said):
    (tmp_path / file).write_text(content)
    data = tmp_path if file == "notes.rst" else tmp_path / file
    with pytest.raises(UserError, match=said) as error:
        samples("niah_single_2", words, data=data)
    assert str(data) in str(error.value)
    with pytest.raises(UserError, match="cannot read"):
        samples("niah_single_2", words, data=tmp_path / "absent")


def test_variables_of_the_chain_are_right_in_example_and_text(words):
    for sample in samples("vt", words, seeds=range(3)):
        example, _, text = sample.context.partition("\n\nMemorize")
        whole = f"Memorize{text}{sample.question}{sample.prefix}{' '.join(sample.answers)}"
        for said, letters in ((example, 3), (whole, 5)):
            asked = re.findall(r"assigned the value (\d{5})", said)
            assert len(asked) == 2 and len(set(asked)) == 1
            holds: dict[str, str] = {}
            for name, old, value in re.findall(r"VAR (\w+) = (?:VAR (\w+) |(\d+))(?:\n)", said):
                assert len(name) == letters
                holds[name] = value or holds[old]
            right = [name for name, value in holds.items() if value == asked[0]]
            assert said.split("they are: ")[1].split() == right
            assert len(right) == 5
        # All examples have as many lines, so that names decide its last tokens.
        assert 400 < len(words(example)["input_ids"]) <= 530
    assert task("vt").answer(sample) == f" {' '.join(sample.answers)}"


@pytest.mark.parametrize(
    ("length", "around", "counts", "example"),
    [
        (2048, 0, (6, 1), (3, 1)),
        (4095, 0, (6, 1), (3, 1)),
        # The length decides, not what a chat template leaves of it.
        (4096, 0, (30, 3), (10, 3)),
        (4096, 90, (30, 3), (10, 3)),
    ],
)
def test_common_words_are_more_often_in_the_list(length, around, counts, example, coarse):
    sample = samples("cwe", coarse, length, around=around)[0]
    lists = re.findall(r"^1\. .*$", sample.context, re.MULTILINE)
    solved = re.search(r"in the list are:(.*)\n", sample.context)
    assert solved
    assert sample.question == "Question: What are the 10 most common words in the above list?"
    right = [re.findall(r"\d+\. (\S+)", solved[1]), list(sample.answers)]
    for told, answers, (often, seldom) in zip(lists, right, (example, counts)):
        numbers, names = zip(*re.findall(r"(\d+)\. (\S+)", told))
        assert [*map(int, numbers)] == [*range(1, len(numbers) + 1)]
        times = Counter(names)
        assert len(answers) == 10
        assert {times.pop(word) for word in answers} == {often}
        assert set(times.values()) == {seldom}
    assert task("cwe").answer(sample).startswith(f" 1. {sample.answers[0]} 2. {sample.answers[1]} ")


def test_a_long_list_has_other_words(words):
    sample = samples("cwe", words, 65_536)[0]
    names = re.findall(r"\d+\. (\S+)", sample.context)
    assert len(set(names)) > 1000
    assert all(re.fullmatch("[a-z]+-[a-z]+", answer) for answer in sample.answers)


@pytest.mark.parametrize("length", [512, 2048, 16_384])
def test_frequent_words_are_more_frequent_than_all_others(length, words):
    for sample in samples("fwe", words, length, range(2)):
        told = sample.context.partition("coded words. ")[2]
        (dots, most), *others = Counter(told.split()).most_common()
        assert dots == "..." and most > others[0][1]
        assert tuple(word for word, _ in others[:3]) == sample.answers
        assert others[0][1] > others[1][1] > others[2][1] > (others[3][1] if others[3:] else 0)
        assert all(re.fullmatch("[a-z]{6}", word) for word, _ in others)


def test_the_score_is_the_share_of_answers_that_a_reply_contains():
    sample = Sample(0, "", "", ("Alpha", "beta", "12", "9"))
    assert task("niah_multivalue").score(" ALPHA, then\x00 Beta and 123", sample) == 0.75
    assert task("vt").score("nothing", sample) == 0
    assert task("qa_1").score("It is beta.", sample) == 1
    assert task("qa_2").score("none", sample) == 0
