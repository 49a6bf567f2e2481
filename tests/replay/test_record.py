"""Recording whole models: documents, episodes, questions; stopped, resumed and refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from tiny_control import save_tiny_control
from transformers import LlamaConfig, LlamaForCausalLM

from transfer.adapters.control_model import load_control_model
from transfer.adapters.decision_transformer import CachedController
from transfer.adapters.placement import Placement
from transfer.attachment.memory import attach
from transfer.cache.policy import Pruning
from transfer.cli import main
from transfer.envs.environment import make_envs
from transfer.envs.rollout import rollout
from transfer.errors import UserError
from transfer.files import write_sealed
from transfer.policies import get_policy
from transfer.replay import record as recorder
from transfer.replay import records, watching
from transfer.replay.config import RecordConfig
from transfer.replay.cost import replayed
from transfer.replay.playing import playing, survey_playing
from transfer.replay.reading import survey_reading
from transfer.replay.record import record
from transfer.replay.runs import odds, seeds
from transfer.replay.watching import survey_watching
from transfer.tasks.video_recall import KINDS


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory) -> str:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=128, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def contents(records):
    return {one.path.name: one.path.read_bytes() for one in records}


def config_of(tmp_path, model, **changes) -> RecordConfig:
    small = {"tasks": ("recall",), "lengths": (96,), "documents": 3}
    return RecordConfig(tmp_path / "records", (model,), **small | changes)


def test_documents_of_a_language_model(tmp_path, llama_folder):
    found = record(config_of(tmp_path, llama_folder, tasks=("recall", "passkey"), lengths=(64, 96)))
    assert len(found) == 4
    about = found[0].about
    assert (about.rows, about.tokens, about.first, about.modality) == (3, 64, 0, "language")
    for one in found:
        states = one.layer(0, [0, 1, 2])
        assert states.query.shape[:2] == (3, 4)
        assert states.key.shape[:2] == (3, 2)
        # Of a question nothing is asked before it, and all that is read before may matter.
        assert states.gradient.abs().sum() > 0
        assert (one.layer(1, [0]).gradient[:, :, -1] == 0).all()


def test_less_memory_costs_more(tmp_path, llama_folder):
    [one] = record(config_of(tmp_path, llama_folder, documents=1))
    costs = [
        replayed(one, [1], [0], Pruning(get_policy("recency"), 16, budget)).loss[0]
        for budget in (16, 48, 80)
    ]
    assert costs[0] > costs[1] > costs[2] > 0


def test_texts_are_cut_into_documents(tmp_path):
    folder, tokenizer = tmp_path / "model", word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "long.txt").write_text("the cat sat on the mat. " * 60)
    (tmp_path / "texts" / "short.txt").write_text("too short")
    config = config_of(tmp_path, str(folder), tasks=(), data=tmp_path / "texts", lengths=(64,))
    found = record(config)
    assert {one.about.task for one in found} == {"long.txt"}
    assert sum(one.about.rows for one in found) == 3
    (tmp_path / "texts" / "long.txt").write_text("the dog sat on the mat. " * 60)
    with pytest.raises(UserError, match=r"texts has other texts than when .* was begun"):
        record(config)


def test_episodes_of_a_decision_transformer_are_what_it_read(tmp_path):
    folder = save_tiny_control(tmp_path / "control")
    found = record(config_of(tmp_path, str(folder), steps=18))
    assert sum(one.about.rows for one in found) <= 3
    control = load_control_model(folder)
    for one in found:
        assert one.about.first == 1
        assert one.about.tokens % 3 == 2
        assert one.about.tokens <= 3 * 18
        assert len(one.layers) == control.model.config.n_layer
        # An update falls between two steps, as in a rollout.
        pruning = Pruning(get_policy("recency"), 6, 6)
        assert replayed(one, one.layers, [0], pruning).kept[0] < 0.5


class Listener(CachedController):
    """Writes down what its first episode's model reads."""

    def reset(self, episodes):
        super().reset(episodes)
        self.read = []

    def _embed(self, *given):
        read = super()._embed(*given)
        self.read.append(read[0].clone())
        return read


