import json
import re
from statistics import median

import pytest
from tasks.words import word_tokenizer

from transfer.errors import UserError
from transfer.tasks.benchmarks.infinitebench import TASKS
from transfer.tasks.benchmarks.infinitebench_made import CALLS, NOISE, RECIPES
from transfer.tasks.reading import MadeTask

KINDS = list(RECIPES)
#: Tokens that one more line, pair, number, term or rank of functions takes at most, of the test's
#: tokenizer.
PIECE = {
    "passkey": 80,
    "number_string": 80,
    "kv_retrieval": 90,
    "math_find": 6,
    "math_calc": 14,
    "code_run": 400,
}


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


def made(kind, length, seeds, tokenizer, depths=(), around=0):
    task = TASKS[f"infinitebench/{kind}"]
    assert isinstance(task, MadeTask)
    return list(task.samples(length, seeds, tokenizer, depths, around=around))


def prompt(sample):
    return f"{sample.context}{sample.question}{sample.prefix}"


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_reply_fill_the_length(tokenizer, kind):
    task = TASKS[f"infinitebench/{kind}"]
    for length in (1500, 6000):
        for sample in made(kind, length, range(5), tokenizer):
            text = prompt(sample)
            if kind == "math_calc":
                used = len(tokenizer.encode(f"{text} {task.answer(sample)}"))
            else:
                used = len(tokenizer.encode(text)) + task.new_tokens
            assert length - PIECE[kind] - length // 1000 <= used <= length


@pytest.mark.parametrize("kind", KINDS)
def test_samples_depend_on_their_seed_alone(tokenizer, kind):
    [second] = made(kind, 1500, [5], tokenizer)
    samples = made(kind, 1500, [0, 5, 12], tokenizer)
    assert samples[1] == second
    assert [sample.item for sample in samples] == [0, 5, 12]
    assert len({sample.context for sample in samples}) == 3
    task = TASKS[f"infinitebench/{kind}"]
    assert all(task.score(task.answer(sample), sample) == 1 for sample in samples)


@pytest.mark.parametrize("kind", KINDS)
def test_too_short_says_how_long(tokenizer, kind):
    sentence = rf"--length 20 does not hold infinitebench/{kind}, .*use --length (\d+) or more"
    for around in (0, 50):
        with pytest.raises(UserError, match=sentence) as error:
            made(kind, 20, [1], tokenizer, around=around)
        needed = int(re.search(r"use --length (\d+)", str(error.value))[1])
        assert len(made(kind, needed, [1], tokenizer, around=around)) == 1
        with pytest.raises(UserError, match="does not hold"):
            made(kind, needed - 1, [1], tokenizer, around=around)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_around_a_text_is_taken_off_its_length(tokenizer, kind):
    assert made(kind, 2000, [3], tokenizer, around=500) == made(kind, 1500, [3], tokenizer)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("passkey", r"The pass key is (\d{5})\. Remember it\. \1 is the pass key\.\n"),
        ("number_string", r"The sequence of digits is (\d{10})\. Remember it\. \1 is the .*\.\n"),
    ],
)
def test_keys_stand_in_noise_at_their_depth(tokenizer, kind, said):
    samples = made(kind, 2000, [3, 4], tokenizer, (0.0, 0.25, 1.0))
    assert [sample.item for sample in samples] == ["3@0", "3@0.25", "3@1", "4@0", "4@0.25", "4@1"]
    for sample, depth in zip(samples, (0.0, 0.25, 1.0) * 2):
        assert sample.groups == {"depth": f"{depth:g}"}
        assert sample.cluster == int(sample.item.partition("@")[0])
        text = sample.context.partition("\n\n")[2]
        key = re.search(said, text)
        assert sample.answers == (key[1],)
        before, after = text[: key.start()], text[key.end() :]
        assert set(before.splitlines(True)) | set(after.splitlines(True)) == {NOISE}
        lines = (len(before) + len(after)) / len(NOISE)
        assert len(before) / len(NOISE) == round(depth * lines)


def test_digits_are_five_and_copies_beside_them(tokenizer):
    for seed in range(20):
        key = RECIPES["number_string"].make(1, seed, None)["answer"]
        assert len(key) == 10
        runs = [len(match[0]) for match in re.finditer(r"(\d)\1*", key)]
        assert len(runs) <= 5
    assert len({RECIPES["passkey"].make(1, seed, None)["answer"] for seed in range(50)}) == 50


