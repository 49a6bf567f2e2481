"""One text through a pruned cache, on a page or in a picture."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.scoring import check_length
from transfer.arguments import typed
from transfer.errors import UserError
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.tables import budget_text
from transfer.files import read_text, replacing
from transfer.inspection.config import InspectLanguage
from transfer.inspection.fate import fate_of
from transfer.inspection.text_page import text_page
from transfer.inspection.token_pictures import draw_tokens
from transfer.progress import waiting
from transfer.tasks import symbols
from transfer.tasks.prose import sentences
from transfer.tasks.recall import get_task, make_document

#: Tokens before one that say how it is written.
_BEFORE = 8
#: Tokens that a document of symbols needs for its facts and questions.
_DOCUMENT = 96
_SYMBOLS = ("pad", "begin", "fact", "ask", ".", "pass")


@typed
def keep_text(config: InspectLanguage) -> str:
    """Let a policy read a text, write the page or the picture, and say it in a line.

    Raises:
        UserError: the text, the model or the policy cannot be had, the text is longer than the
            model's positions or than a page has room for, or Pillow is not installed.
    """
    contender = _contender(config)
    name = contender_name(contender)
    language = load_language_model(config.model, config.trust_remote_code, **config.place.settings)
    whole = _ids(config, language)
    ids = whole[: config.length]
    check_length(language.model, len(ids), "a text")
    assert contender.pruning is not None
    decode = language.tokenizer.decode if language.tokenizer else None
    with waiting("reading the text"):
        fate = fate_of(language.model, contender.pruning, ids, list(written(decode, ids)))
    held = fate.kept()
    about = {
        "model": language.name,
        "policy": name,
        "update interval": f"{config.update_interval} tokens",
        "text": config.text.name if config.text else "made",
    }
    with replacing(config.out) as partial:
        if config.out.suffix == ".png":
            draw_tokens(fate.left.numpy(), fate.layers, len(fate.seen)).save(partial)
        else:
            partial.write_text(text_page(about, fate), encoding="utf-8")
    cut = f" of {len(whole)} (--length reads more)" if config.text and whole != ids else ""
    shown = f"{config.out}: {name} on {len(ids)} tokens{cut} by {language.name}"
    if not held:
        due = f"an update is due every {config.update_interval} tokens"
        return f"{shown}: nothing was evicted; {due}"
    return f"{shown}: a layer and head holds {held[-1]:.1f} after the last of {len(held)} updates"


def _contender(config: InspectLanguage) -> Contender:
    [contender] = plan(config.contenders) or [full(config.update_interval)]
    return contender


def contender_name(contender: Contender) -> str:
    """Who, with the budget."""
    budget = contender.pruning.budget if contender.pruning else None
    return f"{contender.name} {budget_text(budget)}".removesuffix(" -")


def _ids(config: InspectLanguage, language: LanguageModel) -> list[int]:
    """The tokens of the text; without one, of real prose or of a document of symbols."""
    most = config.length
    if language.tokenizer is None:
        if config.text is not None:
            raise UserError(
                f"{config.model} has no tokenizer to read {config.text} with; use a model of text"
            )
        document = make_document(get_task("recall"), max(most, _DOCUMENT), 0, symbols.Symbols())
        return list(document.ids)[:most]
    text = read_text(config.text) if config.text else " ".join(sentences()[:most])
    ids = language.tokenizer.encode(text)
    if not text.strip() or not ids:
        raise UserError(f"{config.text} holds no text; name another --text")
    return ids


def written(decode: Callable[[list[int]], Any] | None, ids: Sequence[int]) -> Iterator[str]:
    """Each token as the text has it; of a character of several tokens, all at its last.

    Args:
        decode: of a tokenizer; None: they are symbols.
        ids: of the whole text.
    """
    if decode is None:
        yield from map(symbol_name, ids)
        return
    for place in range(len(ids)):
        before = list(ids[max(0, place - _BEFORE) : place])
        first = str(decode(before)).rstrip("\ufffd")
        whole = str(decode([*before, ids[place]]))
        yield "" if whole.endswith("\ufffd") else whole[len(first) :]


def symbol_name(symbol: int) -> str:
    """What a symbol of the shipped tiny models stands for."""
    kinds = (
        (symbols.FIRST_NOISE, "w"),
        (symbols.FIRST_VALUE, "value "),
        (symbols.FIRST_KEY, "key "),
        (symbols.FIRST_DIGIT, "digit "),
    )
    for first, name in kinds:
        if symbol >= first:
            return f" {name}{symbol - first}"
    return f" {_SYMBOLS[symbol]}"
