"""What a pruned cache holds, as numbers and as a table."""

from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from transfer.cache.cache import PrunedCache
from transfer.cache.stock import described


@dataclass(frozen=True)
class Report:
    """Tokens and bytes held by a pruned cache, beside the full cache.

    Attributes:
        seen: tokens that went through the model, padding included.
        tokens: of each sequence, padding left out.
        first: index of the first, see `PrunedCache.count_from`.
        last: of the tokens, how many had come at its last update; 0: there was none yet.
        interval: tokens between two updates; None: nothing is ever evicted.
        layers: index of each pruned layer that tokens went through.
        pruned_layers: how many layers are pruned.
        others: what each layer has that is not, such as "a recurrent state".
        kept: tokens held, `[layer][batch][kv_head]`.
        bytes: held now by all layers, all state included.
        peak_bytes: the most ever held.
        full_bytes: what the stock cache would hold now, of windows only themselves.
    """

    seen: int
    tokens: list[int]
    first: int
    last: list[int]
    interval: int | None
    layers: list[int]
    pruned_layers: int
    others: list[str]
    kept: list[list[list[int]]]
    bytes: int
    peak_bytes: int
    full_bytes: int

    @classmethod
    def of(cls, cache: PrunedCache) -> "Report":
        """Read a cache."""
        used = cache.used
        return cls(
            seen=max(layer.seen for layer in used),
            tokens=used[0].counts(),
            first=used[0].first,
            last=used[0].last_updates(),
            interval=used[0].pruning.interval if used[0].pruning.policy.evicts else None,
            layers=[layer.index for layer in used],
            pruned_layers=len(cache.pruned),
            others=[described(layer) for layer in cache.left_alone],
            kept=[layer.kept() for layer in used],
            bytes=cache.bytes(),
            peak_bytes=cache.peak_bytes(),
            full_bytes=cache.full_bytes(),
        )

    @property
    def kept_fraction(self) -> float:
        """Mean share of its sequence's tokens that a head holds."""
        shares = [
            held / max(tokens, 1)
            for layer in self.kept
            for tokens, heads in zip(self.tokens, layer)
            for held in heads
        ]
        return sum(shares) / len(shares)

    def __str__(self) -> str:
        heads = len(self.kept[0][0])
        table = Table("layer", *[Column(f"head {head}", justify="right") for head in range(heads)])
        for layer, sequences in zip(self.layers, self.kept):
            means = [sum(s[head] for s in sequences) / len(sequences) for head in range(heads)]
            table.add_row(str(layer), *[f"{mean:.0f}" for mean in means])
        console = Console(width=12 + 12 * heads)
        with console.capture() as capture:
            console.print(table)
        return (
            f"{self.seen} tokens seen, {self.kept_fraction:.1%} kept; "
            f"{self.bytes / 1e6:.2f} MB held (peak {self.peak_bytes / 1e6:.2f}), "
            f"{self.full_bytes / 1e6:.2f} MB by the full cache\n"
            f"{self.scope}{self.updates}\n{capture.get()}"
        )

    @property
    def scope(self) -> str:
        """How many layers are pruned, and why not the others; nothing if all are."""
        if not self.others:
            return ""
        have = ", ".join(f"{what} ({count})" for what, count in Counter(self.others).items())
        layers = self.pruned_layers + len(self.others)
        return f"{self.pruned_layers} of {layers} layers pruned; the others have {have}\n"

    @property
    def updates(self) -> str:
        """When tokens left last, or will for the first time."""
        if self.interval is None:
            return "nothing is evicted"
        pruned = [(last, now - last) for last, now in zip(self.last, self.tokens) if last]
        since = sorted(more for _, more in pruned)
        if not pruned:
            left = self.interval - (self.first + max(self.tokens)) % self.interval
            last = f"not pruned yet, first at token {max(self.tokens) + left}"
        elif len(set(pruned)) == 1:
            last = f"last pruned at token {pruned[0][0]}, {since[0]} since"
        else:
            last = f"last pruned {since[0]} to {since[-1]} tokens ago"
        if pruned and len(pruned) < len(self.tokens):
            last += f" in {len(pruned)} of {len(self.tokens)} sequences"
        return f"{last} (every {self.interval} tokens)"
