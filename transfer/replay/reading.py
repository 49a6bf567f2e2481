"""Documents that a language model reads."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from transfer.adapters.language_model import LanguageModel, load_language_model
from transfer.adapters.scoring import check_length
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.errors import UserError
from transfer.replay.config import RecordConfig
from transfer.replay.runs import TOGETHER, Run, odds, plain, seeds
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
    loaded = load_language_model(name, config.trust_remote_code, **config.place.settings)
    adapter = get_adapter(loaded.model)
    for length in config.lengths:
        check_length(loaded.model, length, "a document")
        for task, batch in _documents(config, loaded, length):
            rows = max(1, TOGETHER // length)
            for start in range(0, len(batch.ids), rows):
                title = f"{loaded.name}-{plain(task)}-{length}-{start}"
                if not done(title):
                    some = slice(start, start + rows)
                    part = TokenBatch(batch.ids[some], batch.answers[some])
                    yield _run(title, task, adapter, part)


def _documents(
    config: RecordConfig, loaded: LanguageModel, length: int
) -> Iterator[tuple[str, TokenBatch]]:
    language = language_for(
        loaded.tokenizer, loaded.model.config.get_text_config(decoder=True).vocab_size
    )
    for task in config.tasks:
        yield task, make_batch(get_task(task), length, seeds(config, task), language)
    if config.data is None:
        return
    if loaded.tokenizer is None:
        raise UserError(f"{loaded.name} has no tokenizer to read {config.data} with; leave it out")
    for name, text in read_texts(config.data).items():
        ids = torch.tensor(loaded.tokenizer.encode(text), dtype=torch.long)
        if len(ids) >= length:
            whole = ids.unfold(0, length, length)[: config.documents].contiguous()
            yield name, TokenBatch(whole, torch.zeros_like(whole, dtype=torch.bool))


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