def test_episodes_in_the_last_steps_alone_are_those_of_a_pruned_cache_that_holds_them(tmp_path):
    folder = save_tiny_control(tmp_path / "control")
    config = config_of(tmp_path, str(folder), steps=12, documents=1, memory="cache")
    [run] = playing(config, str(folder), lambda name: False)
    control = load_control_model(folder)
    # What is left after a step, and the three tokens of the next.
    with attach(control.model, get_policy("recency", sinks=0), 3, 3 * 3 - 4) as memory:
        listener = Listener(control, memory.new_cache)
        envs = make_envs("hopper", 1)
        rollout(listener, envs, seeds(config, "hopper"), 3600.0, control.scale, 12, delayed=False)
    assert run.window == 3 * 3 - 1
    assert torch.cat(listener.read)[1:].allclose(run.embeddings[0], atol=1e-5)
    assert record(config)[0].about.window == 8
    whole = next(iter(playing(replace(config, memory="full"), str(folder), lambda name: False)))
    assert whole.window is None
    assert not whole.embeddings[0, :30].allclose(run.embeddings[0, :30], atol=1e-3)


def test_questions_about_videos(tmp_path):
    found = record(config_of(tmp_path, "llava-next-video", documents=2))
    assert [one.about.modality for one in found] == ["video", "video"]
    for one in found:
        assert one.about.rows == 1
        assert one.about.tokens > 512
        # What is asked is the token after the last, which reads all others.
        assert one.layer(max(one.layers), [0]).gradient[:, :, :-1].abs().sum() == 0
        assert one.layer(max(one.layers), [0]).gradient[:, :, -1].abs().sum() > 0


