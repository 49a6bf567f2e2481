"""Metrics that several benchmarks share, each from 0 to 1, with the quirks of their authors' code.

The quirks are kept because published numbers have them. Every metric takes a reply and one right
answer.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from functools import cache

from transfer.tasks.benchmarks.extra import needed

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ALL_PUNCTUATION = str.maketrans(
    "",
    "",
    string.punctuation
    + "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃"
    + "》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏",
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_DIGITS = re.compile(r"\d+")


def token_f1(reply: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the tokens, each counted as often as it occurs."""
    same = (Counter(reply) & Counter(gold)).total()
    if not same:
        return 0.0
    precision, recall = same / len(reply), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def bare_text(text: str) -> str:
    """An English text in lower case, without punctuation, articles and more than single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def word_f1(reply: str, gold: str) -> float:
    """`token_f1` of the words of `bare_text`."""
    return token_f1(bare_text(reply).split(), bare_text(gold).split())


def bare_tokens(tokens: Iterable[str]) -> list[str]:
    """Tokens in lower case, without Western or Chinese punctuation and spaces; no empty ones."""
    bare = ("".join(token.lower().translate(_ALL_PUNCTUATION).split()) for token in tokens)
    return [token for token in bare if token]


def chinese_words(text: str) -> list[str]:
    """A text cut into words, its spaces and punctuation marks among them.

    Raises:
        UserError: jieba is not installed.
    """
    return list(_chinese_cutter()(text))


@cache
def _chinese_cutter() -> Callable[[str], Iterable[str]]:
    cutter = needed("jieba").Tokenizer()
    # Its own `initialize` prints what it does, and trusts a file that anybody may put into /tmp.
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter.cut


def chinese_f1(reply: str, gold: str) -> float:
    """`token_f1` of the `bare_tokens` of Chinese texts.

    Raises:
        UserError: jieba is not installed.
    """
    return token_f1(bare_tokens(chinese_words(reply)), bare_tokens(chinese_words(gold)))


def rouge_l(reply: str, gold: str) -> float:
    """F of the package rouge's ROUGE-L over sets of words, which are what spaces part.

    0 where the package breaks down: at texts without a sentence, at sentences of a thousand words.

    Raises:
        UserError: rouge is not installed.
    """
    rouge = needed("rouge").Rouge(metrics=["rouge-l"])
    # A new thread's stack is empty: where recursion ends does not depend on who calls.
    with ThreadPoolExecutor(1) as fresh:
        scores = fresh.submit(rouge.get_scores, [reply], [gold], avg=True)
        try:
            return scores.result()["rouge-l"]["f"]
        except (ValueError, RecursionError):
            return 0.0


def chinese_rouge_l(reply: str, gold: str) -> float:
    """`rouge_l` of the words of Chinese texts.

    Raises:
        UserError: jieba or rouge is not installed.
    """
    return rouge_l(" ".join(chinese_words(reply)), " ".join(chinese_words(gold)))


def classified(reply: str, gold: str, classes: Sequence[str]) -> float:
    """1 / number of classes that the reply names, if the right one is among them.

    A class whose name is a part of the right one's does not count, unless it was named right after
    another such class: the authors remove from the list that they walk along, which skips one.
    """
    named = [name for name in classes if name in reply]
    place = 0
    while place < len(named):
        if named[place] in gold and named[place] != gold:
            named.remove(named[place])
        place += 1
    return 1 / len(named) if gold in named else 0.0


def share_of_numbers(reply: str, gold: str) -> float:
    """Share of the whole numbers in the reply that are, digit for digit, the right one."""
    numbers = _DIGITS.findall(reply)
    return numbers.count(gold) / len(numbers) if numbers else 0.0


def code_similarity(reply: str, gold: str) -> float:
    """Whole percents of likeness of the reply's first line that is neither comment nor mark-up."""
    lines = reply.lstrip("\n").split("\n")
    code = (line for line in lines if not any(mark in line for mark in ("`", "#", "//")))
    return round(100 * SequenceMatcher(None, next(code, ""), gold).ratio()) / 100
