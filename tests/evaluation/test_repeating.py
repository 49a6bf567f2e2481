"""KVzip: the attention of a repetition by hand, what is kept by it, and where it is refused."""

from itertools import pairwise

import pytest
import tiny
import torch
from evaluated import changed, printed, rows_of
from tasks.words import word_tokenizer

from transfer import attach
from transfer.adapters.language_model import load_language_model
from transfer.adapters.prompts import encode_prompt
from transfer.adapters.replying import read
from transfer.attachment.adapter import get_adapter
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.repeating import parts_of, repeated, scores_of
from transfer.evaluation.runner import evaluate
from transfer.policies.kvzip import KVzip
from transfer.tasks.reading import Sample

CHAT = "{% for m in messages %}User: {{ m.content }} End {% endfor %}Reply:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("repeated") / "model"
    tokenizer = word_tokenizer()
    tiny.llama(vocabulary=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def config(folder):
    config = LanguageEval(model=str(folder), task=("recall",), length=(300,), documents=2)
    return changed(config, policy=("kvzip",), budget=(0.25,), threads=1)


@pytest.fixture
def language(folder):
    loaded = load_language_model(str(folder))
    loaded.model.double()
    return loaded


def text_of(tokenizer, words=60):
    ids = torch.randint(len(tokenizer) // 2, len(tokenizer), (words,), generator=seeded())
    return tuple(ids.tolist())


def seeded():
    return torch.Generator().manual_seed(3)


def test_scores_are_the_most_attention_of_the_repetition_by_hand(language):
    model, sinks = language.model, 4
    text = text_of(language.tokenizer)
    parts = list(parts_of(language.tokenizer, text, "completion", 25))
    found = scores_of(get_adapter(model), text, parts, sinks)

    model.set_attn_implementation("eager")
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    assert groups > 1
    for layer in range(model.config.num_hidden_layers):
        assert found[layer].shape == (1, model.config.num_key_value_heads, len(text))
        assert bool((found[layer][..., :sinks] == 1).all())
        for part in parts:
            whole = torch.tensor([[*text, *part.ids]])
            with torch.no_grad():
                attention = model(whole, output_attentions=True).attentions[layer][0]
            logs = attention[:, len(text) :].log()
            looked = [*range(min(sinks, part.start)), *range(part.start, part.end)]
            among = logs[..., looked + list(range(len(text), whole.shape[1]))].softmax(-1)
            first = min(sinks, part.start)
            own = among[..., first : first + part.end - part.start]
            by_hand = own.reshape(-1, groups, *own.shape[1:]).amax((1, 2))
            beyond = slice(max(part.start, sinks), part.end)
            torch.testing.assert_close(
                found[layer][0, :, beyond],
                by_hand[:, beyond.start - part.start :],
                rtol=1e-5,
                atol=1e-7,
            )


@pytest.mark.parametrize("chat", [False, True])
def test_every_token_of_the_text_is_repeated_once_behind_its_request(language, chat):
    tokenizer, form = language.tokenizer, "chat" if chat else "completion"
    if chat:
        tokenizer.chat_template = CHAT
    words = " ".join(["red", "blue", "green"] * 20)
    prompt = encode_prompt(tokenizer, Sample("", words, "", ()), form)
    text = prompt.ids[: prompt.context]
    parts = list(parts_of(tokenizer, text, form, 25))

    head = parts[0].start
    assert tokenizer.decode(text[:head]).split() == (["User:"] if chat else [])
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert parts[-1].end == len(text)
    for part in parts:
        assert part.ids[-(part.end - part.start) :] == text[part.start : part.end]
        request = tokenizer.decode(part.ids[: part.start - part.end]).split()
        assert request[0] == "Repeat"
        assert request[-2:] == ["End", "Reply:"] or not chat
    for one, other in pairwise(parts):
        before = other.ids[: other.start - other.end]
        tail = text[one.end - 8 : one.end]
        assert any(before[at : at + 8] == tail for at in range(len(before)))


@pytest.mark.parametrize("share", ["head", "layer"])
def test_what_is_kept_is_what_scores_best_and_all_that_follows(language, share):
    text = text_of(language.tokenizer)
    pruning = Pruning(KVzip(), 64, 20, share=share, share_floor=0.0)
    own = repeated(get_adapter(language.model), language.tokenizer, text, "completion", pruning)
    with attach(
        language.model, own.policy, own.update_interval, 20, share=share, share_floor=0.0
    ) as memory:
        cache = memory.new_cache()
        cache.count_from(-len(text) % own.update_interval)
        read(language.model, text, cache)
        later = range(len(text), len(text) + 90)
        read(language.model, [5] * len(later), cache)
        for layer, scores in own.policy.scores.items():
            heads = scores.shape[1]
            best = scores[0].flatten().topk(20 * heads).indices if share == "layer" else None
            for head, held in enumerate(memory.kept(layer)[0]):
                expected = (
                    scores[0, head].topk(20).indices
                    if best is None
                    else best[best // len(text) == head] % len(text)
                )
                # The newest token stays whatever it scores.
                differs = set(held.tolist()) ^ {*expected.tolist(), *later}
                assert differs <= {len(text) - 1, *expected.tolist()}
                assert len(differs) in (0, 2) or share == "layer"


def test_a_run_with_a_ceiling(config):
    results = evaluate(changed(config, policy=("kvzip", "kvzip:sinks=0", "h2o")))
    rows = rows_of(results, "kvzip")
    assert rows
    for row in rows:
        # Nothing leaves before the end of the text, and nothing behind it.
        assert row["held_peak"] > 0.8 * row["prompt_tokens"]
        assert row["kept_tokens"] < 0.5 * row["prompt_tokens"]
    assert "kvzip is a ceiling" in " ".join(printed(results).split())
    assert rows_of(results, "kvzip:sinks=0")


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"question": ("hidden", "seen")}, "kvzip prunes before the question comes"),
        ({"equal": "peak", "policy": ("namm", "kvzip")}, "nothing makes it equal"),
        ({"policy": ("kvzip:chunk=0",)}, "kvzip cannot repeat 0 tokens at a time"),
        ({"policy": ("kvzip:sinks=-1",)}, "kvzip cannot keep -1 sinks"),
    ],
)
def test_bad_input_is_one_sentence(config, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(changed(config, **changes))


def test_a_question_without_a_text_fails_by_name(language):
    pruning = Pruning(KVzip(), 64, 20)
    with pytest.raises(UserError, match="there is none; leave it out"):
        repeated(get_adapter(language.model), language.tokenizer, (), "completion", pruning)


def test_a_text_that_leaves_no_room_to_repeat_it_fails_in_a_sentence(language):
    pruning = Pruning(KVzip(), 64, 20)
    language.model.config.max_position_embeddings = 100
    with pytest.raises(UserError, match=r"repeat a text of 60 tokens, .* has 100"):
        repeated(
            get_adapter(language.model),
            language.tokenizer,
            text_of(language.tokenizer),
            "completion",
            pruning,
        )


def test_a_short_part_is_announced_by_the_one_before_it_alone(language):
    text = text_of(language.tokenizer, 6)
    parts = list(parts_of(language.tokenizer, text, "completion", 2))
    assert [(part.start, part.end) for part in parts] == [(0, 2), (2, 4), (4, 6)]
    lengths = [len(part.ids) for part in parts]
    assert lengths[1] == lengths[2]
    assert text[:2] == tuple(one for one in parts[1].ids if one in text[:2])


def test_nobody_else_has_a_model_repeat(language):
    with (
        attach(language.model, KVzip(), 16, 8) as memory,
        pytest.raises(UserError, match="which only transfer eval language does"),
    ):
        read(language.model, text_of(language.tokenizer), memory.new_cache())
