"""Result folders that were damaged at random: the right table, or one sentence and exit code 2."""

import random
import re
import shutil
from collections import Counter

import pytest
from evaluated import printed
from toy_benchmark import Toy

from transfer.errors import UserError
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_results

FILES = ("rows.jsonl", "blocks.jsonl", "results.json", "settings.json")


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def another_byte(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


def a_byte_more(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice(b'0}"\n, ').to_bytes() + content[place:]


def another_number(content: bytes, rng: random.Random) -> bytes:
    places = list(re.finditer(rb"\d+", content))
    place = rng.choice(places)
    number = rng.choice([b"0", b"1", b"-1", b"7", b"1e999", b"NaN", b"3.5", b"null", b'"8"'])
    return content[: place.start()] + number + content[place.end() :]


def another_word(content: bytes, rng: random.Random) -> bytes:
    place = rng.choice(list(re.finditer(rb'"[a-z_ ]+\d*"', content)))
    word = rng.choice([b'"full"', b'"h2o"', b'"from 0"', b'"item"', b"null", b"[]", b"{}"])
    return content[: place.start()] + word + content[place.end() :]


def a_line_less(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.pop(rng.randrange(len(lines)))
    return b"".join(lines)


def a_line_twice(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def lines_swapped(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def gone(content: bytes, rng: random.Random) -> None:
    return None


KINDS = (
    cut, another_byte, a_byte_more, another_number, another_word, a_line_less, a_line_twice,
    lines_swapped, gone,
)  # fmt: skip


def outcome(act, *arguments) -> str:
    """The tables, or that it was refused in a sentence, which is exit code 2."""
    try:
        return printed(act(*arguments))
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_folder_gives_the_right_table_or_a_sentence(toy, tmp_path, monkeypatch, file):
    # Fewer intervals, which are what takes the time here.
    monkeypatch.setattr(Toy, "groups", ())
    monkeypatch.setattr(Toy, "keys", ())
    rng, counts = random.Random(file), Counter[str]()
    table = printed(evaluate(toy(out=tmp_path / "whole")))
    for number in range(8 * len(KINDS)):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", folder)
        mutated = KINDS[number % len(KINDS)]((folder / file).read_bytes(), rng)
        if mutated is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(mutated)
        reported = outcome(read_results, folder)
        assert reported in (table, "refused"), (number, mutated)
        resumed = outcome(evaluate, toy(out=folder))
        assert resumed in (table, "refused"), (number, mutated)
        if resumed == table:
            assert outcome(read_results, folder) == table
        counts[f"reported {reported == table}"] += 1
        counts[f"resumed {resumed == table}"] += 1
    # Of results a report refuses whatever is not the same JSON, and a run makes them anew.
    if file == "results.json":
        assert counts["reported False"] > 50 and counts["resumed False"] == 0
    if file == "rows.jsonl":
        assert min(counts[f"resumed {right}"] for right in (True, False)) > 10
