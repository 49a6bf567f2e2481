"""About two thousand files changed byte by byte; see `mutations`, which tries more by hand."""

from collections import Counter

import pytest
from mutations import KINDS, tried


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_sentence_or_is_usable(kind, tmp_path):
    ended = Counter(tried(kind, tmp_path, range(KINDS[kind].many)))
    assert ended.total() == KINDS[kind].many
    # Else nothing of what is changed would be read.
    assert ended["refused"] > KINDS[kind].many / 4
