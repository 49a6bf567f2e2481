"""The plug-in under a small stand-in for lmms-eval's base class."""

import logging
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_video import WORDS, picture, save_llava, tokenizer, write_video
from transformers import DynamicCache

from transfer.adapters.video_model import load_video_model
from transfer.errors import UserError
from transfer.tasks.video_records import FRAME, VIDEO, Prompt
from transfer.video.frames import read_clip

CONTEXT = "the color before blue ?"
TASK, SPLIT = "mlvu_dev", "test"
GREEDY = {"max_new_tokens": 4, "temperature": 0, "do_sample": False, "until": ["\n\n"]}


class Lmms:
    def __init__(self):
        self.task_dict = {}


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str


@pytest.fixture
def plugin(monkeypatch):
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model", "lmms_eval.models")
    for name in (*names, "lmms_eval.models.registry_v2"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["lmms_eval.api.model"], "lmms", Lmms, raising=False)
    registry = sys.modules["lmms_eval.models.registry_v2"]
    monkeypatch.setattr(registry, "ModelManifest", ModelManifest, raising=False)
    yield import_module("transfer.lmms_eval")
    del sys.modules["transfer.lmms_eval"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = save_llava(tmp_path_factory.mktemp("llava"))
    # every token of the model is a word, so that replies can be read
    tokenizer(f"{WORDS} {' '.join(f'word{number}' for number in range(64))}").save_pretrained(path)
    write_video(path / "one.mp4", 40)
    write_video(path / "two.mp4", 30)
    return path


def make(plugin, folder, **settings):
    settings = {"policy": "full", "frames": 8, **settings}
    model = plugin.PrunedVideoModel(str(folder), **settings)
    model.task_dict = {TASK: {SPLIT: ["one.mp4", "two.mp4", "absent.mp4"]}}
    return model


def request(folder, second, document=0, context=CONTEXT, visuals=None):
    def path(name):
        return [str(folder / name)]

    return SimpleNamespace(args=(context, second, visuals or path, document, TASK, SPLIT))


def direct(folder, parts, frames, new=4):
    """Logits, cache and reply without the plug-in."""
    model = load_video_model(folder)
    cache = DynamicCache(config=model.adapter.config)
    ids = model.prompt_ids(Prompt(parts, ()), len(frames))
    logits = model.prefill(ids, model.encode(frames), cache)
    return logits, model.generate(logits, cache, new)


def pixels(folder, name="one.mp4", frames=8):
    return read_clip(folder / name, frames).pixels


def test_entry_point(plugin):
    assert plugin.manifest() == ModelManifest("transfer", "transfer.lmms_eval.PrunedVideoModel")
    assert issubclass(plugin.PrunedVideoModel, Lmms)


def test_protected_tokens_are_settings_too(plugin, folder):
    settings = {"policy": "recency", "budget": 24, "keep_recent": 6, "sinks": 2}
    pruning = make(plugin, folder, **settings).memory.pruning
    assert (pruning.keep_recent, pruning.sinks, pruning.policy.sinks) == (6, 0, 2)


def test_replies_are_the_models(plugin, folder):
    model = make(plugin, folder)
    replies = model.generate_until([request(folder, GREEDY, document) for document in (0, 1)])
    expected = [
        direct(folder, (VIDEO, "\n" + CONTEXT), pixels(folder, name))[1]
        for name in ("one.mp4", "two.mp4")
    ]
    assert replies == expected
    assert replies[0] != replies[1]
    assert len(replies[1].split()) == GREEDY["max_new_tokens"]


def test_reply_ends_where_the_task_says(plugin, folder):
    model = make(plugin, folder)
    [reply] = model.generate_until([request(folder, GREEDY, 1)])
    word = reply.split()[2]
    [cut] = model.generate_until([request(folder, {**GREEDY, "until": word}, 1)])
    assert cut == reply[: reply.index(word)] != ""


def test_losses(plugin, folder):
    model = make(plugin, folder)
    logits, reply = direct(folder, (VIDEO, "\n" + CONTEXT), pixels(folder, "two.mp4"), new=1)
    vocabulary = model.video.tokenizer.get_vocab()
    for answer in ("A", "B", reply):
        [(loss, greedy)] = model.loglikelihood([request(folder, f" {answer}", 1)])
        expected = -logits[0].log_softmax(-1)[vocabulary[answer]]
        assert loss == pytest.approx(float(expected), rel=1e-5)
        assert greedy == (answer == reply)
    assert reply not in ("A", "B")
    [called] = model.loglikelihood([request(folder, lambda document: document[:0] + "A", 1)])
    assert called == model.loglikelihood([request(folder, "A", 1)])[0]


def test_loss_of_several_tokens_is_their_mean(plugin, folder):
    model = make(plugin, folder)
    one, two = model.generate_until([request(folder, GREEDY, 1)])[0].split()[:2]
    found = model.loglikelihood([request(folder, f"{one} {word}", 1) for word in (two, "B")])
    own = model.video
    features = own.encode(pixels(folder, "two.mp4"))
    prompt = own.prompt_ids(Prompt((VIDEO, "\n" + CONTEXT), ()), 8)
    first, second, other = own.tokenizer.convert_tokens_to_ids([one, two, "B"])
    longer = torch.cat([prompt, torch.tensor([[first]])], 1)
    begun, then = (own.prefill(ids, features, None)[0].log_softmax(-1) for ids in (prompt, longer))
    expected = [-float(begun[first] + then[last]) / 2 for last in (second, other)]
    assert [loss for loss, _ in found] == pytest.approx(expected, rel=1e-5)
    assert [greedy for _, greedy in found] == [True, False]


def test_pruned(plugin, folder):
    full = make(plugin, folder)
    pruned = make(plugin, folder, policy="recency", budget=32, update_interval=32)
    [loss] = full.loglikelihood([request(folder, "A")])
    [other] = pruned.loglikelihood([request(folder, "A")])
    assert loss[0] != pytest.approx(other[0], abs=1e-4)
    report = pruned.memory.report()
    assert report.seen > 128
    assert 32 <= max(int(heads.max()) for heads in map(np.asarray, report.kept)) < 64
    assert full.memory is None
    # every request begins with an empty cache
    assert pruned.loglikelihood([request(folder, "A")]) == [other]


def test_shipped_namm_prunes_by_itself(plugin, folder):
    model = make(plugin, folder, policy="namm")
    [reply] = model.generate_until([request(folder, GREEDY)])
    assert reply
    assert model.memory.report().seen > 128


def test_a_video_is_encoded_once_for_its_questions(plugin, folder, monkeypatch):
    model = make(plugin, folder)
    read = []
    monkeypatch.setattr(
        "transfer.video.frames.read_clip", lambda *args: read.append(args) or read_clip(*args)
    )
    documents = (0, 0, 0, 1, 0)
    model.loglikelihood([request(folder, "A", document) for document in documents])
    assert [args[0].name for args in read] == ["one.mp4", "two.mp4", "one.mp4"]
    assert {args[1:] for args in read} == {(8, "uniform")}


def test_images_stand_where_the_text_says(plugin, folder):
    model = make(plugin, folder, frames=2)
    images = [picture(number) for number in range(3)]
    shown = lambda document: [Image.fromarray(image) for image in images]  # noqa: E731
    # All three, although a video has two frames: there are as many places.
    context = "A <image>before <image><image>? B"
    [loss] = model.loglikelihood([request(folder, "C", context=context, visuals=shown)])
    logits, _ = direct(folder, ("A ", FRAME, "before ", FRAME, FRAME, "? B"), np.stack(images))
    expected = -logits[0].log_softmax(-1)[model.video.tokenizer.get_vocab()["C"]]
    assert loss[0] == pytest.approx(float(expected), rel=1e-5)


def test_images_without_places_are_a_video(plugin, folder):
    model = make(plugin, folder, frames=2)
    images = [picture(number) for number in range(5)]
    shown = lambda document: [Image.fromarray(image) for image in images]  # noqa: E731
    [reply] = model.generate_until([request(folder, GREEDY, visuals=shown)])
    chosen = np.stack([images[0], images[4]])
    assert reply == direct(folder, (VIDEO, "\n" + CONTEXT), chosen)[1]


def test_text_alone(plugin, folder):
    model = make(plugin, folder)
    [(loss, _)] = model.loglikelihood([request(folder, "A", visuals=lambda document: [])])
    own = model.video
    ids = own.prompt_ids(Prompt((CONTEXT,), ()), 0)
    with torch.no_grad():
        logits = own.model(ids).logits[0, -1]
    expected = -logits.log_softmax(-1)[own.tokenizer.get_vocab()["A"]]
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_what_cannot_be_used_is_wrong_and_logged(plugin, folder, caplog):
    model = make(plugin, folder)
    sizes = lambda document: [Image.new("RGB", (64, 32)), Image.new("RGB", (32, 32))]  # noqa: E731
    requests = [
        request(folder, GREEDY, 2),
        request(folder, GREEDY, visuals=sizes),
        request(folder, GREEDY, visuals=lambda document: ["a.mp4", "b.mp4"]),
        request(folder, GREEDY, context="what color " * 500),
        request(folder, GREEDY, 1),
    ]
    with caplog.at_level(logging.ERROR):
        replies = model.generate_until(requests)
    assert [reply == "" for reply in replies] == [True, True, True, True, False]
    assert "mlvu_dev, document 2: " in caplog.text
    assert "absent.mp4" in caplog.text
    assert "images of different sizes" in caplog.text
    assert "2 videos in one question" in caplog.text
    assert "positions" in caplog.text


def test_losses_cannot_be_wrong_without_a_video(plugin, folder):
    model = make(plugin, folder)
    with pytest.raises(UserError, match=r"absent\.mp4"):
        model.loglikelihood([request(folder, "A"), request(folder, "A", 2)])
    with pytest.raises(UserError, match="an empty answer has no likelihood"):
        model.loglikelihood([request(folder, " ")])


@pytest.mark.parametrize(
    "asked", [{"do_sample": True}, {"do_sample": True, "temperature": 0.7}, {"num_beams": 3}]
)
def test_only_greedy(plugin, folder, asked):
    with pytest.raises(UserError, match="mlvu_dev samples or searches with beams"):
        make(plugin, folder).generate_until([request(folder, asked)])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 4}, "batch_size is 4; this model takes one request at a time"),
        ({"policy": "h2o"}, "policy h2o has no threshold of its own; give it a budget"),
        ({"policy": "h3o"}, "unknown policy 'h3o'"),
        ({"sampling": "random"}, "unknown sampling 'random'"),
        ({"frames": 0}, "frames is 0"),
    ],
)
def test_settings(plugin, folder, settings, said):
    with pytest.raises(UserError, match=said):
        make(plugin, folder, **settings)


def test_one_round(plugin, folder):
    with pytest.raises(UserError, match="answers one round"):
        make(plugin, folder).generate_until_multi_round([])
