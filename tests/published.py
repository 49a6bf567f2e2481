"""Data of others, with golden scores, that lie beside the repository where they were put there."""

from pathlib import Path

import pytest


def published(name):
    """The folder, or the test is skipped."""
    folder = Path(__file__).parents[2] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
