import subprocess
import sys

import pytest

from transfer.envs.environment import environment
from transfer.plugins import ENVIRONMENTS

CORRIDORS = ("tmaze", "gates", "gates4")
OTHERS = ("minigrid-memory", "repeat-previous", "autoencode", "concentration")


@pytest.mark.parametrize("name", [*CORRIDORS, *OTHERS])
def test_what_a_name_says_is_what_is_made(name):
    said, made = ENVIRONMENTS.get(name), environment(name)
    assert said == made
    assert (made.name, made.success, made.cues) == (name, True, True)


def test_without_the_packages_the_extra_is_named_and_corridors_are_there():
    program = (
        "import sys; sys.modules.update(minigrid=None, popgym=None)\n"
        "from transfer.envs.environment import environment\n"
        "from transfer.errors import UserError\n"
        f"for name in {CORRIDORS}: environment(name)\n"
        f"for name in {OTHERS}:\n"
        "    try: environment(name)\n"
        "    except UserError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert [
        line.endswith("run `pip install namm-transfer[memory]`") for line in run.stdout.splitlines()
    ] == [True] * 4
