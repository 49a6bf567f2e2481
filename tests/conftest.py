import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAXTYPING_DISABLE", "0")

from jaxtyping import config, install_import_hook

# Shapes in signatures are checked at run time in tests (and only there).
install_import_hook("transfer", "beartype.beartype")

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Read when Triton is imported, which transformers may do first.
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("transfer", deadline=None, derandomize=True)
settings.load_profile("transfer")

_seen = set()


@pytest.fixture(autouse=True)
def _shapes_are_checked_in_the_first_case_of_a_test(request):
    # In every case they would take a third of the suite's time.
    test = request.node.nodeid.partition("[")[0]
    config.update("jaxtyping_disable", test in _seen)
    _seen.add(test)


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)
