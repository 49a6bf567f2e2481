"""Every causal language model of transformers is pruned exactly or refused in a sentence."""

import families
import pytest
import transformers

#: Plain, mixture of experts, recurrent states, sliding windows, shared heads, and what is refused.
QUICK = {
    "mixtral": "4 of 4",
    "phi": "4 of 4",
    "cohere2": "1 of 4",
    "olmo_hybrid": "1 of 4",
    "gpt_bigcode": "4 of 4",
    "falcon_h1": "4 of 4",
    "zamba2": "one attention among several",
    "jetmoe": "repeats its keys",
    "diffllama": "attention twice",
    "minimax": "cache of its own",
    "gemma3n_text": "keys of other layers",
    "bart": "cross-attention",
    "llama4_text": "1 of 4",
    "mamba2": "only layers with a recurrent state",
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", QUICK)
def test_a_family_is_exact_or_refused_for_its_reason(family):
    found = families.outcome(family)
    exact = QUICK[family].endswith(" of 4")
    pruned = "exact" if QUICK[family] == "4 of 4" else "partly"
    assert found.verdict == (pruned if exact else "refused")
    assert QUICK[family] in (found.layers if exact else found.why)


def test_video_models_are_exact_as_the_table_says():
    lines = families.video_table([families.outcome(family) for family in families.VIDEO])
    assert families.TABLE.read_text(encoding="utf-8").endswith("\n".join(lines) + "\n")


@pytest.mark.slow
def test_every_family_is_exact_or_refused_as_the_table_says():
    families.quiet()
    outcomes = [families.outcome(family) for family in sorted(families.FAMILIES)]
    table = families.TABLE.read_text(encoding="utf-8")
    if transformers.__version__ in table:
        assert table.startswith("\n".join(families.table(outcomes)) + "\n")
