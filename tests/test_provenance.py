from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro

import transfer
from transfer.provenance import command_line, versions


@dataclass(frozen=True)
class Run:
    out: Path | None = None
    threads: int | None = 1
    json: bool = False


@dataclass(frozen=True)
class Config:
    model: str
    max_steps: int = 5
    policy: tuple[str, ...] = ("h2o",)
    budget: tuple[int | float | None, ...] = (0.25,)
    bf16: bool = True
    memory: bool | None = None
    kept: Annotated[int, tyro.conf.arg(name="tokens-kept")] = 7
    run: tyro.conf.OmitArgPrefixes[Run] = field(default_factory=Run)


CASES = [
    (Config("dt"), "--model dt"),
    (Config("my model", 9, ("a", "b")), "--model 'my model' --max-steps 9 --policy a b"),
    (Config("dt", budget=(24, None, 0.5)), "--model dt --budget 24 None 0.5"),
    (Config("dt", bf16=False, memory=False), "--model dt --no-bf16 --memory False"),
    (Config("dt", kept=3), "--model dt --tokens-kept 3"),
    (Config("dt", run=Run(Path("x"), None, True)), "--model dt --out x --threads None --json"),
]


@pytest.mark.parametrize(("config", "options"), CASES)
def test_the_command_says_what_differs_from_the_default_and_is_read_back(config, options):
    line = command_line("eval control", config)
    assert line == f"transfer eval control {options}"
    words = [word.strip("'") for word in options.replace("my model", "my_model").split()]
    read = tyro.cli(Config, args=words, config=(tyro.conf.FlagCreatePairsOff,))
    assert command_line("eval control", read) == line.replace("'my model'", "my_model")


def test_defaults_of_a_nested_configuration_are_those_it_is_nested_with():
    @dataclass
    class Other:
        run: Run = Run(threads=4)

    assert command_line("x", Other()) == "transfer x"
    assert command_line("x", Other(Run())) == "transfer x --threads 1"


def test_of_absolute_paths_the_last_part_is_public():
    @dataclass
    class Named:
        out: Path
        data: tuple[str, ...]
        init: str | None = "x"

    config = Named(
        Path("/home/me/model"), ("/data/a.hdf5", "runs/b.hdf5", "hopper-medium-v2"), None
    )
    line = "transfer x --out model --data a.hdf5 runs/b.hdf5 hopper-medium-v2 --init None"
    assert command_line("x", config, public=True) == line
    assert "/home/me/model --data /data/a.hdf5" in command_line("x", config)


def test_versions_name_everything_that_computes():
    found = versions(env="Hopper-v4")
    assert list(found) == [
        "namm-transfer", "python", "torch", "transformers", "gymnasium", "mujoco", "numpy", "env",
    ]  # fmt: skip
    assert found["namm-transfer"] == transfer.__version__
    assert all(found.values())
    assert list(versions(("av",))) == ["namm-transfer", "python", "av"]
