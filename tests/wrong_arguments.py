"""Calls every public function with each argument wrong in many ways; prints JSON of what was not
refused in one sentence. A process of its own, see test_arguments.py.
"""

import inspect
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch

from transfer import NAMM, Environment, NAMMConfig, Pruning, attach, check_adapter, register
from transfer.adapters.control_model import load_control_model
from transfer.adapters.imported_control import import_control
from transfer.adapters.kinds import kind_of
from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import Placement
from transfer.adapters.video_model import load_video_model
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.cache import PrunedCache
from transfer.envs.collect import CollectConfig, collect
from transfer.envs.d4rl import read_d4rl
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import env_id, env_name, environment, make_env, make_envs
from transfer.envs.noise import Noise
from transfer.envs.rollout import stream
from transfer.errors import UserError
from transfer.evaluation.control import ControlEval
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import ContenderOptions, RunOptions
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_results
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.video import VideoEval
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evolve import evolve
from transfer.evolution.search import SearchSettings
from transfer.inspection.config import InspectConfig
from transfer.inspection.kept import keep_video
from transfer.plan import Plan, plan_cache
from transfer.policies import get_policy
from transfer.policies.fastgen import FastGen
from transfer.policies.namm import NAMMPolicy
from transfer.policies.random import Random
from transfer.policies.recency import Recency
from transfer.policies.snapkv import SnapKV
from transfer.pretrain.decision_transformer.config import PretrainConfig
from transfer.pretrain.recall.config import RecallPretrainConfig
from transfer.pretrain.video_llava.config import VideoPretrainConfig
from transfer.tasks.recall import TASKS, RecallTask, get_task, make_batch
from transfer.tasks.records import read_records
from transfer.video.frames import probe, read_clip


class Controller:
    """Never called: an argument is wrong first."""

    def reset(self, episodes): ...

    def act(self, states, returns_to_go, previous_actions): ...

    def select(self, rows): ...


model = tiny.llama()
namm = NAMM(NAMMConfig())
out = {"out": Path("nowhere")}
played = {"controller": Controller(), "seeds": [0], "target_return": 1.0, "scale": 1.0}

#: Every function with arguments that are right.
CALLS: Mapping[Any, Mapping[str, Any]] = {
    attach: {"model": model, "policy": "h2o", "budget": 8},
    check_adapter: {"model": model},
    get_adapter: {"model": model},
    Memory: {"adapter": get_adapter(model), "pruning": Pruning(Recency(), budget=8)},
    PrunedCache(model.config, Pruning(Recency(), budget=8)).protect: {"positions": [[3]]},
    Pruning: {"policy": Recency(), "budget": 8},
    get_policy: {"name": "h2o"},
    Recency: {},
    SnapKV: {},
    FastGen: {},
    Random: {},
    NAMMPolicy: {"namm": namm},
    NAMMConfig: {},
    NAMM: {"config": NAMMConfig()},
    NAMM.from_pretrained: {"name": "recall"},
    register: {"kind": "policy", "name": "recency", "thing": Recency},
    environment: {"name": "hopper"},
    env_id: {"name": "hopper"},
    env_name: {"name": "hopper"},
    make_env: {"env": "hopper"},
    make_envs: {"env": "hopper", "count": 0},
    Environment: {"id": "Hopper-v4"},
    Noise: {"std": 0.1},
    stream: {**played, "envs": []},
    read_d4rl: {"path": "nowhere"},
    read_dataset: {"name": "nowhere"},
    read_clip: {"video": Path("nowhere"), "frames": 3},
    probe: {"video": Path("nowhere")},
    load_language_model: {"name_or_path": "nowhere"},
    load_control_model: {"name": "nowhere"},
    import_control: {"path": "nowhere"},
    load_video_model: {"name": "nowhere"},
    kind_of: {"model": "llama-recall"},
    ContenderOptions: {},
    RunOptions: {},
    Placement: {},
    LanguageEval: {"model": "llama-recall"},
    VideoEval: {"model": "llava-next-video"},
    ControlEval: {"model": "decision-transformer"},
    SuiteEval: {},
    evaluate: {"config": None},
    read_results: {"folder": Path("nowhere")},
    EvolveConfig: out,
    evolve: {"config": None},
    SearchSettings: {},
    InspectConfig: {"video": Path("nowhere")},
    keep_video: {"config": None},
    Plan: {},
    plan_cache: {"plan": None},
    RecallPretrainConfig: out,
    PretrainConfig: {**out, "dataset": ("nowhere",)},
    VideoPretrainConfig: out,
    CollectConfig: out,
    collect: {"config": None},
    get_task: {"name": "recall"},
    make_batch: {"task": TASKS["recall"], "length": 128, "seeds": [0]},
    RecallTask: {},
    read_records: {"path": "nowhere"},
}
WRONG = (
    "16", "", 16.5, True, None, math.nan, math.inf, -1, 0, [1], ["a"], (None,), {}, object(), b"x",
    torch.zeros(3), np.zeros(2), np.float32(0.5), model, NAMM, Controller(), len,
)  # fmt: skip


def _called(function: Any, arguments: Mapping[str, Any]) -> Any:
    # The one name that is positional, so that a policy may have a setting called so.
    return function(*arguments.values()) if function is get_policy else function(**arguments)


def main() -> None:
    tried, refused, faults = 0, 0, []
    for function, right in CALLS.items():
        for name in inspect.signature(function).parameters:
            if name in ("args", "more", "settings"):
                continue
            any_thing = name in ("thing", "device_map")
            for value in WRONG:
                tried += 1
                try:
                    made = _called(function, {**right, name: value})
                except UserError as error:
                    refused += 1
                    said = any_thing or str(error).startswith(f"{name} is ")
                    if "\n" in str(error) or (isinstance(value, bytes) and not said):
                        faults.append(f"{function.__qualname__} {name} {value!r}: {error}")
                except Exception as error:
                    faults.append(f"{function.__qualname__} {name} {value!r}: {error!r}")
                else:
                    if isinstance(made, Memory):
                        made.detach()
    json.dump(
        {"tried": tried, "refused": refused, "faults": faults, "functions": len(CALLS)}, sys.stdout
    )


if __name__ == "__main__":
    main()
