"""Data of others, with golden scores, that lie beside the repository where they were put there."""

from pathlib import Path

import pytest

from transfer.errors import UserError
from transfer.tasks.reading import BrokenSample


def published(name):
    """The folder, or the test is skipped."""
    folder = Path(__file__).parents[2] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def sound(found):
    """What is asked of records none of which is broken; raises why one is."""
    found = list(found)
    for one in found:
        if isinstance(one, BrokenSample):
            raise UserError(one.reason)
    return found
