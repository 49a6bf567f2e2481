"""How a module of benchmarks ends that is run as a command."""

import sys
from collections.abc import Callable, Sequence

from transfer.cli import INTERRUPTED
from transfer.errors import UserError


def as_command(main: Callable[[Sequence[str]], None]) -> None:
    """Run it with the words of the command line; what is wrong with them is one sentence."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
