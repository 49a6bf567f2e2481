"""Models too large for one device: never loaded, offloaded, or sharded over processes."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_worker
import tiny
import torch
from accelerate import dispatch_model
from sharded_worker import CASES, pruned_run
from transformers import LlamaConfig, LlamaForCausalLM

from transfer import NAMM, attach, check_adapter
from transfer.adapters.language_model import load_language_model
from transfer.tasks.recall import TASKS, make_batch

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "llama_70b.py")
EXAMPLE_WORDS = ["llama-recall", "--update-interval", "64", "--max-new-tokens", "4"]
#: As accelerate lays out a model of which little fits into memory.
DEVICES = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "lm_head": "disk",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = str(tmp_path_factory.mktemp("llama"))
    tiny.llama(kv_heads=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    model = load_language_model(folder).model
    return {case: pruned_run(model, *case) for case in CASES}


def llama_70b(layers: int) -> LlamaForCausalLM:
    """Llama 3 70B, cut to some of its layers, without memory for its weights."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=layers,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def test_llama_70b_has_as_many_weights_as_its_name_says():
    assert sum(weight.numel() for weight in llama_70b(80).parameters()) == 70_553_706_496


# A NAMM's features take half a second a layer without a device to compute them on.
@pytest.mark.parametrize(("policy", "layers"), [("recency", 80), ("namm", 2)])
def test_llama_70b_runs_without_its_weights(policy, layers):
    settings = {"namm": NAMM.from_pretrained("recall")} if policy == "namm" else {"budget": 256}
    # Who leaves depends on data, which there is none of: the first update lies behind the prompt.
    with (
        attach(llama_70b(layers), policy, update_interval=1024, **settings) as memory,
        torch.no_grad(),
    ):
        cache = memory.new_cache()
        for tokens in (600, 100):
            ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
            logits = memory.adapter.model(ids, cache=cache, logits_to_keep=1).logits
            assert logits.shape == (1, 1, 128256)
    found = [module.layer_idx for module in memory.adapter.attention_modules]
    assert found == list(range(layers))
    assert cache.kept() == [[[700] * 8]] * layers
    assert cache.get_seq_length() == 700
    assert cache.full_bytes() == layers * 8 * 700 * 2 * 128 * 2


def dispatched(folder, offload):
    model = load_language_model(folder).model
    return dispatch_model(model, DEVICES, main_device="cpu", offload_dir=offload, force_hooks=True)


def loaded(folder, offload):
    return load_language_model(folder, device_map=DEVICES, offload_folder=offload).model


@pytest.mark.parametrize("way", [dispatched, loaded])
def test_offloaded_layers_are_pruned_as_any_others(way, folder, expected, tmp_path):
    model = way(folder, tmp_path)
    assert model.model.layers[1].self_attn.k_proj.weight.device.type == "meta"
    for case in CASES:
        ours, theirs = pruned_run(model, *case), expected[case]
        torch.testing.assert_close(ours["logits"], theirs["logits"], rtol=0, atol=1e-5)
        assert torch.equal(ours["said"], theirs["said"])
        assert ours["kept"] == theirs["kept"]
        # Where the queries are, not where the weights are.
        assert ours["devices"] == {"cpu"}
    assert check_adapter(model).ok


def torchrun(*words: str, timeout: float = 180) -> str:
    """What two processes print; they are ended if they wait for each other forever."""
    launcher = "-m torch.distributed.run --standalone --local-addr=localhost --nproc-per-node=2"
    with subprocess.Popen(
        [sys.executable, *launcher.split(), *words],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as launched:
        try:
            out, _ = launched.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # The launcher ends its processes before it ends itself.
            launched.terminate()
            out, _ = launched.communicate()
    assert launched.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def processes(folder, tmp_path_factory):
    """Results of either process, and what the example printed there."""
    out = tmp_path_factory.mktemp("processes")
    printed = torchrun(sharded_worker.__file__, folder, str(out), EXAMPLE, *EXAMPLE_WORDS)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)], printed


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["tensor", "pipeline"])
def test_sharded_models_say_what_whole_ones_do(way, case, processes, expected):
    for results in processes[0]:
        ours, whole = results[way, *case], expected[case]
        torch.testing.assert_close(ours["logits"], whole["logits"], rtol=0, atol=1e-4)
        assert torch.equal(ours["said"], whole["said"])


@pytest.mark.parametrize("case", CASES)
def test_a_process_of_a_tensor_parallel_model_prunes_its_heads(case, processes, expected):
    for rank, results in enumerate(processes[0]):
        mine = slice(2 * rank, 2 * rank + 2)
        for ours, whole in zip(results["tensor", *case]["kept"], expected[case]["kept"]):
            assert ours == [[heads[mine] for heads in layer] for layer in whole]


@pytest.mark.parametrize("case", CASES)
def test_a_process_of_a_pipeline_prunes_its_layers(case, processes, expected):
    for results, mine in zip(processes[0], ([0, 1], [2])):
        for ours, whole in zip(results["pipeline", *case]["kept"], expected[case]["kept"]):
            assert ours == [heads if layer in mine else [] for layer, heads in enumerate(whole)]
        assert results["pipeline", *case]["held"] == [150, 143]
        listed = re.findall(r"^│ (\d) +│", results["pipeline", *case]["report"], re.MULTILINE)
        assert listed == [str(layer) for layer in mine]


def check_example(printed: str, ranks: list[str]) -> None:
    """The question is answered, and the table adds up."""
    answer, read, generated, *rows = printed.strip().splitlines()[-7 - len(ranks) :]
    assert json.loads(answer)[:2] == make_batch(TASKS["recall"], 500, [1]).ids[0, -2:].tolist()
    assert re.fullmatch(r"498 tokens read, [\d.]+ a second", read)
    assert re.fullmatch(r"4 tokens generated, [\d.]+ a second", generated)
    table = dict(
        re.fullmatch(r" *(.+): +([\d.]+) MB held, .* full cache", row).groups() for row in rows
    )
    held = {name: float(megabytes) for name, megabytes in table.items()}
    layers = ["layer 0", "layer 1", "layer 2"]
    assert list(held) == [*layers, *ranks, "all"]
    for parts in (layers, ranks):
        assert sum(held[part] for part in parts) == pytest.approx(held["all"], abs=2e-3)


def test_the_example_with_layers_on_disk(monkeypatch, capsys, caplog):
    words = ["llama_70b.py", *EXAMPLE_WORDS, "--max-memory", "cpu", "300KB"]
    monkeypatch.setattr("sys.argv", words)
    runpy.run_path(EXAMPLE, run_name="__main__")
    assert "offloaded" in caplog.text
    check_example(capsys.readouterr().out, ["rank 0 cpu"])


def test_the_example_on_two_processes(processes):
    check_example(processes[1], ["rank 0 cpu", "rank 1 cpu"])