def test_every_kind_of_question_is_recorded_on_both_sides_of_a_video(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_run", lambda title, video, task, question: question)
    config = config_of(tmp_path, "llava-next-video", documents=2 * len(KINDS))
    asked = {
        (one.category, one.asked)
        for one in watching.watching(config, *config.models, lambda _: False)
    }
    assert asked == {(kind, side) for kind in KINDS for side in ("before", "after")}


def test_a_model_of_the_hub_is_recorded_under_a_plain_name(tmp_path, llama_folder, monkeypatch):
    from transfer.replay import reading

    load = reading.load_language_model
    named = lambda *told, **place: replace(load(*told, **place), name="org/llama")  # noqa: E731
    monkeypatch.setattr(reading, "load_language_model", named)
    found = record(config_of(tmp_path, llama_folder))
    assert [one.path.name for one in found] == ["org-llama-recall-96-0.safetensors"]


def test_texts_whose_records_would_be_called_alike_are_refused(tmp_path):
    folder, tokenizer = tmp_path / "model", word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (tmp_path / "texts").mkdir()
    config = config_of(tmp_path, str(folder), tasks=(), data=tmp_path / "texts")
    (tmp_path / "texts" / "a b.txt").write_text("the cat sat on the mat.")
    with pytest.raises(
        UserError, match=r"has no text of 96 tokens, .* the longest has [0-9]+; give"
    ):
        record(config)
    (tmp_path / "texts" / "a-b.txt").write_text("the dog sat on the mat. " * 60)
    with pytest.raises(
        UserError, match=r"the records of a b\.txt and a-b\.txt would be called alike"
    ):
        record(replace(config, out=tmp_path / "other"))


def test_stopped_and_taken_up_again_it_is_the_same_to_the_bit(tmp_path, llama_folder):
    config = config_of(tmp_path, llama_folder, tasks=("recall", "passkey"))
    whole = contents(record(config))
    lost = sorted(whole)[1]
    (config.out / lost).unlink()
    (config.out / f".{lost}.partial.safetensors").write_bytes(b"cut")
    kept = (config.out / sorted(whole)[0]).stat().st_mtime_ns
    assert contents(record(config)) == whole
    assert (config.out / sorted(whole)[0]).stat().st_mtime_ns == kept
    assert len(list(config.out.iterdir())) == len(whole) + 1


def test_another_recording_is_refused(tmp_path, llama_folder):
    record(config_of(tmp_path, llama_folder))
    with pytest.raises(UserError, match="recorded with --seed 0, this command says 1"):
        record(config_of(tmp_path, llama_folder, seed=1))
    with pytest.raises(UserError, match="with --dtype none, this command says bfloat16; say the s"):
        record(config_of(tmp_path, llama_folder, place=Placement(dtype="bfloat16")))
    with pytest.raises(UserError, match="recorded with --memory full, this command says cache"):
        record(config_of(tmp_path, llama_folder, memory="cache"))
    assert record(config_of(tmp_path, llama_folder, place=Placement(device="cpu")))


def test_with_other_weights_at_the_same_path_it_is_refused(tmp_path, monkeypatch):
    folder, model = tmp_path / "model", tiny.llama(vocabulary=128)
    model.save_pretrained(folder)
    config = config_of(tmp_path, str(folder), documents=1)
    record(config)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    model.save_pretrained(folder)
    with pytest.raises(UserError, match=r"model has other weights than when .*records was begun;"):
        record(config)
    # An earlier version did not say them, and knew one memory.
    told = {**records.told(config.out)}
    del told["weights"], told["config"]["memory"]
    write_sealed(config.out / records.FILE, told)
    # What is there takes no room again.
    monkeypatch.setattr(recorder, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert len(record(config)) == 1


def test_the_size_of_all_is_told_before_the_first(tmp_path, llama_folder, monkeypatch, capsys):
    control = save_tiny_control(tmp_path / "control")
    config = config_of(tmp_path, llama_folder, tasks=("recall", "passkey"), documents=1, steps=20)
    config = replace(config, models=(llama_folder, "llava-next-video", str(control)))
    surveys = [
        survey_reading(config, llama_folder),
        survey_watching(config, "llava-next-video"),
        survey_playing(config, str(control)),
    ]
    monkeypatch.setattr(recorder, "record_layers", lambda *_: pytest.fail("has begun"))
    monkeypatch.setattr(recorder, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"take up to [0-9]+ MB more, and the disk of .* has 0 MB"):
        record(config)
    # Fewer may be recorded there.
    assert not list(config.out.iterdir())
    monkeypatch.undo()
    sizes = dict.fromkeys(("language", "video", "control"), 0)
    for one in record(config):
        parts = [vars(one.layer(layer, range(one.about.rows))) for layer in one.layers]
        numbers = (x.numel() for part in parts for x in part.values() if torch.is_tensor(x))
        sizes[one.about.modality] += 2 * sum(numbers)
    assert surveys[0].size == sizes["language"]
    assert sizes["video"] <= surveys[1].size < 1.02 * sizes["video"]
    assert sizes["control"] <= surveys[2].size
    whole = sum(survey.size for survey in surveys)
    assert f"will hold up to {whole / 1e6:,.1f} MB" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "words, said",
    [
        (["--models", "decision-transformer-tmaze-stretched"], "is held out, to judge NAMMs by"),
        (["--models", "llama-recal"], "did you mean llama-recall"),
        (["--tasks", "recal"], "unknown task 'recal'"),
        (["--lengths", "8"], "--lengths is 8; use 16 or more"),
        (["--documents", "0"], "--documents is 0; use 1 or more"),
        (["--data", "README.md", "--tasks"], "has no tokenizer to read README.md"),
        (["--lengths", "100000"], "longer than"),
        (["--models", "a/llama", "b/llama"], "a/llama and b/llama would be called alike"),
        (["--tasks"], "--tasks names none, and llama-recall has nothing to read"),
        (
            ["--models", "llava-next-video", "--seed", "4294967295"],
            "--seed is 4294967295; use at most 1099511126",
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, words, said):
    assert main(["record", "--out", str(tmp_path / "records"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert error.count("error: ") == 1 and "Traceback" not in error


def test_the_command_says_what_there_is(tmp_path, llama_folder, capsys):
    out = tmp_path / "records"
    words = ["--models", llama_folder, "--tasks", "recall", "--lengths", "64", "--documents", "1"]
    assert main(["record", "--out", str(out), *words]) == 0
    assert "holds 1 records of 64 tokens, 0 MB" in capsys.readouterr().out
    assert json.loads((out / "record.json").read_text())["config"]["documents"] == 1


def test_odds_are_those_of_one_against_all_others():
    logits = torch.randn(5, 7, dtype=torch.float64)
    chosen = torch.tensor([0, 3, 6, 2, 2])
    share = logits.softmax(-1).gather(-1, chosen[:, None])[:, 0]
    assert torch.allclose(odds(logits, chosen), (share / (1 - share)).log())
