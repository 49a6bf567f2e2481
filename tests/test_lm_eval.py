"""The plug-in under a small stand-in for the harness's `hf` model, and beside the real one."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import tiny
import torch
from tasks.words import word_tokenizer
from transformers import AutoModelForCausalLM

from transfer.attachment.memory import attach
from transfer.errors import UserError
from transfer.tasks.prose import sentences

CONTEXT = [5, 9, 3, 7, 2, 8] * 12
SEVERAL = [[4], [6, 3], [8, 8, 5], [4]]
PRUNED = {"policy": "h2o", "budget": 24, "update_interval": 16}


class HFLM:
    def __init__(
        self, pretrained, tokenizer, trust_remote_code, batch_size, add_bos_token, max_length=512
    ):
        self.model, self.tokenizer = pretrained, tokenizer
        self.batch_size, self.max_length = batch_size, max_length
        self.device, self.softmax_dtype = pretrained.device, None
        self.stored = {}
        self.cache_hook = SimpleNamespace(
            add_partial=lambda kind, key, answer: self.stored.update({(kind, key): answer})
        )

    def _model_generate(self, context, max_length, stop, **settings):
        return self.model.generate(context, max_length=max_length, do_sample=False, **settings)


@pytest.fixture
def plugin(monkeypatch):
    for name in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["lm_eval.models.huggingface"], "HFLM", HFLM, raising=False)
    monkeypatch.delitem(sys.modules, "transfer.lm_eval.model", raising=False)
    yield import_module("transfer.lm_eval.model").PrunedLanguageModel
    del sys.modules["transfer.lm_eval.model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path, tokenizer = tmp_path_factory.mktemp("model"), word_tokenizer()
    tokenizer.eos_token = tokenizer.bos_token
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@torch.no_grad()
def alone(folder, context, tokens, **pruning):
    """What one pass over context and continuation says of the latter, without the plug-in."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[*context, *tokens]])
    if pruning:
        with attach(model, **pruning) as memory:
            logits = model(ids[:, :-1], cache=memory.new_cache()).logits
    else:
        logits = model(ids[:, :-1]).logits
    logits, wanted = logits[0, -len(tokens) :].log_softmax(-1), ids[0, -len(tokens) :]
    likelihood = float(logits.gather(1, wanted[:, None]).sum())
    return likelihood, bool((logits.argmax(-1) == wanted).all())


def requests(*continuations, context=CONTEXT):
    return [((str(context), str(tokens)), list(context), tokens) for tokens in continuations]


def close(found, wanted):
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert [one for one, _ in found] == pytest.approx([one for one, _ in wanted], abs=1e-4)


@pytest.mark.parametrize("pruning", [{}, PRUNED], ids=["full", "h2o"])
@pytest.mark.parametrize("batch", [1, "3"])
def test_continuations_of_one_context_are_as_if_alone(plugin, folder, pruning, batch):
    """Though it is read once, and they may be read side by side."""
    model = plugin(folder, batch_size=batch, **(pruning or {"policy": "full"}))
    calls = []
    model.model.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[1]))
    asked = [*requests(*SEVERAL), *requests([3, 4], context=CONTEXT[:20])]
    found = model._loglikelihood_tokens(asked, disable_tqdm=True)
    wanted = [alone(folder, context, tokens, **pruning) for _, context, tokens in asked]
    close(found, wanted)
    assert calls.count(len(CONTEXT)) == 1
    assert len({likelihood for likelihood, _ in wanted}) == 4
    assert model.stored == {
        ("loglikelihood", key): answer for (key, *_), answer in zip(asked, found)
    }


def test_pruning_changes_what_is_found(plugin, folder):
    full, pruned = (
        plugin(folder, **settings)._loglikelihood_tokens(requests([6, 3]), disable_tqdm=True)
        for settings in ({"policy": "full"}, PRUNED)
    )
    assert abs(full[0][0] - pruned[0][0]) > 1e-3


def test_greediest_continuation(plugin, folder):
    model = plugin(folder, policy="full")
    ids = torch.tensor([CONTEXT])
    greedy = model._model_generate(ids, len(CONTEXT) + 4, [])[0, len(CONTEXT) :].tolist()
    other = [*greedy[:-1], (greedy[-1] + 1) % 50]
    found = model._loglikelihood_tokens(requests(greedy, other), disable_tqdm=True)
    assert [whether for _, whether in found] == [True, False]


