from pathlib import Path

import pytest
from evaluated import changed
from tiny_control import save_tiny_control
from toy_benchmark import Toy

from transfer.evaluation.language import LanguageEval


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Folder of a random Decision Transformer for Hopper."""
    return save_tiny_control(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def toy(monkeypatch):
    """Configurations of a benchmark from outside; its calls are those of this test alone."""
    monkeypatch.setattr(Toy, "calls", [])
    config = LanguageEval(model="dice", task=("toy_benchmark:Toy",), documents=5, batch=2)
    config = changed(config, policy=("h2o", "recency"), budget=(8,), threads=1)

    def make(**options) -> LanguageEval:
        return changed(config, **options)

    return make
