"""What a policy could know a cue by: the attention it gets, and the norm of its key.

Area under the curve (AUC) of "a state that has to be remembered against any other state", for each
head: 1 where every cue is above all others, 0.5 where nothing can be told, 0 where every one is
below. Nothing is evicted meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from rich.table import Table
from torch import Tensor

from transfer.adapters.decision_transformer import TOKENS_PER_STEP, state_token
from transfer.arguments import typed
from transfer.cache.policy import Policy
from transfer.cache.window import AttentionWindow
from transfer.envs.environment import make_envs
from transfer.envs.rollout import refuse_failures
from transfer.errors import UserError
from transfer.evaluation.contenders import Contender
from transfer.evaluation.control import ControlEval
from transfer.evaluation.control_benchmark import ControlBenchmark
from transfer.evaluation.tables import new_table
from transfer.inspection.config import InspectCues
from transfer.inspection.marked import Marked
from transfer.progress import bars

#: What is measured of a token, and when.
SIGNALS = ("attention, new", "attention, old", "key norm, new", "key norm, old")


@dataclass(frozen=True)
class Seen:
    """What a layer shows of its tokens at an update, `[episodes, kv_heads, tokens]` each.

    Attributes:
        layer: which.
        episodes: of the rows, by their numbers.
        tokens: positions, as `state_token` counts.
        age: tokens seen since.
        attention: from the queries since the last update, for each of them.
        norms: of the keys.
    """

    layer: int
    episodes: Sequence[int]
    tokens: np.ndarray
    age: np.ndarray
    attention: np.ndarray
    norms: np.ndarray


@dataclass(frozen=True)
class Watching(Policy):
    """Keeps everything, and notes what could be seen of it."""

    running: list[int] = field(default_factory=list)
    notes: list[Seen] = field(default_factory=list)

    name: ClassVar[str] = "watching"
    reads_attention: ClassVar[bool] = True
    threshold: ClassVar[float | None] = 0.0

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens 0"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens 0"]]:
        """One, of every token."""
        age = window.age.numpy(force=True)
        # A token that came since the last update was seen by those behind it alone.
        queries = np.minimum(age, window.queries - 1) + 1
        attention = window.column_sums().numpy(force=True) / queries
        positions, norms = (x.numpy(force=True) for x in (window.positions, window.key_norms))
        self.notes.append(Seen(window.layer, list(self.running), positions, age, attention, norms))
        return window.key_norms.new_ones(state.shape[:3]), state


@typed
def cues_told(config: InspectCues) -> Table:
    """Play episodes and say how well each head's attention and keys tell the cues.

    Raises:
        UserError: the model or the environment cannot be had, or it does not say what to remember.
        SimulationError: an episode failed.
    """
    seeds = range(config.seed, config.seed + config.episodes)
    evaluation = ControlEval(
        config.model,
        (config.env,) if config.env else (),
        memory=("full",),
        max_steps=config.max_steps,
        place=config.place,
    )
    benchmark = ControlBenchmark(evaluation)
    if not benchmark.env.cues:
        raise UserError(f"{benchmark.env.title} does not say what has to be remembered")
    watching = Watching()
    [whole] = [one for one in benchmark.contenders() if one.name == "full"]
    assert whole.pruning is not None
    pruning = replace(whole.pruning, policy=watching, update_interval=config.update_interval)
    envs = [Marked(env) for env in make_envs(benchmark.env, config.episodes)]
    target = benchmark.control.target_returns[0]
    with (
        bars() as shown,
        benchmark.controller(Contender("watching", pruning), list(seeds)) as controller,
    ):
        watching.running.extend(range(config.episodes))
        played = benchmark.stream(controller, envs, list(seeds), target)
        for episode in shown.track(played, config.episodes, description="playing"):
            refuse_failures([episode])
            watching.running.remove(episode.place)
    marks = [(env.marks("cue"), env.marks("recall")) for env in envs]
    return _table(config, benchmark.env.title, watching.notes, marks)


def auc(above: Float[np.ndarray, " a"], below: Float[np.ndarray, " b"]) -> float:
    """Share of pairs in which the first is larger; of equals, one half (Mann-Whitney)."""
    both = np.concatenate([above, below])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    least = len(above) * (len(above) + 1) / 2
    return float((ranks[: len(above)].sum() - least) / (len(above) * len(below)))


def _table(
    config: InspectCues,
    title: str,
    notes: Sequence[Seen],
    marks: Sequence[tuple[Bool[np.ndarray, " seen"], Bool[np.ndarray, " seen"]]],
) -> Table:
    heads = sorted({(note.layer, head) for note in notes for head in range(note.age.shape[1])})
    rows = []
    for layer, head in heads:
        own = [note for note in notes if note.layer == layer]
        cells = [_cell(*_values(own, head, marks, config.update_interval, s)) for s in SIGNALS]
        rows.append((f"layer {layer} head {head}", *cells))
    model, interval = Path(config.model).name, config.update_interval
    about = (
        f"{model} in {title}, {config.episodes} episodes: AUC of states to remember against "
        f"others, and ratio of means; looked at every {interval} tokens, new: for the first time"
    )
    return new_table(about, ("", *SIGNALS), rows)


def _values(
    notes: Sequence[Seen],
    head: int,
    marks: Sequence[tuple[Bool[np.ndarray, " seen"], Bool[np.ndarray, " seen"]]],
    interval: int,
    signal: str,
) -> tuple[Float[np.ndarray, " cues"], Float[np.ndarray, " others"]]:
    """The signal of all cues, and of all other states that ask for none."""
    cues, others = [], []
    for note in notes:
        values = (note.attention if signal.startswith("attention") else note.norms)[:, head]
        new = note.age[:, head] < interval
        wanted = new if signal.endswith("new") else ~new
        for row, episode in enumerate(note.episodes):
            tokens = note.tokens[row, head]
            states = wanted[row] & (tokens % TOKENS_PER_STEP == state_token(0))
            cue, recall = (each[tokens // TOKENS_PER_STEP] for each in marks[episode])
            cues.append(values[row, states & cue])
            others.append(values[row, states & ~cue & ~recall])
    return np.concatenate(cues), np.concatenate(others)


def _cell(cues: Float[np.ndarray, " cues"], others: Float[np.ndarray, " others"]) -> str:
    if not len(cues) or not len(others):
        return "-"
    return f"{auc(cues, others):.2f} (x {cues.mean() / others.mean():.2g})"
