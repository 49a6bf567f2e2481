"""Documents that a language model reads."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.scoring import check_length
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.errors import UserError
from transfer.replay.config import RecordConfig
from transfer.replay.names import check_apart, plain
from transfer.replay.runs import TOGETHER, Run, Survey, odds, seeds
from transfer.tasks.base import TokenBatch
from transfer.tasks.recall import get_task, make_batch
from transfer.tasks.text import language_for
from transfer.tasks.texts import read_texts

#: Tokens of a text before those whose likelihood counts, or a quarter of it if that is less.
_WARM = 64


def reading(config: RecordConfig, name: str, done: Callable[[str], bool]) -> Iterator[Run]:
    """Its tasks and the user's texts.

    Raises:
        UserError: the model or a text cannot be had, or a document is too long for it.
    """
    loaded = _loaded(config, name)
    adapter = get_adapter(loaded.model)
    for length in config.lengths:
        for task, called, batch in _documents(config, loaded, length):
            rows = max(1, TOGETHER // length)
            for start in range(0, len(batch.ids), rows):
                title = f"{plain(loaded.name)}-{called}-{length}-{start}"
                if not done(title):
                    some = slice(start, start + rows)
                    part = TokenBatch(batch.ids[some], batch.answers[some])
                    yield _run(title, task, adapter, part)


def survey_reading(config: RecordConfig, name: str) -> Survey:
    """Of all documents.

    Raises:
        UserError: as `reading`.
    """
    loaded = _loaded(config, name)
    found = [_documents(config, loaded, length) for length in config.lengths]
    tokens = sum(batch.ids.numel() for documents in found for *_, batch in documents)
    return Survey.of(get_adapter(loaded.model), tokens)


def _loaded(config: RecordConfig, name: str) -> LanguageModel:
    if not config.tasks and config.data is None:
        raise UserError(
            f"--tasks names none, and {name} has nothing to read; give tasks, or --data"
        )
    loaded = load_language_model(name, config.trust_remote_code, **config.place.settings)
    for length in config.lengths:
        check_length(loaded.model, length, "a document")
    return loaded


def _documents(
    config: RecordConfig, loaded: LanguageModel, length: int
) -> Iterator[tuple[str, str, TokenBatch]]:
    """Of each task and text its name, what its files are called, and the documents."""
    language = language_for(
        loaded.tokenizer, loaded.model.config.get_text_config(decoder=True).vocab_size
    )
    for task in config.tasks:
        yield task, task, make_batch(get_task(task), length, seeds(config, task), language)
    if config.data is not None:
        for name, batch in _texts(config, config.data, loaded, length):
            yield name, f"text-{plain(name)}", batch


def _texts(
    config: RecordConfig, data: Path, loaded: LanguageModel, length: int
) -> Iterator[tuple[str, TokenBatch]]:
    """The pieces of each text that are the seed's; those of two seeds are others."""
    first = config.seed * config.documents
    if loaded.tokenizer is None:
        raise UserError(f"{loaded.name} has no tokenizer to read {data} with; leave it out")
    texts = read_texts(data)
    check_apart("--data", {name: name for name in texts}, "rename one")
    longest = 0
    for name, text in texts.items():
        ids = torch.tensor(loaded.tokenizer.encode(text), dtype=torch.long)
        longest = max(longest, len(ids))
        if len(ids) >= (first + 1) * length:
            pieces = ids.unfold(0, length, length)[first : first + config.documents]
            yield name, TokenBatch(pieces.contiguous(), torch.zeros_like(pieces, dtype=torch.bool))
    if longest < (first + 1) * length:
        raise UserError(
            f"{data} has no text of {(first + 1) * length} tokens, which documents of {length} "
            f"with seed {config.seed} begin within, the longest has {longest}; give longer texts, "
            "or smaller --lengths"
        )


def _run(title: str, task: str, adapter: Adapter, batch: TokenBatch) -> Run:
    model = adapter.model
    ids, answers = batch.ids.to(model.device), batch.answers[:, 1:].to(model.device)
    warm = min(_WARM, ids.shape[1] // 4)

    def objective(embeddings: Tensor) -> Tensor:
        logits = model(inputs_embeds=embeddings, use_cache=False).logits[:, :-1]
        following = ids[:, 1:]
        if answers.any():
            return odds(logits[answers].float(), following[answers]).sum()
        losses = cross_entropy(logits.mT.float(), following, reduction="none")
        return losses[:, warm:].sum()

    embed = model.get_input_embeddings()
    return Run(title, task, adapter, embed(ids).detach(), objective)
