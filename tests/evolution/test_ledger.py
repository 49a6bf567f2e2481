"""A ledger is whole after every append, and after being cut."""

import json
import random

import pytest

from transfer.errors import UserError
from transfer.evolution.ledger import Ledger, read_ledger

NEEDED = dict.fromkeys(("stage", "population", "kept", "seconds", "validation"))
RECORDS = [NEEDED | {"generation": number, "fitness": [0.1 + number, None]} for number in range(3)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "deep" / "ledger.jsonl"
    with Ledger(path) as ledger:
        for record in RECORDS:
            ledger.append(record)
    return path


def test_appends_are_read_back_to_the_last_bit(path):
    assert read_ledger(path) == RECORDS
    with Ledger(path) as ledger:
        assert ledger.entries == RECORDS
        ledger.append(RECORDS[0] | {"fitness": [1 / 3]})
    assert read_ledger(path)[3]["fitness"][0] == 1 / 3


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_last_line_that_was_cut_is_dropped(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Ledger(path) as ledger:
        assert ledger.entries == RECORDS[:2]
        ledger.append(RECORDS[2])
    assert path.read_bytes() == whole


def test_reading_leaves_a_cut_ledger_as_it_is(path):
    cut = path.read_bytes()[:-3]
    path.write_bytes(cut)
    assert read_ledger(path) == RECORDS[:2]
    assert path.read_bytes() == cut


def test_damage_before_the_last_line_is_named_and_nothing_is_lost(path):
    damaged = path.read_bytes().replace(b'"generation": 1', b'"generation\x00: 1')
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"line 2 of .* is damaged; .* from generation 1"):
        Ledger(path)
    assert path.read_bytes() == damaged


def lost(lines):
    return [lines[0], lines[2]]


def doubled(lines):
    return [*lines[:2], lines[1], lines[2]]


def last_doubled(lines):
    return [*lines, lines[2]]


def swapped(lines):
    return [lines[0], lines[2], lines[1]]


def changed(lines):
    return [*lines[:2], lines[2].replace("2.1", "2.2")]


def foreign(lines):
    return [*lines[:1], json.dumps(RECORDS[1] | {"digest": "0"}), *lines[2:]]


def undigested(lines):
    return [*lines[:2], json.dumps(RECORDS[2])]


def of_another_kind(lines):
    return [lines[0], "[1]", *lines[1:]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lost, 2), (doubled, 3), (last_doubled, 4), (swapped, 2), (changed, 3), (foreign, 2),
        (undigested, 3), (of_another_kind, 2),
    ],
)  # fmt: skip
def test_what_does_not_follow_is_refused_with_its_line(path, change, line):
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    remedy = f"remove it and all lines after it, and --resume continues from generation {line - 1}"
    with pytest.raises(UserError, match=rf"^line {line} of .* is damaged; {remedy}"):
        Ledger(path)


def test_whatever_byte_is_another_the_entries_are_right_or_refused(path):
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1 :])
        try:
            entries = read_ledger(path)
        except UserError:
            refused += 1
        else:
            assert entries == RECORDS[: len(entries)]
    assert 300 < refused < 400


def test_lines_of_an_earlier_version_have_no_digest_and_are_held_by_those_that_follow(path):
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS[:2]))
    with Ledger(path) as ledger:
        assert ledger.entries == RECORDS[:2]
        ledger.append(RECORDS[2])
    assert read_ledger(path) == RECORDS
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(UserError, match="line 3 of"):
        read_ledger(path)


def test_a_full_disk_is_one_sentence(tmp_path):
    full = tmp_path / "ledger.jsonl"
    full.symlink_to("/dev/full")
    ledger = Ledger(full)
    with pytest.raises(UserError, match=r"No space left on device; make room .* --resume"):
        ledger.append({"generation": 0})
    ledger.close()


def test_a_missing_ledger_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no ledger"):
        read_ledger(tmp_path / "ledger.jsonl")
