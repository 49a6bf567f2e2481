import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from transfer.adapters.language_model import load_language_model
from transfer.errors import UserError
from transfer.pretrain.recall import RecallPretrainConfig, data, pretrain_recall, train
from transfer.pretrain.recall.card import LENGTHS, accuracy
from transfer.pretrain.recall.config import ARCHITECTURES, STAGES
from transfer.pretrain.recall.data import mixture, training_batch
from transfer.pretrain.recall.guidance import (
    guidance_loss,
    previous_token_head,
    recall_loss,
    sources,
)
from transfer.pretrain.recall.model import POSITIONS, new_model
from transfer.pretrain.recall.train import RecallLesson, positions
from transfer.tasks.base import FIRST_TRAINING_SEED, TokenBatch
from transfer.tasks.recall import TASKS


@pytest.fixture
def config(tmp_path):
    return RecallPretrainConfig(
        tmp_path / "tiny", scale=0.005, longest=128, tokens=256, save_every=4, report_documents=2
    )


def records(folder):
    found = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in found]


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same_run(one, other):
    assert records(one) == records(other)
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def stop_at(monkeypatch, step):
    """Interrupt the run before this step."""
    update = RecallLesson.update

    def interrupted(self, now):
        if now == step:
            raise KeyboardInterrupt
        return update(self, now)

    monkeypatch.setattr(RecallLesson, "update", interrupted)


def test_a_run_leaves_a_loadable_model_a_log_and_a_card(config):
    model = pretrain_recall(config)
    names = {path.name for path in config.out.iterdir()}
    assert names >= {"CARD.md", "config.json", "model.safetensors", "training.jsonl"}
    assert "training_state.pt" not in names
    assert [record["step"] for record in records(config.out)] == [3, 4, 6, 8, 12, 14]
    assert weights(config.out)["model.norm.weight"].dtype == torch.float16
    loaded = load_language_model(config.out)
    assert loaded.tokenizer is None
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_the_card(config):
    model = pretrain_recall(config)
    card = (config.out / "CARD.md").read_text()
    assert "transfer pretrain recall --out tiny --scale 0.005 --longest 128" in card
    assert "Seed 0; 14 steps of 256 tokens" in card
    assert str(config.out.parent) not in card
    for name, task in TASKS.items():
        cells = " | ".join(f"{accuracy(model, task, length, 2):.3f}" for length in LENGTHS)
        assert f"| {name} | {cells} |" in card


@pytest.mark.parametrize(("arch", "step"), [("llama", 7), ("llama", 13), ("gpt2", 2)])
def test_a_stopped_run_ends_with_the_same_bits(config, tmp_path, monkeypatch, arch, step):
    config = replace(config, arch=arch)
    pretrain_recall(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, step)
        pretrain_recall(config)
    assert not (config.out / "CARD.md").exists()
    pretrain_recall(config)
    assert_same_run(config.out, tmp_path / "whole")


def test_long_documents_can_teach_their_answers_alone(config, monkeypatch):
    weights_of = {}

    def recorded(logits, batch, plain):
        weights_of.setdefault(batch.ids.shape[1], set()).add(plain)
        return recall_loss(logits, batch, plain)

    monkeypatch.setattr(train, "recall_loss", recorded)
    pretrain_recall(replace(config, plain_longest=64))
    assert weights_of == {32: {0.2}, 64: {0.2}, 128: {0.0}}
    assert "longer than 64 tokens it was taught the answers" in " ".join(
        (config.out / "CARD.md").read_text().split()
    )


def test_the_seed_decides(config, tmp_path):
    pretrain_recall(config)
    pretrain_recall(replace(config, out=tmp_path / "same"))
    pretrain_recall(replace(config, out=tmp_path / "other", seed=1))
    assert_same_run(config.out, tmp_path / "same")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights(config.out)[name], weights(tmp_path / "other")[name])


def test_training_leaves_the_global_generator_and_threads_alone(config):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    pretrain_recall(config)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 2


def test_a_run_with_other_settings_is_refused(config, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 8)
        pretrain_recall(config)
    with pytest.raises(UserError, match="unfinished run with other settings"):
        pretrain_recall(replace(config, seed=3))
    # what changes no weight may change
    pretrain_recall(replace(config, save_every=5, report_documents=1))
    with pytest.raises(UserError, match="holds a finished model"):
        pretrain_recall(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "lama"}, "unknown architecture 'lama'; did you mean llama"),
        ({"scale": 0.0}, "--scale is 0"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"tokens": 0}, "--tokens is 0"),
        ({"save_every": 0}, "--save-every is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"longest": 16}, "--longest is 16"),
    ],
)
def test_bad_settings(config, changes, message):
    with pytest.raises(UserError, match=message):
        replace(config, **changes)


