"""The cache serves any policy: nothing in its files is of the NAMM."""

import re
from pathlib import Path

import pytest

import transfer.cache

FILES = sorted(Path(transfer.cache.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_of_the_cache_speaks_of_the_namm(path):
    found = re.findall(r"(?i)\w*namm\w*|spectr\w*|\bhops?\b|\bbins\b|\bgamma\b", path.read_text())
    assert found == []


def test_all_files_are_looked_at():
    assert {"layer", "window", "policy", "footprint", "triton_kernels"} <= {p.stem for p in FILES}
