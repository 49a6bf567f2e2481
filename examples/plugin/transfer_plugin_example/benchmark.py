"""Something else to ask: `transfer eval language --model llama-recall --task example_task`."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from transfer import Benchmark
from transfer.adapters.language_model import load_language_model
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.evaluation.benchmark import Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest
from transfer.evaluation.held import held
from transfer.evaluation.language import MADE, LanguageEval
from transfer.tasks.recall import TASKS, make_batch


class Likelihood(Benchmark):
    """How likely the second half of a document is after the first."""

    kind = "likelihood"
    metrics = ("log_likelihood",)

    def __init__(self, config: LanguageEval) -> None:
        self.config, self.model = config, config.model
        self._model = load_language_model(config.model).model
        self._adapter = get_adapter(self._model)

    def contenders(self) -> Sequence[Contender]:
        """The full cache is what differences are taken to."""
        return [full(), *plan(self.config.contenders)]

    def blocks(self) -> Sequence[Block]:
        """One sequence each."""
        # Nothing said: as many as our own tasks have.
        seeds = range(self.config.seed, self.config.seed + (self.config.documents or MADE))
        items = [{"task": "likelihood", "item": seed, "cluster": seed} for seed in seeds]
        return [Block(str(item["item"]), [item], item["item"]) for item in items]

    def rows(self, ready: int, contender: Contender) -> Iterator[Row]:
        """One pass; the mean over the tokens of the second half, in nats."""
        ids = make_batch(TASKS["recall"], max(self.config.length), [ready]).ids
        with Memory(self._adapter, contender.pruning) as memory, torch.inference_mode():
            cache = memory.new_cache()
            logits = self._model(ids, cache=cache).logits
        chosen = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])
        half = chosen[:, ids.shape[1] // 2 :]
        yield {"item": ready, "log_likelihood": half.mean().item(), **held(cache)}

    def digest(self) -> dict[str, Any]:
        """A run is resumed with the same model only."""
        return {"model files": model_digest(self._model)}
