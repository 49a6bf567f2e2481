"""Packages that only some benchmarks need: imported when they are used, named when they lack."""

import warnings
from importlib import import_module
from types import ModuleType

from transfer.errors import UserError


def needed(name: str) -> ModuleType:
    """A module of the extra `benchmarks`.

    Raises:
        UserError: it is not installed, or something that it needs is not.
    """
    try:
        # Some were written for older Pythons, and the compiler warns of how they spell patterns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError as error:
        raise UserError(
            f"the package {name.partition('.')[0]} cannot be imported ({error}); "
            "run `pip install 'namm-transfer[benchmarks]'`"
        ) from error
