"""What a rule would reach that knows what will be attended to: a ceiling for who reads the past.

    python -m benchmarks.clairvoyant --model smollm2-135m --data FILES --documents 4

Each text is read twice. The first time everything is kept, and the attention of every query is
written down; the second time a token is worth, at each update, the sum of the squares of the
attention that it got after it in the first reading. Beside it stand NAMMs and rules, which know the
past alone. The table is of the mean change of a token's log-likelihood against the full cache.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import ClassVar

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.entry import as_command
from transfer.adapters.placement import Placement
from transfer.arguments import literal
from transfer.cache.policy import Policy, Pruning
from transfer.cache.window import AttentionWindow
from transfer.errors import MOST_TOKENS, UserError
from transfer.evaluation.benchmark import Block, Row
from transfer.evaluation.contenders import Contender
from transfer.evaluation.language import PERPLEXITY, LanguageEval
from transfer.evaluation.options import ContenderOptions
from transfer.evaluation.perplexity_benchmark import PerplexityBenchmark
from transfer.evaluation.statistics import bootstrap

#: Layer -> at each update the tokens seen, and what the queries since the last gave to each token.
Heard = dict[int, list[tuple[int, Float[Tensor, "batch kv_heads tokens"]]]]


@dataclass(frozen=True, eq=False)
class Listening(Policy):
    """Keeps everything, and writes down the squares of attention.

    Args:
        heard: where to.
    """

    heard: Heard = field(default_factory=dict)

    name: ClassVar[str] = "listening"
    reads_attention: ClassVar[bool] = True

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """Nothing that matters, as the budget is never reached."""
        squares = torch.zeros(window.positions.shape)
        window.fold(lambda block: block.square().sum(1), squares)
        self.heard.setdefault(window.layer, []).append((window.seen, squares))
        return squares, state


@dataclass(frozen=True, eq=False)
class Clairvoyant(Policy):
    """Keeps the tokens that later queries of the whole cache attend to.

    Args:
        heard: of a reading of the same text with the whole cache, under the same update interval.
    """

    heard: Heard

    name: ClassVar[str] = "clairvoyant"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """The squares of the attention to come."""
        coming = torch.zeros(*state.shape[:2], window.seen)
        for seen, squares in self.heard[window.layer]:
            if seen > window.seen:
                coming += squares[..., : window.seen]
        return coming.gather(2, window.positions.long()), state


def main(words: Sequence[str]) -> None:
    """Read all texts under all budgets, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clairvoyant",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="a language model that reads text")
    parser.add_argument("--data", type=Path, required=True, help="a text, or a folder of texts")
    parser.add_argument("--documents", type=int, default=4, help="windows read at most")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a window")
    parser.add_argument("--budget", nargs="+", type=literal, default=[0.1, 0.25])
    parser.add_argument("--share", nargs="+", choices=("head", "layer"), default=["head", "layer"])
    parser.add_argument("--policy", nargs="+", default=["h2o", "namm:universal"])
    parser.add_argument("--update-interval", type=int, default=64)
    told = parser.parse_args(words)
    if told.length % told.update_interval:
        raise UserError(
            f"--length {told.length} is no multiple of --update-interval {told.update_interval}, "
            "so that nothing would hear its end; choose one that is"
        )
    options = ContenderOptions(
        policy=tuple(told.policy), budget=tuple(told.budget), update_interval=told.update_interval
    )
    config = LanguageEval(
        told.model, (PERPLEXITY,), told.data, (told.length,), documents=told.documents,
        contenders=options, place=Placement(dtype="float32"),
    )  # fmt: skip
    print("\n".join(table_of(list(rows(PerplexityBenchmark(config), told.share)))))


def rows(benchmark: PerplexityBenchmark, shares: Sequence[str]) -> Iterator[Row]:
    """Of each text under each contender, budget and sharing, what it loses against all tokens."""
    _, *others = benchmark.contenders()
    options = benchmark.config.contenders
    for block in benchmark.blocks():
        item, window = block.content
        if len(window.ids) % options.update_interval:
            raise UserError(
                f"{item} has only {len(window.ids)} tokens, no multiple of --update-interval "
                f"{options.update_interval}; leave it out, or choose a --length that it has"
            )
        listening = Listening()
        whole = Contender("full", Pruning(listening, options.update_interval, MOST_TOKENS))
        kept = read(benchmark, block, whole)
        knowing = Clairvoyant(listening.heard)
        ceilings = [
            Contender(knowing.name, Pruning(knowing, options.update_interval, budget))
            for budget in options.budget
        ]
        for contender, share in product([*ceilings, *others], shares):
            assert contender.pruning is not None
            shared = replace(contender, pruning=replace(contender.pruning, share=share))
            found = read(benchmark, block, shared)
            yield {
                "policy": contender.name,
                "budget": contender.nominal,
                "share": share,
                "change": found["log_likelihood"] - kept["log_likelihood"],
                "scored_tokens": found["scored_tokens"],
                "cluster": block.items[0]["cluster"],
            }


def read(benchmark: PerplexityBenchmark, block: Block, contender: Contender) -> Row:
    """What is said of a text."""
    [row] = benchmark.rows(block.content, contender)
    return row


def table_of(found: Sequence[Row]) -> list[str]:
    """Lines of Markdown: means with their intervals over texts."""
    lines = ["| policy | budget | shared by | log-likelihood - full |", "|---|---|---|---|"]
    for budget, share, policy in dict.fromkeys(
        (row["budget"], row["share"], row["policy"]) for row in found
    ):
        some = [
            row
            for row in found
            if (row["budget"], row["share"], row["policy"]) == (budget, share, policy)
        ]
        changes, clusters, weights = (
            [row[name] for row in some] for name in ("change", "cluster", "scored_tokens")
        )
        change = bootstrap(changes, clusters, weights=weights)
        told = f"{change.mean:.3f}"
        if change.low is not None:
            told += f" [{change.low:.3f} {change.high:.3f}]"
        held = f"{budget:.0%}" if budget < 1 else f"{budget} tokens"
        lines.append(f"| {policy} | {held} | {share} | {told} |")
    return lines


if __name__ == "__main__":
    as_command(main)
