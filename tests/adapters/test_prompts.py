"""Prompts as tokens: completion and chat, where the question begins, and how long ones are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.words import word_tokenizer
from transformers import PreTrainedTokenizerBase

from transfer.adapters.prompts import cut_sample, encode_prompt, has_chat
from transfer.errors import UserError
from transfer.tasks.reading import Sample

SAMPLE = Sample(
    0, "The lamp is red.\nThe box is blue.\n", "Colour of the lamp?", ("red",), " It is"
)
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TOKENIZER = word_tokenizer()


@pytest.fixture
def chatty():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_a_completion_is_the_text_as_the_tokenizer_reads_it():
    prompt = encode_prompt(TOKENIZER, SAMPLE, "completion", "red")
    whole = SAMPLE.context + SAMPLE.question + SAMPLE.prefix
    assert prompt.ids == tuple(TOKENIZER.encode(whole))
    assert TOKENIZER.decode(prompt.ids[: prompt.context]) == SAMPLE.context
    assert prompt.ids + prompt.answer == tuple(TOKENIZER.encode(f"{whole} red"))
    assert encode_prompt(TOKENIZER, SAMPLE, "completion").answer == ()
    assert not has_chat(TOKENIZER)


def test_a_conversation_has_the_question_at_the_end_and_begins_the_reply(chatty):
    assert has_chat(chatty)
    prompt = encode_prompt(chatty, SAMPLE, "chat", "red")
    first, last = prompt.ids[: prompt.context], prompt.ids[prompt.context :]
    assert chatty.decode(first) == "[user] The lamp is red.\nThe box is blue.\n"
    assert chatty.decode(last) == "Colour of the lamp?\n[assistant] It is"
    assert chatty.decode(prompt.answer) == " red"
    bare = Sample(0, "Red.", "Colour?", ("red",))
    assert chatty.decode(encode_prompt(chatty, bare, "chat", "red").answer) == "red"


class Joining(PreTrainedTokenizerBase):
    """Makes one token of the end of a prompt and its answer."""

    def __init__(self):
        pass

    known = {"colour:": [1, 3], "colour: red": [1, 2], " red": [9]}

    def encode(self, text, add_special_tokens=True):
        return self.known.get(text, [])


def test_an_answer_that_the_tokenizer_would_join_with_the_prompt_stands_alone():
    prompt = encode_prompt(Joining(), Sample(0, "", "colour:", ("red",)), "completion", "red")
    assert (prompt.ids, prompt.context, prompt.answer) == ((1, 3), 0, (9,))


@pytest.mark.parametrize(
    ("template", "sentence"),
    [("{{ nobody.x() }}", "chat template of the tokenizer fails"), ("hello", "leaves the user's")],
)
def test_chat_templates_that_cannot_be_used(template, sentence):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=sentence):
        encode_prompt(tokenizer, SAMPLE, "chat")


WORDS = st.lists(
    st.sampled_from(["red", "blue", "lamp", "box", "is", "the"]), min_size=1, max_size=60
)


@given(WORDS, st.lists(st.sampled_from(["what", "colour"]), min_size=1, max_size=4),
       st.integers(2, 40))  # fmt: skip
def test_a_cut_keeps_both_ends_and_no_more_than_it_may(context, question, most):
    sample = Sample(0, " ".join(context) + "\n", " ".join(question), ())
    whole = TOKENIZER.encode(sample.context + sample.question, add_special_tokens=False)
    for how in ("halves", "joined"):
        cut = cut_sample(TOKENIZER, sample, most, how)
        if len(whole) <= most:
            assert cut is sample
            continue
        text = cut.context + cut.question
        half = most // 2
        ends = [TOKENIZER.decode(part) for part in (whole[:half], whole[-half:])]
        assert text == "".join(ends)
        assert len(cut.question) == min(len(sample.question), len(text))
        if len(ends[1]) >= len(sample.question):
            assert cut.question == sample.question


class Pieces(PreTrainedTokenizerBase):
    """A tokenizer whose tokens are words, and which puts a space between those it decodes."""

    def __init__(self):
        pass

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return text.split()

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return " ".join(ids)


def test_halves_are_decoded_apart_or_joined():
    sample = Sample(0, "a b c d e f", " g", ())
    apart = cut_sample(Pieces(), sample, 5, "halves")
    assert (apart.context, apart.question) == ("a bf", " g")
    joined = cut_sample(Pieces(), sample, 5, "joined")
    assert (joined.context, joined.question) == ("a b f", " g")
