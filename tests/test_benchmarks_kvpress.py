import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from tiny import llama
from transformers import DynamicCache

from benchmarks import kvpress_measure
from benchmarks.kvpress import METHODS, as_row, jobs_of, kvpress_python
from benchmarks.kvpress_measure import held_bytes, tokens_held
from benchmarks.kvpress_worker import run_job, stepping, transfer
from transfer.errors import UserError

IDS = torch.randint(97, (1, 1024))


def test_every_storage_of_a_cache_counts_once_however_many_views_it_has():
    cache, both = DynamicCache(), torch.zeros(2, 1, 2, 5, 8)
    cache.update(torch.zeros(1, 2, 10, 8), torch.zeros(1, 2, 10, 8), 0)
    cache.update(torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 6, 8), 1)
    cache.layers[1].keys, cache.layers[1].values = both
    beside = (torch.zeros(3, dtype=torch.long), None)
    assert held_bytes(cache) == 4 * (2 * 2 * 10 * 8 + 2 * 2 * 5 * 8)
    assert held_bytes(cache, beside, torch.nn.Linear(2, 2)) == held_bytes(cache) + 24
    assert tokens_held(cache) == 7.5


@pytest.mark.parametrize("method", ["full", "h2o", "namm"])
@torch.no_grad()
def test_what_we_say_we_hold_is_what_is_counted(method):
    model = llama()
    with ExitStack() as stack:
        job = {"tool": "transfer", "method": method, "asked": 0.25}
        cache = transfer(model, job, stack)[0]()
        stepping(model, cache)(IDS, 0)
        parameters = held_bytes(cache.pruned[0].pruning)
        assert held_bytes(cache) == cache.bytes() + parameters
        assert tokens_held(cache) == 1024 * (1 if method == "full" else 0.25)


@pytest.mark.parametrize("python", [None, "no-such-python", sys.executable])
def test_without_kvpress_one_sentence_says_how_to_install_it(monkeypatch, python):
    monkeypatch.delenv("KVPRESS_PYTHON", raising=False)
    with pytest.raises(UserError, match=r"left out.*pip install torch==[\d.]+ kvpress==[\d.]+`"):
        kvpress_python(python)


def test_a_python_with_kvpress_is_named_from_the_root(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVPRESS_PYTHON", "./python")
    assert kvpress_python() == str(python)


def test_every_method_is_measured_and_the_whole_matrix_of_short_prompts_only():
    both = [*jobs_of("kvpress", 2048), *jobs_of("transfer", 2048)]
    assert {(job["tool"], job["method"]) for job in both} > set(METHODS)
    assert [job["method"] for job in both].count("full") == 3
    long = {job["method"] for job in jobs_of("kvpress", 8192)}
    assert "SnapKVPress" in long and "ObservedAttentionPress" not in long


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux")
def test_our_side_of_the_run(monkeypatch):
    monkeypatch.setattr(kvpress_measure, "TOKENS", 8)
    jobs = [
        {"tool": "transformers", "method": "full", "asked": 1.0, "context": 512},
        {"tool": "transfer", "method": "full", "asked": 1.0, "context": 512},
        {"tool": "transfer", "method": "snapkv", "asked": 0.25, "context": 512},
    ]
    model = llama(layers=1)
    measured = [{**job, **run_job(model, IDS, job)} for job in jobs]
    plain, full, pruned = [as_row(job, measured[0]) for job in measured]
    assert (plain["kept"], full["kept"], pruned["kept"]) == (1, 1, 0.25)
    assert plain["mb_ratio"] == plain["prefill_ratio"] == plain["decode_ratio"] == 1
    assert measured[0]["bytes"] == 2 * 2 * 512 * 8 * 4
    assert measured[0]["logit"] == pytest.approx(measured[1]["logit"], abs=1e-4)
    assert plain["update_ms"] == "-" and measured[2]["update_s"] > 0
