"""A threshold is found, holds its share on other text, and is taken by an evaluation."""

import json
import re
import shutil
from pathlib import Path
from statistics import fmean

import pytest
import tiny
import torch
from evaluated import changed, printed
from tasks.words import word_tokenizer

from transfer import NAMM, NAMMConfig, attach
from transfer.adapters.kinds import find_model
from transfer.adapters.language_model import load_language_model
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import calibrate_run
from transfer.evaluation.calibrate import CalibrateConfig
from transfer.evaluation.calibrate_run import calibrate
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_results
from transfer.evaluation.threshold import read_threshold
from transfer.files import write_sealed
from transfer.tasks.recall import get_task, make_batch
from transfer.tasks.symbols import Symbols

LENGTH, INTERVAL, KEPT, EACH = 160, 32, 0.5, 5
TASKS = ("recall", "passkey")
PAGE = (Path(__file__).parents[2] / "docs/explanation/budgets.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By the command of the documents, and of `tova` by one like it; files by their policies."""
    [line] = re.findall(r"^transfer (calibrate .*)$", PAGE, re.MULTILINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("thresholds"))
        assert main(line.split()) == 0
        assert main(line.replace("namm:recall", "tova").replace("half", "tova").split()) == 0
        return {"namm:recall": Path("half.json").absolute(), "tova": Path("tova.json").absolute()}


def held_share(policy, threshold, seeds):
    """Counted call by call, each of which ends at an update."""
    model = load_language_model("llama-recall").model
    shares = []
    for task in TASKS:
        ids = make_batch(get_task(task), LENGTH, seeds, Symbols()).ids
        with attach(model, policy, INTERVAL, threshold=threshold) as memory, torch.no_grad():
            cache, steps = memory.new_cache(), 0.0
            for piece in ids.split(INTERVAL, dim=1):
                heads = [n for layer in cache.kept() for row in layer for n in row]
                before = fmean(heads) if heads else 0.0
                steps += sum(before + new for new in range(1, piece.shape[1] + 1))
                model(piece, cache=cache, use_cache=True)
        shares.append(steps / sum(range(1, LENGTH + 1)))
    return fmean(shares)


@pytest.mark.parametrize("name", ["namm:recall", "tova"])
def test_it_holds_the_share_on_text_it_was_not_found_on(found, name):
    told = json.loads(found[name].read_text())
    assert (told["policy"], told["kept"], told["update_interval"]) == (name, KEPT, INTERVAL)
    assert (told["model"], told["length"], told["documents"]) == ("llama-recall", LENGTH, 2 * EACH)
    assert abs(told["held"] - KEPT) <= 0.01
    policy = NAMM.from_pretrained("recall") if name != "tova" else name
    its = range(1_000_000, 1_000_000 + EACH)
    assert held_share(policy, told["threshold"], its) == pytest.approx(told["held"], abs=1e-6)
    assert abs(held_share(policy, told["threshold"], range(50, 60)) - KEPT) <= 0.02


@pytest.fixture
def config(found):
    return changed(
        LanguageEval(model="llama-recall", documents=2, length=(96,)),
        policy=("namm", "h2o", "tova"),
        budget=(12, 24),
        update_interval=INTERVAL,
        threads=1,
        threshold=tuple(found.values()),
    )


def test_an_evaluation_prunes_by_it_in_place_of_budgets(found, config):
    rows = evaluate(config).rows
    namm, tova = (read_threshold(path).threshold for path in found.values())
    assert {(row["policy"], row["budget"], row["share"], row["threshold"]) for row in rows} == {
        ("full", None, None, None), ("h2o", 12, "head", None), ("h2o", 24, "head", None),
        ("namm", None, "model", namm), ("tova", None, "model", tova),
    }  # fmt: skip
    model = load_language_model("llama-recall").model
    ids = make_batch(get_task("recall"), 96, [0, 1], Symbols()).ids
    with attach(model, "tova", INTERVAL, threshold=tova) as memory, torch.no_grad():
        model(ids, cache=memory.new_cache(), use_cache=True)
    kept = [fmean(n for layer in memory.cache.kept() for n in layer[row]) for row in (0, 1)]
    assert [row["kept_tokens"] for row in rows if row["policy"] == "tova"] == pytest.approx(kept)


def test_tables_and_results_say_where_it_comes_from(found, config, tmp_path):
    results = evaluate(changed(config, out=tmp_path))
    namm, tova = (read_threshold(path) for path in found.values())
    assert results.notes == read_results(tmp_path).notes == [namm.words, tova.words]
    said = f"Threshold of tova: {tova.threshold:.6g}, at which it holds 50.0% of the tokens of "
    assert f"{said}llama-recall on average, in texts of {LENGTH}" in " ".join(
        printed(results).split()
    )


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("llama-recall-wide", r"was found on llama-recall, and llama-recall-wide is another model"),
        ("trained/llama-recall", r"on llama-recall, and trained/llama-recall has other weights no"),
    ],
)
def test_of_another_model_it_is_refused(config, model, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = load_language_model("llama-recall").model
    with torch.no_grad():
        next(trained.parameters())[0, 0] += 1
    trained.save_pretrained("trained/llama-recall")
    with pytest.raises(UserError, match=sentence) as caught:
        evaluate(changed(config, model=model))
    remedies = (f"`transfer calibrate --model {model}`", "as --policy namm:recall:threshold=")
    assert all(remedy in str(caught.value) for remedy in remedies)
    # Elsewhere and under another name it is the same model.
    shutil.copytree(find_model("llama-recall", "language").path, "copy")
    assert evaluate(changed(config, model="copy", documents=1)).notes


def test_a_model_that_a_benchmark_does_not_show_is_known_by_its_name(config):
    asked = changed(config, task=("toy_benchmark:Toy",))
    assert len(evaluate(asked).notes) == 2
    with pytest.raises(UserError, match=r"on llama-recall, and gpt2-recall is another model"):
        evaluate(changed(asked, model="gpt2-recall"))


def test_a_sample_of_the_scores_finds_it_too(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate_run, "_SCORES", 500)
    plain = {"task": ("recall",), "length": 128, "update_interval": INTERVAL, "threads": 1}
    calibrate(CalibrateConfig("llama-recall", KEPT, "tova", out=tmp_path / "t.json", **plain))
    told = json.loads((tmp_path / "t.json").read_text())
    assert told["held"] == pytest.approx(KEPT, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": ("h2o", "tova")}, r"half\.json is of namm:recall, which is no policy here"),
        ({"policy": ("tova", "namm:budget=9")}, r"is of namm:recall, which is no policy here with"),
        ({"policy": ("namm", "tova:share=layer")}, r"says share, which a threshold replaces; le"),
        ({"update_interval": 16}, r"was found at update_interval 32, and namm has 16; say the sa"),
        ({"keep_recent": 4}, r"was found at keep_recent 0, and namm has 4; say the same"),
        ({"eviction": "reference"}, r"was found at eviction exact, and namm has reference"),
    ],
)
def test_what_it_does_not_fit_is_said(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, **changes))