def test_lengths_of_the_last_stage_take_turns(config, monkeypatch):
    seen = []
    make = train.training_batch

    def watch(length, *others):
        seen.append(length)
        return make(length, *others)

    monkeypatch.setattr(train, "training_batch", watch)
    lesson = RecallLesson(replace(config, scale=0.001, longest=1024))
    for step in range(lesson.steps):
        lesson.update(step)
    assert seen == [32, 64, 128, 128, 256, 512, 1024, 128]


@pytest.mark.parametrize("length", sorted({n for stage in STAGES for n in stage.lengths}))
def test_the_worst_documents_of_the_curriculum_fit(length):
    for task in mixture(length):
        statements = task.facts[1] * (4 if task.overwrites else 1)
        asked = 4 * (min(task.questions, task.facts[1]) + task.interleaved)
        passkey = 2 * task.passkey + 5 if task.passkey else 0
        assert 1 + 4 * statements + 7 * task.decoys + passkey + asked <= length


def test_training_batches_depend_on_seed_and_step_alone():
    one, again = (training_batch(128, 1024, 3, 17) for _ in range(2))
    assert torch.equal(one.ids, again.ids) and torch.equal(one.answers, again.answers)
    assert one.ids.shape == (8, 128)
    for seed, step in ((3, 18), (4, 17)):
        assert not torch.equal(training_batch(128, 1024, seed, step).ids, one.ids)


def test_training_never_sees_evaluation_seeds(monkeypatch):
    seen = []
    make = data.make_batch

    def watch(task, length, seeds):
        seen.extend(seeds)
        return make(task, length, seeds)

    monkeypatch.setattr(data, "make_batch", watch)
    for step in range(20):
        training_batch(64, 512, 0, step)
    assert min(seen) >= FIRST_TRAINING_SEED and len(set(seen)) == len(seen) == 160


def test_sources_against_the_definition():
    batch = training_batch(64, 256, 0, 5)
    found = sources(batch)
    for ids, answers, marks in zip(batch.ids.tolist(), batch.answers.tolist(), found.tolist()):
        for row in range(64):
            expected = [
                row + 1 < 64
                and answers[row + 1]
                and 1 <= at <= row
                and ids[at] == ids[row + 1]
                and ids[at - 1] == ids[row]
                for at in range(64)
            ]
            assert marks[row] == expected
    # every answer stands somewhere before it
    assert found.any(-1).sum() == batch.answers.sum()


def test_guidance_is_paid_for_the_right_attention_and_memory_of_the_token_before():
    batch = training_batch(64, 256, 0, 5)
    previous = previous_token_head(new_model(ARCHITECTURES["llama"], 0))
    torch.nn.init.eye_(previous.weight)
    torch.nn.init.zeros_(previous.bias)

    def loss(attention, hidden):
        return guidance_loss(previous, hidden, attention[:, None], batch).item()

    before = torch.nn.functional.one_hot(batch.ids.roll(1, 1), 128)[..., :64] * 50.0
    unknown = torch.zeros_like(before)
    right = sources(batch).float()
    uniform = torch.full_like(right, 1 / 64)
    assert loss(right, unknown) < loss(uniform, unknown)
    assert loss(right, before) < loss(right, unknown)


def test_recall_loss_against_the_definition():
    batch = TokenBatch(torch.tensor([[1, 3, 2, 0]]), torch.tensor([[False, False, True, False]]))
    logits = torch.randn(1, 4, 5)
    logits[0, 1, 2] = 9.0
    each = -logits.log_softmax(-1)[0, [0, 1, 2], [3, 2, 0]]
    loss, right = recall_loss(logits, batch, 0.25)
    torch.testing.assert_close(loss, each[1] + 0.25 * each.mean())
    assert right == 1.0


def test_architectures_are_what_they_are_called():
    configs = {name: new_model(one, 0).config for name, one in ARCHITECTURES.items()}
    assert configs["llama"].num_key_value_heads < configs["llama"].num_attention_heads
    wide, source = configs["llama-wide"], configs["llama"]
    assert wide.num_key_value_heads == wide.num_attention_heads
    assert wide.hidden_size > source.hidden_size
    assert wide.num_hidden_layers > source.num_hidden_layers
    assert configs["gpt2"].n_positions == POSITIONS >= 1088


def test_gpt2_trains_every_position():
    for length in (64, 1024):
        uses = torch.zeros(POSITIONS)
        for step in range(1000):
            found = positions(0, step, length, POSITIONS - length)
            assert found.shape == (1, length) and (found.diff() == 1).all()
            uses[found] += 1
        assert uses.min() > 0.4 * uses.mean()
