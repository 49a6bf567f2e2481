from dataclasses import replace

import numpy as np
import pytest
import torch
from tasks.reader import KEYS, PASS, read, right_answer

from transfer.errors import UserError
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.recall import TASKS, RecallTask, get_task, make_batch

SEEDS = range(40)
HARD = RecallTask((3, 9), 5, overwrites=0.6, decoys=7, passkey=4, prose=True, interleaved=6)
KINDS = {**TASKS, "everything": HARD}


def documents(task, length=400, seeds=SEEDS):
    return [read(ids) for ids in make_batch(task, length, seeds).ids.tolist()]


@pytest.mark.parametrize("name", KINDS)
def test_every_answer_follows_from_the_last_statement_before_it(name):
    batch = make_batch(KINDS[name], 400, SEEDS)
    for ids, answers in zip(batch.ids.tolist(), batch.answers.tolist()):
        reading, marked = read(ids), set()
        assert reading.questions
        for place, key, answer in reading.questions:
            assert answer == right_answer(reading, place, key)
            marked.update(range(place + 2, place + 2 + len(answer)))
        assert marked == {place for place, answer in enumerate(answers) if answer}


@pytest.mark.parametrize("length", [201, 256, 1024])
@pytest.mark.parametrize("name", KINDS)
def test_documents_have_exactly_the_tokens_asked_for(name, length):
    batch = make_batch(KINDS[name], length, range(5))
    assert batch.ids.shape == batch.answers.shape == (5, length)
    assert batch.ids.min() >= 1 and batch.ids.max() < 128


@pytest.mark.parametrize("name", KINDS)
def test_a_document_depends_on_its_own_seed_alone(name):
    together = make_batch(KINDS[name], 300, [5, 3, 2**40 + 7])
    for row, seed in enumerate([5, 3, 2**40 + 7]):
        alone = make_batch(KINDS[name], 300, [seed])
        assert torch.equal(alone.ids[0], together.ids[row])
        assert torch.equal(alone.answers[0], together.answers[row])
    assert not torch.equal(together.ids[0], together.ids[1])


def test_seeds_give_many_different_documents():
    batch = make_batch(TASKS["recall"], 128, [*range(200), *range(2**40, 2**40 + 200)])
    assert len(batch.ids.unique(dim=0)) == 400
    assert FIRST_TRAINING_SEED == 2**40


def test_questions_stand_at_the_end():
    for name, task in TASKS.items():
        for reading in documents(task):
            first = min(place for place, *_ in reading.questions)
            stated = [place for place, *_ in reading.facts + reading.decoys + reading.passkeys]
            assert max(stated) < first, name


def test_numbers_of_facts_and_questions():
    readings = documents(RecallTask(facts=(4, 10), questions=4), seeds=range(200))
    counts = [len(reading.facts) for reading in readings]
    assert set(counts) == set(range(4, 11))
    assert {len(reading.questions) for reading in readings} == {4}
    for reading in readings:
        asked = [key for _, key, _ in reading.questions]
        assert len(set(asked)) == len(asked)
        assert len({key for _, key, _ in reading.facts}) == len(reading.facts)


def test_fewer_facts_than_questions_are_all_asked():
    for reading in documents(RecallTask(facts=(2, 2), questions=9)):
        assert len(reading.questions) == 2


def test_facts_asked_are_anywhere_and_any():
    ranks, depths = [], []
    for reading in documents(TASKS["recall"], seeds=range(300)):
        order = [key for _, key, _ in reading.facts]
        ranks += [order.index(key) / (len(order) - 1) for _, key, _ in reading.questions]
        depths += [place / 400 for place, *_ in reading.facts]
    assert 0.45 < np.mean(ranks) < 0.55
    assert np.histogram(depths, bins=4, range=(0, 0.95))[0].min() > 0.2 * len(depths)


def test_overwritten_values_differ_and_are_asked():
    again = 0
    for reading in documents(TASKS["overwritten"], seeds=range(100)):
        values: dict[int, list[int]] = {}
        for _, key, value in reading.facts:
            values.setdefault(key, []).append(value)
        assert all(len(set(stated)) == len(stated) <= 4 for stated in values.values())
        again += sum(len(values[key]) > 1 for _, key, _ in reading.questions)
    # half of the 400 questions
    assert 160 < again < 240


def test_decoys_contradict_the_facts_and_half_are_about_questions():
    for reading in documents(TASKS["decoys"]):
        assert len(reading.decoys) == 6
        stated = {(key, value) for _, key, value in reading.facts}
        assert not stated & {(key, value) for _, key, value in reading.decoys}
        asked = {key for _, key, _ in reading.questions}
        assert sum(key in asked for _, key, _ in reading.decoys) >= 3


def test_passkeys_have_different_digits_and_are_all_answered():
    for reading in documents(TASKS["passkey"]):
        [(_, digits)] = reading.passkeys
        assert len(digits) == len(set(digits)) == 4
        assert [(key, answer) for _, key, answer in reading.questions] == [(PASS, digits)]
        assert 2 <= len(reading.facts) <= 6


@pytest.mark.parametrize("depth", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["needle", "passkey", "recall", "overwritten"])
def test_what_is_asked_lies_at_the_depth_chosen(name, depth):
    for reading in documents(get_task(name, depth), 600):
        for _, key, _ in reading.questions:
            found = reading.passkeys if key == PASS else reading.facts
            at = [where for where, what, *_ in found if key in (PASS, what)][-1]
            # statements in between count as no distance: distractors before it, of all of them
            assert abs(_distractors_before(reading, at) - depth) < 0.03


def _distractors_before(reading, place):
    questions = sum(len(answer) + 3 for _, _, answer in reading.questions)
    total = 599 - questions - 4 * len(reading.facts) - 6 * len(reading.passkeys)
    before = place - 1
    before -= sum(4 for where, *_ in reading.facts if where < place)
    before -= sum(6 for where, *_ in reading.passkeys if where < place)
    return before / total


def test_facts_do_not_change_with_the_length():
    short, long = (documents(TASKS["recall"], length) for length in (150, 900))
    for one, other in zip(short, long):
        assert [fact[1:] for fact in one.facts] == [fact[1:] for fact in other.facts]


def test_noise_is_repeated_throughout():
    for reading in documents(TASKS["recall"], 500):
        kinds = {tuple(sentence) for sentence in reading.distractors[:-1]}
        assert 3 <= len(kinds) <= 6


def test_interleaved_questions_come_after_the_fact():
    task = replace(TASKS["recall"], interleaved=8)
    for reading in documents(task):
        assert len(reading.questions) == 12
        assert all(key in KEYS for _, key, _ in reading.questions)


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="unknown task 'recal'; did you mean recall"):
        get_task("recal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": (0, 3)}, "facts"),
        ({"facts": (5, 3)}, "facts"),
        ({"facts": (5, 33)}, "facts"),
        ({"questions": -1}, "questions -1"),
        ({"questions": 0}, "asks nothing"),
        ({"passkey": 11}, "at most 10 digits"),
        ({"overwrites": 1.5}, "overwrites 1.5"),
        ({"depth": -0.1}, "depth -0.1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(UserError, match=message):
        RecallTask(**changes)


def test_too_short_a_document_says_what_it_needs():
    with pytest.raises(UserError, match=r"20 tokens cannot hold .* which are \d\d;"):
        make_batch(TASKS["recall"], 20, [0])


def test_no_seeds():
    with pytest.raises(UserError, match="one seed or more"):
        make_batch(TASKS["recall"], 128, [])
