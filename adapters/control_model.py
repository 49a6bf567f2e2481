"""A Decision Transformer with its statistics: loading, saving, and refusing what does not fit."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import one_hot
from transformers import DecisionTransformerModel

from transfer.adapters.control_facts import control_facts
from transfer.adapters.control_names import control_model
from transfer.adapters.kinds import CONTROL, find_model, shipped_models
from transfer.adapters.loading import load_weights
from transfer.adapters.pictures import LEAST, PictureDecisionTransformerModel, is_picture
from transfer.adapters.post_norm import control_class
from transfer.arguments import typed
from transfer.envs.environment import HOPPER, data_quality, env_name, environment
from transfer.errors import UserError
from transfer.files import read_json_object, replacing, write_json

#: Steps of the longest context.
_MOST_STEPS = 10**6
_FILES = ["config.json", "control.json", "model.safetensors", "pytorch_model.bin"]


@dataclass(frozen=True)
class ControlModel:
    """A Decision Transformer with what a rollout needs beside its weights.

    Attributes:
        model: in evaluation mode.
        state_mean: mean of each state dimension in the training data.
        state_std: standard deviation likewise; states are normalised with both.
        context: K, the steps the model was trained to see.
        scale: divisor of returns.
        target_returns: returns to ask for, the best first.
        env: as `transfer.envs.environment.environment` takes it, such as hopper, with its settings.
        quality: which data it learned from, for example `medium`.
        data: SHA-256 of each training file, by base name.
        delayed: it was trained with all reward at the end of an episode.
        choices: values of each choice of an action, as `transfer.envs.environment.Environment`
            has them; the model then gives a number for each value, of which the largest is taken.
    """

    model: DecisionTransformerModel
    # one axis each: __post_init__ says which of them does not fit the model
    state_mean: Float[Tensor, " _"]
    state_std: Float[Tensor, " _"]
    target_returns: tuple[float, ...]
    env: str
    quality: str
    context: int = 20
    scale: float = 1000.0
    data: Mapping[str, str] = field(default_factory=dict)
    delayed: bool = False
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        expected = self.model.config.state_dim
        for name, values in (("state_mean", self.state_mean), ("state_std", self.state_std)):
            if len(values) != expected:
                raise UserError(
                    f"{name} has {len(values)} numbers but the model's state dimension is"
                    f" {expected}; take the statistics of the data that it was trained on"
                )
            if not values.isfinite().all():
                raise UserError(f"{name} holds NaN or infinity; take the statistics anew")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not 1 <= self.context <= _MOST_STEPS:
            raise UserError(f"context is {self.context}; use 1 to {_MOST_STEPS:,} steps")
        if not 0 < self.scale < math.inf:
            raise UserError(f"scale is {self.scale}; use a number above 0")
        if not self.target_returns or not all(map(math.isfinite, self.target_returns)):
            raise UserError(
                f"target returns are {self.target_returns}; name one or more, all finite"
            )
        if not (self.state_std > 0).all():
            raise UserError(
                f"state_std has {float(self.state_std.min())}, by which no state can be divided; "
                "take a standard deviation above 0, as D4RL's + 1e-6"
            )
        actions = self.model.config.act_dim
        if self.choices and (min(self.choices) < 1 or sum(self.choices) != actions):
            raise UserError(
                f"choices are {self.choices} but the model gives {actions} numbers for an action; "
                f"use counts from 1 on whose sum is {actions}"
            )

    def check_horizon(self, steps: int) -> None:
        """Refuse episodes that are longer than the model's table of time steps."""
        limit = self.model.config.max_ep_len
        if steps > limit:
            raise UserError(
                f"episodes of {steps} steps are longer than the {limit} time steps that this model"
                f" knows; use at most {limit} steps"
            )

    def normalized(self, states: Float[Tensor, "batch state"]) -> Float[Tensor, "batch state"]:
        """Raw states to the model's own scale and dtype."""
        mean, std = self.state_mean, self.state_std
        return ((states.to(mean) - mean) / std).to(self.model.device, self.model.dtype)

    def decided(self, predicted: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
        """Actions of the model's predictions: of each choice the largest alone, as a one-hot."""
        if not self.choices:
            return predicted
        taken = [one_hot(part.argmax(-1), part.shape[-1]) for part in self.parts(predicted)]
        # What is no number stays so: it decides nothing, and who steps an environment must see it.
        return torch.cat(taken, -1) + 0 * predicted

    def parts(self, actions: Float[Tensor, "*batch action"]) -> tuple[Tensor, ...]:
        """The numbers of each choice."""
        return actions.split(self.choices, dim=-1)


@typed
def load_control_model(
    name: str | Path,
    env: str | None = None,
    quality: str | None = None,
    statistics: Path | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    device_map: Any = None,
) -> ControlModel:
    """Load a shipped Decision Transformer, a local folder, or a repository of the Hub.

    A folder or repository holds `config.json`, `control.json` and `model.safetensors` (or
    `pytorch_model.bin`, which is read without running code). The nine that were published for
    D4RL (`edbeeching/decision-transformer-gym-...`) do without `control.json`; for others without
    it the further arguments say what it would.

    Args:
        name: `decision-transformer` is the shipped one for `env` and `quality`.
        env: as `transfer.envs.environment.environment` takes it.
        quality: of the training data; with one of D4RL's environments it names known statistics.
        statistics: a file as `transfer.adapters.control_facts.read_statistics` takes it.
        dtype: of the weights in memory; None: float32.
        device: where it computes: auto (the CPU, as these models are small), cpu, cuda, cuda:1,
            mps; None: the CPU, or as `device_map` says.
        device_map: of `from_pretrained`.

    Raises:
        UserError: nothing of that name, a file is missing, cut, unsafe or does not fit, the
            model's own facts are others, or the device cannot be used.
    """
    source = find_model(shipped_for(env, quality) if str(name) == CONTROL else name, "control")
    folder = source.folder or _download(source.name)
    facts = control_facts(source, folder, env, quality, statistics)
    settings = settings_of(facts, statistics or folder / "control.json")
    model = load_weights(
        _class_of(folder / "config.json"), str(folder), _unreadable, dtype=dtype or torch.float32,
        device=device, small=True, device_map=device_map, local_files_only=True,
    )  # fmt: skip
    control = ControlModel(model=model, **settings)
    if env is not None or not (folder / "control.json").is_file():
        check_sizes(control, env or control.env)
    return control


def _class_of(path: Path) -> type[DecisionTransformerModel]:
    """The class of a model by its config.json."""
    config = read_json_object(path)
    if "picture" not in config:
        return control_class(bool(config.get("post_norm")))
    shape, states = config["picture"], config.get("state_dim")
    if not is_picture(shape) or math.prod(shape) != states:
        raise UserError(
            f"{path} says picture {shape!r} and state_dim {states}; a picture is [height, width], "
            f"with channels behind or before, has {LEAST} x {LEAST} or more and state_dim numbers: "
            "download or save the model again"
        )
    return PictureDecisionTransformerModel


def shipped_for(env: str | None, quality: str | None) -> str:
    """Name of the shipped model that `decision-transformer` stands for.

    Raises:
        UserError: none is of this environment.
    """
    short, named = env_name(env or HOPPER.name), data_quality(env)
    if quality is not None and named not in (None, quality):
        raise UserError(f"--env {env} is of {named} data, not of {quality}; leave one of them out")
    quality = quality or named
    name = f"{CONTROL}-{short}-{quality}" if quality else control_model(short)
    if name is None:
        raise UserError(f"no Decision Transformer ships for {env}; name the folder of one")
    if name not in shipped_models("control"):
        raise UserError(
            f"no Decision Transformer of quality {quality} for {short} is shipped (shipped: "
            f"{', '.join(shipped_models('control'))}); train one with "
            "`transfer pretrain decision-transformer` and name its folder with --model"
        )
    return name


def settings_of(facts: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """What a control.json says, as arguments of `ControlModel` beside the model.

    Raises:
        UserError: an entry of the file, which is `where`, is missing or not usable.
    """
    try:
        return _settings(facts)
    except KeyError as error:
        raise UserError(f"{where} has no entry {error}; save the model again") from error
    # torch raises RuntimeError for numbers that no float holds.
    except (TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{where} is not usable ({error}); save it again") from error


def check_sizes(control: ControlModel, env: str) -> None:
    """Refuse a model whose states or actions are not those of an environment.

    Raises:
        UserError: they are not.
    """
    config, found = control.model.config, environment(env)
    if (config.state_dim, config.act_dim) != found.sizes:
        raise UserError(
            f"the model reads states of {config.state_dim} numbers and gives actions of "
            f"{config.act_dim}, but {env} has {found.sizes[0]} and {found.sizes[1]}; "
            "name the environment that it was trained in with --env"
        )
    picture = tuple(getattr(config, "picture", ()))
    if picture not in ((), found.picture):
        raise UserError(
            f"the model sees pictures of shape {picture}, and observations of {env} are of shape "
            f"{found.picture}; name the environment that it was trained in with --env"
        )
    if control.choices != found.choices:
        ours, theirs = (
            f"choices of {each} values" if each else "real numbers"
            for each in (control.choices, found.choices)
        )
        raise UserError(
            f"the model's actions are {ours}, but those of {env} are {theirs}; name the "
            "environment that it was trained in with --env, or say `choices` in its control.json"
        )


@typed
def save_control_model(
    control: ControlModel, folder: str | Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write `model.safetensors`, `config.json` and `control.json` to a folder, each atomically.

    Args:
        control: what to save.
        folder: made if absent.
        dtype: of the weights on disk; float16 halves the file.
    """
    folder = Path(folder)
    weights = {
        name: tensor.to(dtype).contiguous() for name, tensor in control.model.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as partial:
        save_file(weights, partial, metadata={"format": "pt"})
    config = control.model.config.to_dict()
    write_json(
        folder / "config.json",
        config | {"architectures": [type(control.model).__name__], "dtype": str(dtype)[6:]},
    )
    write_json(folder / "control.json", _facts(control))


def _facts(control: ControlModel) -> dict[str, Any]:
    return {
        "env": control.env,
        "quality": control.quality,
        "context": control.context,
        "scale": control.scale,
        "target_returns": list(control.target_returns),
        "state_mean": control.state_mean.tolist(),
        "state_std": control.state_std.tolist(),
        "data": dict(control.data),
        "delayed": control.delayed,
        **({"choices": list(control.choices)} if control.choices else {}),
    }


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state_mean": _numbers(facts, "state_mean"),
        "state_std": _numbers(facts, "state_std"),
        "target_returns": tuple(map(float, facts["target_returns"])),
        "env": _typed(facts, "env", str),
        "quality": _typed(facts, "quality", str),
        "context": _typed(facts, "context", int),
        "scale": float(_typed(facts, "scale", int | float)),
        "data": dict(facts["data"]),
        "delayed": _typed(facts, "delayed", bool) if "delayed" in facts else False,
        "choices": _choices(facts.get("choices", ())),
    }


def _choices(counts: Any) -> tuple[int, ...]:
    if not all(type(one) is int for one in counts):
        raise ValueError(f"choices is {counts!r}")
    return tuple(counts)


def _numbers(facts: Mapping[str, Any], name: str) -> Float[Tensor, " _"]:
    values = torch.tensor(facts[name], dtype=torch.float32)
    if values.ndim != 1:
        raise ValueError(f"{name} is no list of numbers")
    return values


def _typed(facts: Mapping[str, Any], name: str, kind: type | UnionType) -> Any:
    value = facts[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is {value!r}")
    return value


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{repo!r} is no local folder and could not be fetched from the Hugging Face Hub"
            f" ({type(error).__name__}); check the name and the connection"
        ) from error


def _unreadable(path: str, error: Exception) -> UserError:
    folder, remedy = Path(path), "download or save the model again"
    if isinstance(error, pickle.UnpicklingError):
        return UserError(
            f"{folder / 'pytorch_model.bin'} is not a plain file of weights (it is damaged, or"
            f" loading it would run code); ask its author for model.safetensors"
        )
    if "ignore_mismatched_sizes" in str(error):
        return UserError(f"the weights in {folder} do not have the shapes of config.json; {remedy}")
    if not any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin")):
        return UserError(f"{folder} has no model.safetensors; {remedy}")
    return UserError(f"the weights in {folder} are cut or damaged; {remedy}")
