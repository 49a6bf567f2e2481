"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest

from transfer.cli import main
from transfer.policies import POLICIES

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs_and_prints_what_it_shows(capsys):
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert printed in README


def test_every_policy_is_in_the_table():
    table = re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert set(POLICIES) <= named


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`transfer (\w+)", README))))
def test_every_command_named_exists(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert command in capsys.readouterr().out
