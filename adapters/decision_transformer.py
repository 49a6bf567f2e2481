"""The Decision Transformer's adapter, and the two ways of stepping it through episodes.

The stock way (`WindowController`) encodes the last K steps anew at every step. The incremental
way (`CachedController`) feeds three tokens a step through a key/value cache, which any policy may
prune.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, DecisionTransformerModel

from transfer.adapters.control_model import (
    ControlModel,
    load_control_model,
    save_control_model,
)
from transfer.attachment.adapter import Adapter, probe_generator
from transfer.cache.cache import PrunedCache
from transfer.errors import UserError

__all__ = [
    "TOKENS_PER_STEP",
    "CachedController",
    "ControlModel",
    "DecisionTransformerAdapter",
    "WindowController",
    "load_control_model",
    "save_control_model",
    "state_token",
]


TOKENS_PER_STEP = 3


def state_token(step: int) -> int:
    """Position of a step's state in the cache of `CachedController`; the newest token of a step."""
    return TOKENS_PER_STEP * step + TOKENS_PER_STEP - 1


class DecisionTransformerAdapter(Adapter):
    """Decision Transformers of transformers; their GPT-2 body is what has attention.

    The model's own `forward` knows no cache: attached, it prunes within each call. The cache is
    for the body, `model.encoder`, as `CachedController` uses it.
    """

    def probe(self, batch: int, tokens: int) -> dict[str, Any]:
        """Random embeddings for the body."""
        shape = (batch, tokens, self.config.hidden_size)
        embeds = torch.randn(shape, generator=probe_generator(batch, tokens))
        device = self.model.device
        return {
            "inputs_embeds": embeds.to(device, self.model.dtype),
            "attention_mask": torch.ones(shape[:2], dtype=torch.long, device=device),
            "position_ids": torch.zeros(1, tokens, dtype=torch.long, device=device),
        }

    def outputs(
        self, inputs: Mapping[str, Any], cache: Cache | None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The body's hidden states."""
        encoder = cast(DecisionTransformerModel, self.model).encoder
        return encoder(**inputs, cache=cache, use_cache=cache is not None).last_hidden_state


class WindowController:
    """The stock protocol: the last K steps are encoded anew for every action.

    Early windows are shorter instead of padded on the left, which gives the same actions.
    """

    def __init__(self, control: ControlModel) -> None:
        self.control = control
        self.reset(0)

    def reset(self, episodes: int) -> None:
        """Begin `episodes` new episodes."""
        model = self.control.model
        sizes = {"states": model.config.state_dim, "actions": model.config.act_dim, "returns": 1}
        self._window = {
            name: torch.zeros(episodes, 0, size, dtype=model.dtype, device=model.device)
            for name, size in sizes.items()
        }
        self._step = 0

    @torch.inference_mode()
    def act(
        self,
        states: Float[Tensor, "episodes state"],
        returns_to_go: Float[Tensor, "episodes 1"],
        previous_actions: Float[Tensor, "episodes action"] | None,
    ) -> Float[Tensor, "episodes action"]:
        """Actions of this step; see `transfer.envs.rollout.Controller`."""
        model = self.control.model
        self.control.check_horizon(self._step + 1)
        if previous_actions is not None:
            self._window["actions"][:, -1] = previous_actions
        self._append("states", self.control.normalized(states))
        self._append("returns", returns_to_go)
        # the slot of the action to be predicted, which no earlier token can see
        self._append("actions", torch.zeros(len(states), model.config.act_dim))
        self._step += 1
        shown = self._window["states"].shape[1]
        times = torch.arange(self._step - shown, self._step, device=model.device)
        output = model(
            states=self._window["states"],
            actions=self._window["actions"],
            returns_to_go=self._window["returns"],
            timesteps=times.expand(len(states), -1),
            attention_mask=torch.ones(len(states), shown, device=model.device),
        )
        return self.control.decided(output.action_preds[:, -1])

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep these episodes."""
        self._window = {name: values[rows] for name, values in self._window.items()}

    def _append(self, name: str, values: Tensor) -> None:
        window = torch.cat([self._window[name], values.to(self._window[name])[:, None]], dim=1)
        self._window[name] = window[:, -self.control.context :]


class CachedController:
    """The incremental protocol: three tokens a step through a key/value cache.

    Every step feeds `[a_{t-1}, R_t, s_t]`; at the first one the action's slot is padding, so that
    all steps are alike.

    Args:
        control: the model and its statistics.
        new_cache: makes the cache of a batch of episodes. One whose attribute `stores_padding` is
            False is given an attention mask at the first step only, any other one the whole mask
            at every step.
        protected_after: states that have to be remembered are protected in the (pruned) cache, and
            so many tokens after each; None: none is.
    """

    def __init__(
        self,
        control: ControlModel,
        new_cache: Callable[[], Cache],
        protected_after: int | None = None,
    ) -> None:
        self.control = control
        self._protected_after = protected_after
        self.cache = new_cache()
        self._new_cache = new_cache
        self.reset(0)

    def reset(self, episodes: int) -> None:
        """Begin `episodes` new episodes with an empty cache."""
        self.cache = self._new_cache()
        device = self.control.model.device
        self._step = 0
        self._positions = torch.zeros(1, 3, dtype=torch.long, device=device)
        # as long as the longest episode; only the very first token is padding
        tokens = 3 * self.control.model.config.max_ep_len
        self._mask = torch.ones(1, tokens, dtype=torch.long, device=device)
        self._mask[:, 0] = 0
        self._masked_always = getattr(self.cache, "stores_padding", True)
        if isinstance(self.cache, PrunedCache):
            # The padding counts, so that updates fall between steps.
            self.cache.count_from(1)

    def tell(self, cues: Bool[np.ndarray, " episodes"]) -> None:
        """Protect the states that follow where they have to be remembered."""
        if self._protected_after is None or not cues.any():
            return
        first = state_token(self._step)
        tokens = torch.arange(first, first + 1 + self._protected_after)
        self._protect(torch.where(torch.from_numpy(cues)[:, None], tokens, -1))

    def _protect(self, positions: Int[Tensor, "episodes tokens"]) -> None:
        assert isinstance(self.cache, PrunedCache)
        try:
            self.cache.protect(positions)
        except UserError as error:
            raise UserError(f"the oracle is told more than it can hold: {error}") from error

    @torch.inference_mode()
    def act(
        self,
        states: Float[Tensor, "episodes state"],
        returns_to_go: Float[Tensor, "episodes 1"],
        previous_actions: Float[Tensor, "episodes action"] | None,
    ) -> Float[Tensor, "episodes action"]:
        """Actions of this step; see `transfer.envs.rollout.Controller`."""
        model = self.control.model
        self.control.check_horizon(self._step + 1)
        output = model.encoder(
            inputs_embeds=self._embed(states, returns_to_go, previous_actions),
            cache=self.cache,
            position_ids=self._positions,
            attention_mask=self._attention_mask(len(states)),
            use_cache=True,
        )
        self._step += 1
        return self.control.decided(model.predict_action(output.last_hidden_state[:, -1]))

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep these episodes, in the cache too."""
        self.cache.batch_select_indices(rows)

    def _embed(
        self, states: Tensor, returns_to_go: Tensor, previous_actions: Tensor | None
    ) -> Float[Tensor, "episodes 3 hidden"]:
        model, now = self.control.model, self._step
        time = model.embed_timestep.weight
        if previous_actions is None:
            previous_actions = torch.zeros(len(states), model.config.act_dim)
        tokens = (
            model.embed_action(previous_actions.to(time)) + time[max(now - 1, 0)],
            model.embed_return(returns_to_go.to(time)) + time[now],
            model.embed_state(self.control.normalized(states)) + time[now],
        )
        return model.embed_ln(torch.stack(tokens, dim=1))

    def _attention_mask(self, episodes: int) -> Int[Tensor, "episodes tokens"] | None:
        if self._step and not self._masked_always:
            return None
        return self._mask[:, : 3 * (self._step + 1)].expand(episodes, -1)
