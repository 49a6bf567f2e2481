import inspect
import re
import zlib
from pathlib import Path

from tasks.reader import read

from transfer.tasks.prose import sentences
from transfer.tasks.recall import TASKS, make_batch


def test_there_is_plenty():
    words = sum(len(sentence.split()) for sentence in sentences())
    assert words > 20_000
    assert len(set(sentences())) > 0.8 * len(sentences())


def test_sentences_are_in_the_library_word_for_word():
    import textwrap

    source = " ".join(inspect.getsource(textwrap).split())
    found = [sentence for sentence in sentences() if sentence in source]
    assert len(found) > 10
    assert Path(textwrap.__file__).name == "textwrap.py"


def test_sentences_are_plain():
    for sentence in sentences():
        assert re.fullmatch(r"[A-Z][A-Za-z ,;:'-]*\.", sentence)
        assert 4 <= len(sentence.split()) <= 24


def test_distractors_of_a_prose_document_are_its_words_hashed():
    hashed = {
        tuple(80 + zlib.crc32(word.lower().encode()) % 48 for word in sentence.split())
        for sentence in sentences()
    }
    for ids in make_batch(TASKS["prose"], 512, range(10)).ids.tolist():
        *whole, _ = read(ids).distractors
        assert whole and all(tuple(sentence) in hashed for sentence in whole)
