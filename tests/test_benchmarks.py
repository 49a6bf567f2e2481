"""Every benchmark measures what it says, at small sizes; how long it takes is not asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from benchmarks import __main__ as command
from benchmarks import (
    decode,
    evolution,
    features,
    generate,
    layer_70b,
    measure,
    real,
    scoring,
    video,
)
from benchmarks.layers import UNEVEN, Shape, namm_pruning, pruned_layer
from transfer.adapters.language_model import load_language_model
from transfer.cache.layer import PrunedLayer
from transfer.errors import UserError
from transfer.evolution.config import EvolveConfig

SMALL = Shape("small", 8, 2, 16)


def test_timings_are_of_what_runs_and_not_of_what_prepares():
    ran = []
    prepared = {name: lambda name=name: lambda: ran.append(name) for name in "ab"}
    times = measure.side_by_side(prepared, repeats=3)
    # One round more than is counted, taking turns.
    assert ran == list("abababab")
    assert all(0 <= t.low <= t.median <= t.high for t in times.values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_is_beyond_the_inputs():
    held = torch.ones(50_000_000)
    assert measure.peak_mb(lambda: lambda: held.sum()) < 20
    assert measure.peak_mb(lambda: lambda: held * 2) == pytest.approx(200, abs=20)


def test_the_naive_features_are_ours():
    """Both sides of the comparison compute the same, so that one may be compared with the other."""
    torch.manual_seed(0)
    key, value, query = SMALL.keys(1024), SMALL.keys(1024), SMALL.queries(512)
    out, wanted = features.naive(query, key, value)
    seen: list[PrunedLayer] = []
    attend = PrunedLayer.attend

    def watched(self, *inputs):
        seen.append(self)
        return attend(self, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrunedLayer, "attend", watched)
        ours = features.ours(SMALL, key, value, query)()()
    torch.testing.assert_close(ours, out, rtol=1e-4, atol=1e-5)
    # The state before was random; after 512 queries little is left of it.
    left = features.GAMMA**features.WINDOW
    assert (seen[0].store.padded_state().flatten(0, 1) - wanted).abs().max() <= left + 1e-4
    assert wanted.abs().max() > 10 * left
    assert seen[0].seen % seen[0].pruning.update_interval, "no update should be timed"


def test_a_layer_that_keeps_a_quarter_does():
    layer = pruned_layer(SMALL.keys(1000), SMALL.keys(1000), namm_pruning(), UNEVEN)
    assert layer.store.lengths == [int(share * 1000) for share in UNEVEN]
    assert sum(UNEVEN) / len(UNEVEN) == 0.25
    assert layer.store.state.shape == (sum(layer.store.lengths), 17)


@pytest.mark.parametrize("new", [1, 512])
def test_decode(new, monkeypatch):
    monkeypatch.setattr(decode, "STEPS", 2)
    row = decode.row(SMALL, 1024, new)
    assert row["25% kept bytes"] < row["all kept bytes"]
    assert 1 < row["full bytes"] < 1.7
    assert set(row) >= {"stock ms", "all kept / stock", "25% kept / stock"}
    # The end of a window is an update, which is no ordinary step.
    end = row["all kept window's end ms"]
    assert end == "-" if new > 1 else end > 0


def test_the_end_of_a_window_is_an_update():
    layer = pruned_layer(SMALL.keys(512), SMALL.keys(512), namm_pruning(), UNEVEN)
    updates = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrunedLayer, "_prune", lambda self, room: updates.append(self.seen))
        decode.update_ms(SMALL, layer)
    assert updates == [1024]


def test_layer_70b(monkeypatch):
    monkeypatch.setattr(layer_70b, "SIZES", {**layer_70b.SIZES, "intermediate_size": 64})
    monkeypatch.setattr(layer_70b, "SHAPE", Shape("small", 8, 2, 16, torch.bfloat16))
    monkeypatch.setitem(layer_70b.SIZES, "hidden_size", 256)
    monkeypatch.setitem(layer_70b.SIZES, "num_attention_heads", 16)
    row = layer_70b.row(layer_70b.one_layer(), 512, 1)
    assert set(row) >= {"stock s", "all kept / stock", "25% kept / stock"}


def test_scoring():
    row = scoring.row(256)
    assert set(row) >= {"equal heads s", "uneven, padded s", "uneven, each its own s"}
    assert row["padded / own"] > 0


def test_evolution(monkeypatch):
    monkeypatch.setattr(evolution, "GENERATIONS", 2)
    config = EvolveConfig(Path("unused"), tasks=("recall",), documents=1, validation_documents=2)
    row = evolution.row("small", config)
    assert set(row) == {
        "setting", "model", "features", "scoring", "simulator", "optimiser", "validation", "total",
    }  # fmt: skip
    assert 0 < row["model"] < row["total"]


def test_generate(monkeypatch):
    monkeypatch.setattr(generate, "KEPT", (None, 0.25))
    monkeypatch.setattr(generate, "REPEATS", 1)
    rows = generate.rows(generate.Setting("llama-recall", (64, 128), 4, 16))
    assert [(row["context"], row["kept"]) for row in rows] == [
        (64, "all"), (64, "25%"), (128, "all"), (128, "25%"),
    ]  # fmt: skip
    assert [row["cache / full"] for row in rows][::2] == [1.0, 1.0]
    # 128 tokens read, and 1 and 4 generated, of which the last did not go in.
    assert rows[2]["cache MB"] == round((128 + 4) * 3 * 2 * 2 * 16 * 4 / 1e6, 3)


@pytest.mark.parametrize("kept", [None, 0.25])
def test_a_cache_that_was_filled_before_goes_on_from_there(kept):
    setting = generate.Setting("llama-recall", (1024,), 2, 512, read_before=True)
    model = load_language_model("llama-recall").model
    cache = generate.filled_cache(model, setting, 512, kept)
    assert cache.get_seq_length() == 512
    assert generate.cache_bytes(cache) > 0
    run = generate.one_run(model, setting, 1024, kept)
    tokens = 1026 if kept is None else 256 + 2
    assert run.cache >= tokens * 3 * 2 * 2 * 16 * 4
    assert run.cache < 1.8 * (tokens + 64) * 3 * 2 * 2 * 16 * 4
    assert min(run.read, run.token) > 0


def test_an_unknown_benchmark_and_a_missing_gpu_are_one_sentence(capsys, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="did you mean features"):
        command.main(["feature"])
    monkeypatch.setattr(command, "RESULTS", tmp_path)

    def broken():
        raise UserError("this machine has none")

    rows = [{"a": 1, "b": "x"}]
    monkeypatch.setattr(command, "BENCHMARKS", {"no": ("No", broken), "yes": ("Yes", lambda: rows)})
    command.main([])
    assert "no is left out: this machine has none" in capsys.readouterr().out
    saved = json.loads((tmp_path / "yes.json").read_text())
    assert saved["rows"] == rows
    assert saved["machine"]["threads"] == torch.get_num_threads()
    with pytest.raises(UserError, match="this machine has none"):
        command.main(["no"])


def test_bad_input_leaves_with_2():
    run = [sys.executable, "-m", "benchmarks", "nosuch"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown benchmark 'nosuch'")


def test_a_real_model_is_measured_beside_itself(tmp_path, monkeypatch):
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(real, "SIDES", (real.STOCK, real.Side("namm:recall", 64)))
    load = real.load_language_model

    def of_any_length(*told, **options):
        language = load(*told, **options)
        del language.model.config.max_position_embeddings
        return language

    monkeypatch.setattr(real, "load_language_model", of_any_length)
    floor, stock, pruned = real.run(["--model", str(tmp_path), "--length", "192", "--repeats", "1"])
    assert [row["context"] for row in (floor, stock, pruned)] == [real.FLOOR, 192, 192]
    assert stock["read / stock"] == stock["token / stock"] == stock["cache / stock"] == 1
    assert (pruned["policy"], pruned["interval"], pruned["kept"]) == ("namm:recall", 64, "25%")
    # All tokens: keys and values of 2 heads of 8 numbers in 3 layers.
    assert stock["cache MB"] == round((192 + real.NEW) * 2 * 2 * 8 * 4 * 3 / 1e6, 2)
    assert pruned["read / stock"] > 0 and pruned["cache MB"] > 0
    monkeypatch.setattr(real, "load_language_model", load)
    for length in ("-1", "63", str(4096 - real.NEW + 1), str(10**12)):
        with pytest.raises(UserError, match=rf"--length is {length}; use 64 to {4096 - real.NEW} "):
            real.run(["--model", str(tmp_path), "--length", "64", length])


def test_no_prose_is_made_of_a_tokenizer_that_skips_it():
    skipping = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"我": 0}, [])))
    with pytest.raises(UserError, match="makes no tokens of English"):
        real.text_ids(skipping, 64)


@pytest.mark.parametrize(
    "options, words",
    [
        (["real", "--model", "llama-recall"], "llama-recall is a model of symbols"),
        (["real", "--repeats", "0"], "--repeats is 0; use 1 or more"),
        (["decode", "--model", "llama"], "--model is an option of the benchmark real"),
        (["--model", "llama"], "--model is an option of the benchmark real"),
    ],
)
def test_options_of_a_benchmark_that_do_not_fit(options, words):
    with pytest.raises(UserError, match=words):
        command.main(options)


def test_the_long_videos_are_what_they_say_and_both_ways_read_the_same(tmp_path, monkeypatch):
    pytest.importorskip("decord")
    monkeypatch.setattr(video, "REPEATS", 1)
    path = video.write(tmp_path, minutes=0.1, group=30, size=(64, 128))
    clip = video.through_index(path)
    assert (len(clip.indices), clip.indices[-1], clip.seconds[-1]) == (32, 149, 5.96)
    assert clip.backend == "decord"
    assert np.array_equal(clip.pixels, video.decord_alone(path))
    row = video.row(path, 0.1, 30)
    assert row["reader"] == "decord"
    assert set(row) >= {"index s", "decord s", "ours s", "again s", "ours / decord"}