def test_a_file_that_is_another_or_was_changed_is_refused(config, found, tmp_path, monkeypatch):
    path, told = tmp_path / "t.json", json.loads(found["namm:recall"].read_text())
    config = changed(config, threshold=(path,))
    monkeypatch.chdir(tmp_path)
    for content, sentence in (
        ({**told, "threshold": 0.0}, r"was changed after it was written; make it again with"),
        ({"threshold": 0.0}, r"does not say the threshold of a policy; make it again"),
        ({**told, "update_interval": "32", "digest": None}, r"does not say the threshold of"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=sentence):
            evaluate(config)
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "recall")
    del told["digest"]
    write_sealed(path, {**told, "policy": "namm:./recall"})
    with pytest.raises(UserError, match=r"is of another NAMM namm:\./recall; make it again"):
        evaluate(changed(config, policy=("namm:./recall",)))
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        evaluate(changed(config, threshold=(tmp_path / "none.json",)))


def test_texts_are_read_in_parts_spread_over_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained("model")
    tokenizer.save_pretrained("model")
    (tmp_path / "a.txt").write_text("The lamp is red and the box is blue. " * 40)
    (tmp_path / "b.txt").write_text("A river runs.")
    words = ["calibrate", "--model", "model", "--kept", "0.5", "--policy", "tova"]
    words += ["--text", "a.txt", "b.txt", "--update-interval", "8", "--documents", "3"]
    assert main([*words, "--length", "48", "--out", "t.json"]) == 0
    told = json.loads((tmp_path / "t.json").read_text())
    assert (told["documents"], told["namm"]) == (3, None) and abs(told["held"] - 0.5) <= 0.01
    with pytest.raises(UserError, match=r"no text has 4000 tokens; give longer ones, or a smal"):
        calibrate(CalibrateConfig("model", 0.5, "tova", text=(Path("a.txt"),), length=4000))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kept": 0.0}, r"kept is 0\.0; use a share above 0 and below 1"),
        ({"kept": float("nan")}, r"kept is nan; use a share"),
        ({"task": ()}, r"name either texts to read with --text, or tasks with --task"),
        (
            {"text": (Path("a.txt"),)},
            r"name either texts to read with --text, or tasks with --task",
        ),
        (
            {"length": 32},
            r"within a length of 32 tokens nothing leaves at an update interval of 64",
        ),
        ({"out": Path("t.txt")}, r"out t\.txt is no \.json file; rename it"),
        ({"out": Path("/dev/null/t.json")}, r"cannot write threshold /dev/null/t\.json"),
        ({"policy": "h2o"}, r"the scores of policy h2o are of one budget or moment, so that no"),
        ({"policy": "tova:budget=9"}, r"says budget, which a threshold replaces; leave it out"),
        ({"policy": "tova:share=layer"}, r"says share, which a threshold replaces; leave it out"),
        ({"policy": "full"}, r"policy full keeps everything; leave the threshold out"),
        ({"policy": "tovaa"}, r"unknown policy 'tovaa'; did you mean tova"),
        ({"update_interval": 20}, r"update interval 20 does not fit policy namm"),
        ({"length": 5000}, r"a document of 5000 tokens is longer than the .* positions of"),
        ({"task": ("recal",)}, r"unknown task 'recal'; did you mean recall"),
        (
            {"task": (), "text": (Path("a.txt"),)},
            r"llama-recall has no tokenizer to read texts with",
        ),
        (
            {"kept": 0.05},
            r"no threshold of policy namm holds 5\.0% .*, the nearest holds [0-9.]+%;",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(changes, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = {"model": "llama-recall", "kept": 0.5, "task": ("recall",), "length": 128}
    with pytest.raises(UserError, match=sentence) as caught:
        calibrate(CalibrateConfig(**{**plain, "documents": 1, "threads": 1, **changes}))
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
