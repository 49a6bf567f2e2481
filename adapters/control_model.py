"""A Decision Transformer with its statistics: loading, saving, and refusing what does not fit."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import DecisionTransformerModel

from transfer.adapters.loading import quiet
from transfer.adapters.published_control import published_facts
from transfer.checkpoints import shipped
from transfer.errors import UserError, unknown_name
from transfer.files import read_json, replacing, write_json

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
        env: hopper, halfcheetah or walker2d.
        quality: which data it learned from, for example `medium`.
        data: SHA-256 of each training file, by base name.
        delayed: it was trained with all reward at the end of an episode.
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

    def __post_init__(self) -> None:
        expected = self.model.config.state_dim
        for name, values in (("state_mean", self.state_mean), ("state_std", self.state_std)):
            if len(values) != expected:
                raise UserError(
                    f"{name} has {len(values)} numbers but the model's state dimension is"
                    f" {expected}; take the statistics of the data that it was trained on"
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


def shipped_control_models() -> list[str]:
    """Names of the Decision Transformers that come with the package."""
    return list(shipped("control.json"))


def load_control_model(name_or_path: str | Path) -> ControlModel:
    """Load a shipped Decision Transformer, a local folder, or a repository of the Hub.

    A folder or repository holds `config.json`, `control.json` and `model.safetensors` (or
    `pytorch_model.bin`, which is read without running code). The nine that were published for
    D4RL (`edbeeching/decision-transformer-gym-...`) do without `control.json`. Weights are float32
    in memory.

    Raises:
        UserError: nothing of that name, or a file is missing, cut, unsafe or does not fit.
    """
    folder = _locate(str(name_or_path))
    path = folder / "control.json"
    facts = published_facts().get(str(name_or_path)) or read_json(path)
    try:
        settings = _settings(facts)
    except KeyError as error:
        raise UserError(f"{path} has no entry {error}; save the model again") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is not usable ({error}); save the model again") from error
    return ControlModel(model=_load_weights(folder), **settings)


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
        config | {"architectures": ["DecisionTransformerModel"], "dtype": str(dtype)[6:]},
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
    }


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state_mean": torch.tensor(facts["state_mean"], dtype=torch.float32),
        "state_std": torch.tensor(facts["state_std"], dtype=torch.float32),
        "target_returns": tuple(float(target) for target in facts["target_returns"]),
        "env": str(facts["env"]),
        "quality": str(facts["quality"]),
        "context": int(facts["context"]),
        "scale": float(facts["scale"]),
        "data": dict(facts["data"]),
        "delayed": bool(facts.get("delayed", False)),
    }


def _locate(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if name in shipped("control.json"):
        return shipped("control.json")[name]
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise unknown_name("Decision Transformer", name, shipped_control_models())
    return _download(name)


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


def _load_weights(folder: Path) -> DecisionTransformerModel:
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "decision_transformer":
        raise UserError(
            f"{folder} holds a model of type {kind!r}; name the folder of a decision_transformer"
        )
    try:
        with quiet():
            loaded: Any = DecisionTransformerModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
            )
    except (SafetensorError, pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    model, report = loaded
    if report["missing_keys"]:
        raise UserError(
            f"the weights in {folder} lack {min(report['missing_keys'])!r};"
            f" download or save the model again"
        )
    return model.eval()


def _unreadable(folder: Path, error: Exception) -> UserError:
    remedy = "download or save the model again"
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
