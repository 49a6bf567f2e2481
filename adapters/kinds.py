"""What kind of model a name, a folder or a hub id stands for, and where its files are.

config.json says it, not the name. The command line asks before it shows help, so neither torch nor
transformers is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal

from transfer.adapters.fetched import FETCHED
from transfer.adapters.published_control import published_models
from transfer.arguments import typed
from transfer.checkpoints import shipped
from transfer.errors import UserError, listed, unknown_name
from transfer.files import is_hub_id, read_json_object
from transfer.plugins import ADAPTERS
from transfer.progress import waiting

Kind = Literal["language", "video", "control"]
#: How the name of a file with a model and its tokenizer ends.
GGUF = ".gguf"
CONTROL, VIDEO = "decision-transformer", "llava-next-video"
#: Short names, and the shipped model that each stands for if nothing more is said.
ALIASES = {CONTROL: "decision-transformer-hopper-mixed", VIDEO: "llava-next-video-recall"}

#: One of them is beside every model that reads text.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")

#: `config.model_type` of the families that are no language models.
_VIDEO: dict[str, Kind] = dict.fromkeys(
    ("llava_next_video", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "smolvlm"), "video"
)
_TYPES: dict[str, Kind] = {"decision_transformer": "control", **_VIDEO}
#: Numbers of a configuration, nested ones too, and the most that is believed.
_MOST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer"), 10_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "head_dim"), 10**5),
    **dict.fromkeys(("hidden_size", "n_embd", "intermediate_size", "n_inner", "state_dim"), 10**7),
    **dict.fromkeys(("act_dim", "image_size", "patch_size"), 10**5),
    **dict.fromkeys(("sliding_window", "attention_chunk_size"), 10**9),
    **dict.fromkeys(("vocab_size", "n_positions", "max_position_embeddings", "max_ep_len"), 10**9),
}
_IN_WORDS = {
    "language": "a language model",
    "video": "a video model",
    "control": "a Decision Transformer",
}


@dataclass(frozen=True)
class Source:
    """Where a model's files are.

    Attributes:
        name: as it was asked for, short names spelled out.
        folder: local, shipped or fetched; None: they are on the Hub, or in a GGUF file.

    Raises:
        UserError: no shipped model, folder, GGUF file or hub id is named so, or it is one that has
            to be fetched first.
    """

    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", ALIASES.get(self.name, self.name))
        if self.folder is not None or self.gguf is not None:
            return
        if self.name in FETCHED:
            raise UserError(
                f"{self.name} is not on this machine yet; run `transfer get {self.name}`, or name "
                f"{FETCHED[self.name].hub}, which the Hugging Face Hub has"
            )
        if self.name.lower().endswith(GGUF):
            raise UserError(f"there is no file {self.name}; check the path")
        if Path(self.name).is_file():
            raise UserError(f"{self.name} is a file; name the folder of a model, or a GGUF file")
        if not is_hub_id(self.name) and set("/\\") & set(self.name):
            raise UserError(f"there is no folder {self.name}; check the path")
        if not is_hub_id(self.name):
            raise unknown_name("model", self.name, [*ALIASES, *FETCHED, *_shipped()])

    @property
    def folder(self) -> Path | None:
        """Of the files; None: they are on the Hub."""
        path = _kept().get(self.name, Path(self.name))
        return path if path.is_dir() else None

    @property
    def gguf(self) -> Path | None:
        """The GGUF file that it is."""
        path = Path(self.name)
        return path if path.suffix.lower() == GGUF and path.is_file() else None

    @property
    def shipped(self) -> bool:
        """Whether it comes with the package."""
        return self.name in _shipped()

    @property
    def path(self) -> str:
        """What transformers' `from_pretrained` takes."""
        return str(self.folder or self.name)

    @property
    def title(self) -> str:
        """The model's name in tables: of a folder or a file, its last part."""
        outside = self.name not in _kept() and (self.folder or self.gguf)
        return outside.name if outside else self.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says; of a GGUF file, only what kind of file it is.

        Raises:
            UserError: there is none, it is damaged or describes no model, or the Hub cannot be
                reached.
        """
        if self.gguf is not None:
            return {"model_type": "GGUF file"}
        path = _downloaded(self.name) if self.folder is None else self.folder / "config.json"
        if not path.is_file():
            raise UserError(
                f"folder {self.folder} has no config.json; save a model there, or check the path"
            )
        config = read_json_object(path)
        check_config(path, config)
        return config

    @property
    def kind(self) -> Kind:
        """Which loader reads it.

        Raises:
            UserError: as `config`, and for a model of neither kind.
        """
        if self.name in published_models():
            return "control"
        if self.gguf is not None:
            return "language"
        model_type = str(self.config.get("model_type"))
        if model_type in _TYPES:
            return _TYPES[model_type]
        if model_type in ADAPTERS or self._generates:
            return "language"
        raise UserError(
            f"{self.name} is a model of type {model_type!r}, which is none that generates text "
            f"token by token, no video model and no Decision Transformer; name another"
        )

    @property
    def reads_text(self) -> bool:
        """Whether it comes with a tokenizer; of the Hub or in a GGUF file, every one does."""
        return self.folder is None or any((self.folder / f).is_file() for f in TOKENIZER_FILES)

    @property
    def _generates(self) -> bool:
        """Whether a class of the model's is a decoder's, multimodal ones included."""
        ends = ["ForCausalLM", "LMHeadModel"]
        if "text_config" in self.config:
            ends.append("ForConditionalGeneration")
        names = self.config.get("architectures") or ()
        return any(str(name).endswith(tuple(ends)) for name in names)


@typed
def kind_of(model: str | Path) -> Kind:
    """The kind of a model: a short or shipped name, a folder, or a hub id.

    Raises:
        UserError: there is no such model, its config.json is missing or damaged or cannot be
            fetched, or it is of another kind.
    """
    return Source(str(model)).kind


def find_model(name: str | Path, kind: Kind) -> Source:
    """Where a loader finds a model's files.

    Raises:
        UserError: as `kind_of`, or the model is of another kind than the loader's.
    """
    source = Source(str(name))
    if source.kind != kind:
        known = f" of {', '.join(_VIDEO)}" if kind == "video" else ""
        raise UserError(
            f"{name} is {_IN_WORDS[source.kind]} ({source.config.get('model_type')}), not "
            f"{_IN_WORDS[kind]}{known}; name {listed(shipped_models(kind))}, a folder or a hub id"
        )
    return source


def shipped_models(kind: Kind) -> list[str]:
    """Names of the models of one kind that come with the package."""
    return [name for name in _shipped() if Source(name).kind == kind]


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse sizes that no model has, before one is built of them, and kernels from outside.

    Args:
        path: of the file that says them.
        config: what it says.

    Raises:
        UserError: the first of them.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_config(path, value)
        most = _MOST.get(name, 0)
        # Some families give a list, for each layer its own.
        single = most and value is not None and not isinstance(value, list)
        if single and (type(value) is not int or not 1 <= value <= most):
            raise UserError(
                f"{path} says {name} {value!r}, not a whole number from 1 to {most:,}; "
                "download or save the model again"
            )
        if name in ("return_dict", "output_hidden_states") and type(value) is not bool:
            raise UserError(f"{path} says {name} {value!r}; use true or false")
        if "attn_implementation" in name and "/" in str(value):
            raise UserError(
                f"{path} says {name} {value!r}, which is code from the Hub and is not run; "
                "take the entry out"
            )


def _shipped() -> dict[str, Path]:
    namms = shipped("namm.safetensors")
    return {name: folder for name, folder in shipped("config.json").items() if name not in namms}


def _kept() -> dict[str, Path]:
    """Where models with a name of their own are, fetched or not."""
    return {**_shipped(), **{name: one.folder for name, one in FETCHED.items()}}


def _downloaded(repo: str) -> Path:
    """config.json of a repository of the Hub, as cached or fetched now."""
    from huggingface_hub import hf_hub_download

    logger = getLogger("huggingface_hub")
    level = logger.level
    # It tells each of five attempts, for half a minute.
    logger.setLevel(ERROR)
    try:
        with waiting(f"asking the Hugging Face Hub about {repo}"):
            return Path(hf_hub_download(repo, "config.json"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{repo!r} is no shipped model or folder, and its config.json could not be fetched "
            f"from the Hugging Face Hub ({_reason(error)}); check the name and the connection"
        ) from error
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """Why the Hub gives nothing, in words."""
    from huggingface_hub import errors

    for kind, words in (
        (errors.GatedRepoError, "its licence has to be accepted there, then `hf auth login`"),
        (errors.RepositoryNotFoundError, "it has no such repository, or a private one"),
        (errors.LocalEntryNotFoundError, "it cannot be reached"),
    ):
        if isinstance(error, kind):
            return words
    return type(error).__name__
