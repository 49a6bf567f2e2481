"""100 Hopper episodes of 1000 steps, 64 environments at once.

Episodes never end early here (`terminate_when_unhealthy=False`), so every protocol computes the
same number of steps.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack

import gymnasium

from benchmarks.measure import Row
from transfer.adapters.decision_transformer import (
    CachedController,
    ControlModel,
    WindowController,
    load_control_model,
)
from transfer.attachment.memory import attach
from transfer.envs.environment import env_id
from transfer.envs.rollout import Controller, rollout

EPISODES, STEPS, TOGETHER, INTERVAL, BUDGET = 100, 1000, 64, 48, 24

TITLE = f"{EPISODES} Hopper episodes of {STEPS} steps, {TOGETHER} at once; seconds"


def cached(policy: str, **settings: float) -> Callable[[ControlModel, ExitStack], Controller]:
    """The incremental protocol under a policy."""

    def make(control: ControlModel, stack: ExitStack) -> Controller:
        memory = stack.enter_context(attach(control.model, policy, **settings))  # type: ignore[arg-type]
        return CachedController(control, memory.new_cache)

    return make


def protocols(context: int) -> dict[str, Callable[[ControlModel, ExitStack], Controller]]:
    """What is timed; `fifo` holds as many tokens as the stock window."""
    window = 3 * context - 4
    return {
        "window": lambda control, stack: WindowController(control),
        f"fifo {window}": cached("recency", sinks=0, update_interval=3, budget=window),
        f"recency {BUDGET}": cached("recency", update_interval=INTERVAL, budget=BUDGET),
        f"h2o {BUDGET}": cached("h2o", update_interval=INTERVAL, budget=BUDGET),
        "full": cached("full"),
    }


def run(name: str = "decision-transformer-hopper-mixed") -> list[Row]:
    """Seconds for each protocol, split into simulator and the rest."""
    control = load_control_model(name)
    gymnasium.logger.min_level = 50
    envs = [
        gymnasium.make(
            env_id("hopper", "v4"), terminate_when_unhealthy=False, disable_env_checker=True
        )
        for _ in range(TOGETHER)
    ]
    rows: list[Row] = []
    for protocol, make in protocols(control.context).items():
        with ExitStack() as stack:
            controller = make(control, stack)
            began, cpu = time.perf_counter(), time.process_time()
            episodes, clock = rollout(
                controller, envs, range(EPISODES), control.target_returns[0], control.scale, STEPS
            )
            assert all(episode.length == STEPS for episode in episodes)
            rows.append(
                {
                    "protocol": protocol,
                    "seconds": round(time.perf_counter() - began, 1),
                    "cpu_seconds": round(time.process_time() - cpu, 1),
                    "simulator": round(clock.simulator_s, 1),
                    "transformer_and_policy": round(clock.policy_s, 1),
                }
            )
    return rows
