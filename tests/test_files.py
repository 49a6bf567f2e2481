"""Folders that one run holds at a time."""

import subprocess
import sys

import pytest

from transfer.errors import UserError
from transfer.files import locked

HOLDER = """
import sys, time
from pathlib import Path
from transfer.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path):
    folder = tmp_path / "made"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=r"another run is writing into .*; wait for it"),
            locked(folder),
        ):
            pass
        holder.kill()
    with locked(folder):
        assert list(folder.iterdir()) == []
