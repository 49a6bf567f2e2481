import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from transfer.evolution.config import EvolveConfig


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> str:
    """A random language model of symbols."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("models") / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> str:
    """Another one, of another architecture."""
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=128, n_embd=16, n_layer=1, n_head=2, n_positions=256, initializer_range=0.3
    )
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def configured(llama_folder, tmp_path):
    """Makes the configuration of a small run."""

    def make(**changes) -> EvolveConfig:
        small = {
            "out": tmp_path / "run",
            "models": (llama_folder,),
            "tasks": ("recall",),
            "generations": 4,
            "population": 4,
            "sigma": 0.065,
            "hidden": 3,
            "documents": 2,
            "lengths": (96,),
            "budget": (12, 24),
            "update_interval": (16, 32),
            "validate_every": 2,
            "validation_documents": 4,
        }
        return EvolveConfig(**small | changes)

    return make


@pytest.fixture
def ledger_of():
    """Reads the ledger of a run, without what the clock said and the digest that is of it too."""

    def read(run: Path, seed: int = 0) -> list[dict]:
        lines = (run / f"seed-{seed}" / "ledger.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            del record["seconds"], record["digest"]
        return records

    return read
