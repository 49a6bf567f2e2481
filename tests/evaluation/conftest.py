from pathlib import Path

import pytest
from tiny_control import save_tiny_control


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Folder of a random Decision Transformer for Hopper."""
    return save_tiny_control(tmp_path_factory.mktemp("tiny"))
