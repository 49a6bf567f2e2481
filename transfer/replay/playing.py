"""Episodes that a Decision Transformer plays with its whole cache, or with its last K steps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DecisionTransformerModel, DynamicCache

from transfer.adapters.control_model import ControlModel, check_sizes, load_control_model
from transfer.adapters.decision_transformer import TOKENS_PER_STEP, CachedController
from transfer.attachment.adapter import get_adapter
from transfer.envs.environment import make_envs
from transfer.envs.rollout import refuse_failures, rollout
from transfer.errors import UserError
from transfer.replay.config import RecordConfig
from transfer.replay.names import plain
from transfer.replay.recording import within
from transfer.replay.runs import TOGETHER, Run, Survey, odds, seeds

#: Steps of the shortest episode that is worth a record.
_SHORTEST = 8


def playing(config: RecordConfig, name: str, done: Callable[[str], bool]) -> Iterator[Run]:
    """Episodes of one length after the other.

    Raises:
        UserError: the model or its environment cannot be had.
        SimulationError: an episode failed.
    """
    control, envs = _loaded(config, name)
    adapter = get_adapter(control.model)
    # A state attends to as much as when the last K steps are encoded anew.
    window = TOKENS_PER_STEP * control.context - 1 if config.memory == "cache" else None
    for env in envs:
        for steps, embeddings in _episodes(config, control, env, window).items():
            rows = max(1, TOGETHER // embeddings.shape[1])
            for start in range(0, len(embeddings), rows):
                title = f"{plain(Path(name).name)}-{plain(env)}-{steps}-{start}"
                if not done(title):
                    # The first token stands for an action before the first, and nobody sees it.
                    part = embeddings[start : start + rows, 1:]
                    acting = _acting(control, window)
                    yield Run(title, env, adapter, part, acting, first=1, window=window)


def survey_playing(config: RecordConfig, name: str) -> Survey:
    """Of episodes that all take every step.

    Raises:
        UserError: as `playing`.
    """
    control, envs = _loaded(config, name)
    tokens = TOKENS_PER_STEP * config.steps - 1
    return Survey.of(get_adapter(control.model), len(envs) * config.documents * tokens)


def _loaded(config: RecordConfig, name: str) -> tuple[ControlModel, tuple[str, ...]]:
    """The model, and the environments that it plays in."""
    control = load_control_model(name, **config.place.settings)
    envs = config.env or (control.env,)
    for env in envs:
        check_sizes(control, env)
    return control, envs


class _Reader(CachedController):
    """Remembers what the model reads.

    Args:
        control: the model and its statistics.
        window: newest tokens that a state attends to; None: all.
    """

    def __init__(self, control: ControlModel, window: int | None) -> None:
        self._window = window
        super().__init__(control, lambda: DynamicCache(config=control.model.config))

    def reset(self, episodes: int) -> None:
        """Begin `episodes` new episodes."""
        super().reset(episodes)
        self.rows = torch.arange(episodes)
        self.read: list[list[Tensor]] = [[] for _ in range(episodes)]

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep these episodes."""
        super().select(rows)
        self.rows = self.rows[rows]

    def _embed(
        self, states: Tensor, returns_to_go: Tensor, previous_actions: Tensor | None
    ) -> Float[Tensor, "episodes 3 hidden"]:
        read = super()._embed(states, returns_to_go, previous_actions)
        # Made in inference mode, which autograd would not take.
        for row, tokens in zip(self.rows.tolist(), read):
            self.read[row].append(tokens.clone())
        return read

    def _attention_mask(self, episodes: int) -> Int[Tensor, "episodes tokens"] | None:
        mask = super()._attention_mask(episodes)
        if mask is None or self._window is None:
            return mask
        newest = torch.arange(mask.shape[1], 0, -1, device=mask.device) <= self._window
        return mask * newest


def _episodes(
    config: RecordConfig, control: ControlModel, env: str, window: int | None
) -> dict[int, Float[Tensor, "episodes tokens hidden"]]:
    """What the model reads in episodes of each length, in steps."""
    controller = _Reader(control, window)
    envs = make_envs(env, config.documents)
    try:
        episodes, _ = rollout(
            controller, envs, seeds(config, env), control.target_returns[0], control.scale,
            config.steps, delayed=control.delayed,
        )  # fmt: skip
    finally:
        for one in envs:
            one.close()
    refuse_failures(episodes)
    found: dict[int, list[Tensor]] = {}
    for read in controller.read:
        if len(read) >= _SHORTEST:
            found.setdefault(len(read), []).append(torch.cat(read))
    if not found:
        raise UserError(
            f"no episode of {env} lasts {_SHORTEST} steps; raise --steps or record another model"
        )
    return {steps: torch.stack(found[steps]) for steps in sorted(found)}


def _acting(control: ControlModel, window: int | None) -> Callable[[Tensor], Tensor]:
    """Of all actions of some episodes."""
    model = cast(DecisionTransformerModel, control.model)

    def objective(embeddings: Tensor) -> Tensor:
        places = torch.zeros(1, embeddings.shape[1], dtype=torch.long, device=embeddings.device)
        mask = within(window, embeddings.shape[1])
        body = model.encoder(
            inputs_embeds=embeddings,
            position_ids=places,
            attention_mask=None if mask is None else mask[None, None].to(embeddings.device),
            use_cache=False,
        )
        # The states are what actions are predicted from, the last tokens of their steps.
        states = body.last_hidden_state[:, TOKENS_PER_STEP - 2 :: TOKENS_PER_STEP]
        actions = model.predict_action(states)
        if not control.choices:
            signs = torch.rand(actions.shape, generator=torch.Generator().manual_seed(0)) < 0.5
            return torch.where(signs.to(actions.device), actions, -actions).sum()
        margins = [odds(part, part.argmax(-1)) for part in control.parts(actions)]
        # What matters is how much of its margin a choice loses.
        return torch.cat([(one / one.detach().clamp(min=1)).flatten() for one in margins]).sum()

    return objective
