"""`generate` over a KV cache that an evolved NAMM prunes, for transformers' `custom_generate`.

A file of its own, as transformers copies it to where it keeps code from the Hub; what it does is in
the package namm-transfer.
"""

from typing import Any

# Tried, because transformers would otherwise name the package that has to be installed after the
# module; requirements.txt names the right one.
try:
    from transfer import NAMM, attach
except ImportError as error:
    raise ImportError("pruning with a NAMM needs `pip install namm-transfer`") from error


def generate(
    model: Any,
    namm: Any = "recall",
    budget: int | float | None = None,
    update_interval: int | None = None,
    **arguments: Any,
) -> Any:
    """Generate with `model.generate`, and let the NAMM prune the cache meanwhile.

    Args:
        model: a causal language model; it is left as it was.
        namm: a `NAMM`, the name of one that ships with namm-transfer, a folder or a Hub id.
        budget: tokens each head keeps, or a fraction (a float up to 1) of the tokens seen; None:
            those that the NAMM scores at 0 or more.
        update_interval: tokens between two prunings; None: fitted to the prompt.
        arguments: of `model.generate`.

    Returns:
        What `model.generate` returns.

    Raises:
        transfer.errors.UserError: the model cannot be pruned, or an argument is out of range.
        ValueError: a cache was given.
    """
    given = [name for name in ("cache", "past_key_values") if arguments.get(name) is not None]
    if given:
        raise ValueError(
            f"{given[0]} was given, and this generation prunes a cache of its own; leave it out, "
            "or attach a NAMM yourself (transfer.attach) to go on with a pruned cache"
        )
    namm = namm if isinstance(namm, NAMM) else NAMM.from_pretrained(namm)
    with attach(model, namm, update_interval=update_interval, budget=budget) as memory:
        return model.generate(**arguments | {"cache": memory.new_cache()})