def test_a_long_context_loses_its_beginning(plugin, folder):
    """The last token of a continuation is not read, and so does not take room."""
    model = plugin(folder, policy="full", max_length=32)
    found = model._loglikelihood_tokens(requests([6, 3, 5]), disable_tqdm=True)
    close(found, [alone(folder, CONTEXT[-30:], [6, 3, 5])])
    with pytest.raises(UserError, match="33 tokens and max_length is 32"):
        model._loglikelihood_tokens(requests([3] * 33), disable_tqdm=True)


def test_replies_are_generated_over_a_pruned_cache(plugin, folder):
    model = plugin(folder, **PRUNED)
    # Left padding, as the harness's.
    short = CONTEXT[:50]
    ids = torch.tensor([CONTEXT, [0] * (len(CONTEXT) - 50) + short])
    mask = (ids != 0).long()
    both = model._model_generate(ids, len(CONTEXT) + 20, [], attention_mask=mask)
    assert max(n for layer in model.memory.cache.kept() for row in layer for n in row) <= 24 + 16
    plain = AutoModelForCausalLM.from_pretrained(folder)
    with attach(plain, **PRUNED) as memory:
        for row, context in zip(both, (CONTEXT, short)):
            one = plain.generate(
                torch.tensor([context]),
                cache=memory.new_cache(),
                max_new_tokens=20,
                do_sample=False,
            )
            assert one[0, len(context) :].tolist() == row[len(CONTEXT) :].tolist()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"polcy": "h2o"}, "unknown model argument 'polcy'; did you mean policy"),
        ({"policy": "h3o"}, "unknown policy 'h3o'; did you mean h2o"),
        ({"policy": "h2o"}, "h2o has no threshold of its own; give it a budget"),
        ({"policy": "full", "budget": 9}, "full keeps everything; leave the budget out"),
        ({"policy": "all"}, "unknown policy 'all'"),
        ({"batch_size": "auto"}, "batch_size is auto; use a whole number"),
        ({"batch_size": 0}, "batch_size is 0; use a whole number"),
        ({"update_interval": 0}, "update-interval is 0; use 1 or more"),
        ({"pretrained": "llama-recall"}, "llama-recall has no tokenizer"),
    ],
)
def test_settings_that_do_not_fit(plugin, folder, settings, words):
    with pytest.raises(UserError, match=words):
        plugin(**{"pretrained": folder, "policy": "full", **settings})


def test_policies_are_spelled_as_everywhere(plugin, folder):
    model = plugin(folder, policy="recency:sinks=2,update_interval=8", budget=0.5)
    pruning = model.memory.pruning
    assert (pruning.policy.sinks, pruning.update_interval, pruning.budget) == (2, 8, 0.5)


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="the harness is there")
def test_without_the_harness_a_sentence_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-m", "transfer.lm_eval"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and 'pip install "namm-transfer[lm-eval]"' in done.stderr


def test_the_real_one_says_the_same_of_a_full_cache(folder):
    """In all three kinds of request."""
    harness = pytest.importorskip("lm_eval.models.huggingface", reason="needs the extra `lm-eval`")
    own = import_module("transfer.lm_eval.model").PrunedLanguageModel
    words = " ".join(sentences()[:8])
    stop = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    for bos in (None, True):
        settings = {"add_bos_token": bos, "max_length": 48, "device": "cpu"}
        hf = harness.HFLM(folder, batch_size=2, **settings)
        ours = own(folder, policy="full", batch_size=2, **settings)
        for kind, arguments in (
            ("loglikelihood", [(words, f" {word}") for word in words.split()[:3]]),
            ("loglikelihood_rolling", [(words,), (words[:40],)]),
            ("generate_until", [(words, stop), (words[:40], stop)]),
        ):
            asked = [SimpleNamespace(args=args, task_name="one") for args in arguments]
            found, wanted = (getattr(one, kind)(asked) for one in (ours, hf))
            if kind == "generate_until":
                assert found == wanted
            else:
                torch.testing.assert_close(
                    torch.tensor(found), torch.tensor(wanted), rtol=0, atol=1e-4
                )
