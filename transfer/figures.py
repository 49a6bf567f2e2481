"""Pictures by matplotlib, which the extra `report` brings."""

from typing import TYPE_CHECKING

from transfer.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]


def new_figure(width: int, height: int) -> "Figure":
    """An empty figure, of so many inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "matplotlib is not installed, which draws; run `pip install namm-transfer[report]`"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
