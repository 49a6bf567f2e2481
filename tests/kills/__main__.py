"""Kills every long command at random moments: `python -m tests.kills --kills 20`.

A run is killed by SIGKILL, every third by SIGTERM, at a moment drawn between its first sign of work
and its end; then the same command is given again, and what it leaves is compared with what a run
leaves that was not killed: rows and ledgers to the digit but for times, weights and recordings bit
for bit. Of `collect` the learner is a stand-in, and the steps of training after a kill are others,
for the episode under way is lost with its simulator; the rollouts of its policies are compared.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

# In a child that was forked other threads than one would not be there.
os.environ["OMP_NUM_THREADS"] = "1"

from .commands import COMMANDS
from .killing import try_command


def main() -> int:
    """Try the commands that were named, and print a line of the table for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--only", nargs="*", default=[""], help="commands, by beginnings of names")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    told = parser.parse_args()
    folder, all_equal = Path(tempfile.mkdtemp(prefix="kills-")), True
    print(
        f"{'command':32}{'runs':>6}{'killed':>8}{'resumed':>9}{'equal':>7}{'files':>7}{'seconds':>9}",
        flush=True,
    )
    for command in COMMANDS:
        if command.name.startswith(tuple(told.only)):
            rng = random.Random(f"{command.name} {told.seed}")
            began = time.monotonic()
            counts = try_command(command, told.kills, folder / command.name.replace(" ", "-"), rng)
            all_equal &= counts["equal"] == counts["resumed"] == told.kills
            print(
                f"{command.name:32}{told.kills:6}{counts['kills']:8}{counts['resumed']:9}"
                f"{counts['equal']:7}{counts['files']:7}"
                f"{time.monotonic() - began:9.0f}",
                flush=True,
            )
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
