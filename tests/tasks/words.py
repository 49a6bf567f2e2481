"""A small byte-pair tokenizer, trained in the test on text of the tasks."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from transfer.tasks.english import KEY_WORDS, NOISE_WORDS, VALUE_WORDS
from transfer.tasks.prose import sentences


def word_tokenizer(corpus=None, unknown=None) -> PreTrainedTokenizerFast:
    words = [f" {word}" for word in KEY_WORDS + VALUE_WORDS + NOISE_WORDS]
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", *([unknown] if unknown else [])]
    alphabet = [] if unknown else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus or [*sentences()[:500], *words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", unk_token=unknown, pad_token="<s>"
    )
