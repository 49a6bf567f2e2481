"""A Decision Transformer acts in an environment of your own, here Gymnasium's pendulum.

    python examples/add_environment.py

With references for 0 and 100 the score is D4RL's; without them any Gymnasium id with vectors can
be named as it is, and its score is the return.
"""

import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer import Environment, attach, register
from transfer.adapters.decision_transformer import CachedController, ControlModel
from transfer.envs.environment import environment, make_envs
from transfer.envs.rollout import rollout

SWING = Environment("Pendulum-v1", random=-1200.0, expert=-150.0, targets=(-150.0,), horizon=200)

if __name__ == "__main__":
    register("environment", "swing", SWING)
    swing = environment("swing")
    states, actions = swing.sizes
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=states, act_dim=actions, hidden_size=32, n_layer=2, n_head=2, max_ep_len=200,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    control = ControlModel(
        model=DecisionTransformerModel(config).eval(),
        state_mean=torch.zeros(states),
        state_std=torch.ones(states),
        target_returns=swing.targets,
        env=swing.name,
        quality="untrained",
    )
    with attach(control.model, "recency", update_interval=48, budget=60) as memory:
        controller = CachedController(control, memory.new_cache)
        target = control.target_returns[0]
        episodes, _ = rollout(controller, make_envs(swing, 4), range(4), target, control.scale)
    for episode in episodes:
        print(f"seed {episode.seed}: {swing.metric} {swing.score(episode.episode_return):.1f}")
