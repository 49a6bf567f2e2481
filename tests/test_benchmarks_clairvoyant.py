"""The ceiling that knows the future: what it reads there, and what it keeps."""

import pytest
import tiny
import torch
from tasks.words import word_tokenizer

from benchmarks import clairvoyant
from benchmarks.clairvoyant import Clairvoyant, Listening
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.tasks.prose import sentences

INTERVAL, TOKENS, BUDGET = 16, 80, 12


@pytest.fixture(scope="module")
def read():
    """A text under the ceiling, what it kept, and what the whole cache attends to."""
    torch.manual_seed(0)
    model = tiny.llama(kv_heads=2, layers=1, attn_implementation="eager")
    ids = torch.randint(1, 97, (1, TOKENS))
    with torch.no_grad():
        [attention] = model(ids, output_attentions=True).attentions
    listening = Listening()
    for policy, budget in ((listening, TOKENS), (Clairvoyant(listening.heard), BUDGET)):
        pruning = Pruning(policy, INTERVAL, budget, trace=True)
        with Memory(get_adapter(model), pruning) as memory, torch.no_grad():
            cache = memory.new_cache()
            model(ids, cache=cache)
    return attention.unflatten(1, (2, -1)).mean(2), listening.heard[0], cache.used[0]


def test_it_hears_every_query_of_the_whole_cache(read):
    attention, heard, _ = read
    assert [seen for seen, _ in heard] == list(range(INTERVAL, TOKENS + 1, INTERVAL))
    for seen, squares in heard:
        expected = attention[:, :, seen - INTERVAL : seen, :seen].square().sum(2)
        torch.testing.assert_close(squares, expected, rtol=1e-4, atol=1e-7)


def test_it_keeps_what_will_be_attended_to(read):
    """The newest, as always, and of the others those with the largest sum over all to come."""
    attention, _, layer = read
    held = [set(), set()]
    for seen, heads in layer.kept_positions[0][:-1]:
        coming = attention[0, :, seen:, :seen].square().sum(1)
        for head, kept in enumerate(heads):
            others = held[head] | set(range(seen - INTERVAL, seen - 1))
            best = sorted(others, key=lambda token: -coming[head, token])[: BUDGET - 1]
            held[head] = set(kept.tolist())
            assert held[head] == {*best, seen - 1}


@pytest.fixture
def words(tmp_path):
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "text").mkdir()
    for number in (0, 1):
        text = " ".join(sentences()[100 * number : 100 * number + 60])
        (tmp_path / "text" / f"{number}.txt").write_text(text)
    return [
        "--model", str(tmp_path / "model"), "--data", str(tmp_path / "text"), "--documents", "2",
        "--budget", "0.25", "20", "--share", "layer", "--policy", "recency",
    ]  # fmt: skip


def test_its_table(words, capsys):
    clairvoyant.main([*words, "--length", "128", "--update-interval", "32"])
    heads, _, *lines = capsys.readouterr().out.splitlines()
    assert heads == "| policy | budget | shared by | log-likelihood - full |"
    assert [line.split(" | ")[:3] for line in lines] == [
        [f"| {policy}", budget, "layer"]
        for policy in ("clairvoyant", "recency")
        for budget in ("25%", "20 tokens")
    ]
    assert all("[" in line for line in lines)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (("--length", "100"), "--length 100 is no multiple of --update-interval 64"),
        (("--length", "4096"), "has only"),
    ],
)
def test_texts_whose_end_nothing_hears_are_refused(words, sizes, said):
    with pytest.raises(UserError, match=said):
        clairvoyant.main([*words, *sizes])