def test_the_place_is_one_of_fifty_nine():
    size = 5220
    places = {
        RECIPES["passkey"].make(size, seed, None)["context"].index("The pass key") / len(NOISE)
        for seed in range(200)
    }
    assert places <= {90 * place for place in range(59)}
    assert len(places) > 45


def test_the_value_of_the_key_asked_for(tokenizer):
    for depth, sample in zip(
        (0.0, 0.5, 1.0), made("kv_retrieval", 3000, [2], tokenizer, (0.0, 0.5, 1.0))
    ):
        pairs = json.loads(sample.context.partition("JSON data:\n")[2])
        asked = re.search(r'^\n\n\nKey: "(.*)"\nThe value .* is: $', sample.question)[1]
        assert sample.answers == (pairs[asked],)
        assert list(pairs).index(asked) == min(int(depth * len(pairs)), len(pairs) - 1)
        assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", k) for k in pairs)


def test_numbers_are_found(tokenizer):
    rules = {
        "largest number": lambda n: max(n),
        "second largest number": lambda n: sorted(set(n))[-2],
        "third largest number": lambda n: sorted(set(n))[-3],
        "smallest number": lambda n: min(n),
        "second smallest number": lambda n: sorted(set(n))[1],
        "third smallest number": lambda n: sorted(set(n))[2],
        "median number": median,
    }
    asked = []
    for sample in made("math_find", 1500, range(14), tokenizer):
        [what] = re.findall(r"The (.* number) of the list is: $", sample.question)
        assert sample.context.startswith(f"What is the {what} in the following list?\n\n[")
        numbers = json.loads(sample.context.partition("\n\n")[2])
        assert set(numbers) <= set(range(100))
        assert float(sample.answers[0]) == rules[what](numbers)
        asked.append(what)
    assert asked == list(rules) * 2


def test_sums_are_right_and_within_bounds(tokenizer):
    for sample in made("math_calc", 1500, range(4), tokenizer):
        terms = re.findall(r"([+-]?) ?(\d+)", sample.context.rpartition("Expression: ")[2])
        assert terms[0] == ("", sample.answers[1])
        value, values = int(terms[0][1]), []
        for sign, term in terms[1:]:
            value += int(f"{sign}{term}")
            values.append(value)
        assert json.loads(sample.answers[0]) == values
        assert min(values) >= 0 and max(values) <= 99
        assert {sign for sign, _ in terms[1:]} == {"+", "-"}


def test_code_returns_what_it_returns(tokenizer):
    for seed, sample in enumerate(made("code_run", 2500, range(5), tokenizer)):
        code = sample.context.partition("functions_module.py:\n\n")[2]
        calls = []
        traced = re.sub(r"(def .*:\n)", r"\1    calls.append(0)\n", code)
        names = {"calls": calls}
        exec(traced, names)
        call = re.search(r"The value of (func_\d+\(-?\d+\)) is$", sample.prefix)[1]
        assert sample.answers == (str(eval(call, names)),)
        assert len(calls) == CALLS[seed % 5]
        assert call.partition("(")[0] in sample.context.splitlines()[0]
        added = [int(sign + n) for sign, n in re.findall(r"\) ([+-]) (\d+)$", code, re.MULTILINE)]
        assert min(added) >= -12 and max(added) <= 17


@pytest.mark.parametrize("kind", ["math_find", "math_calc", "code_run"])
def test_what_has_no_depth_says_so(tokenizer, kind):
    with pytest.raises(UserError, match=f"infinitebench/{kind} has nothing at a depth; leave out"):
        made(kind, 1500, [0], tokenizer, (0.5,))


class Characters:
    """A tokenizer of a token for so many characters."""

    def __init__(self, characters):
        self.characters = characters

    def __call__(self, text, verbose):
        return {"input_ids": range(len(text) // self.characters)}


@pytest.mark.parametrize(
    ("kind", "mark", "size", "characters"),
    [("passkey", NOISE, 5220, 4), ("kv_retrieval", '": "', 2500, 2), ("code_run", "def f", 550, 1)],
)
def test_the_published_length_has_the_published_size(kind, mark, size, characters):
    shorter, theirs, beside, longer = (
        made(kind, length, [0], Characters(characters), around=around)[0].context.count(mark)
        for length, around in ((131_071, 0), (131_072, 0), (131_072, 20), (131_073, 0))
    )
    assert theirs == beside == size
    assert shorter > size < longer


def test_the_published_size_does_not_fit_every_tokenizer():
    [sample] = made("passkey", 131_072, [0], Characters(1))
    assert 1000 < sample.context.count(NOISE) < 5220
