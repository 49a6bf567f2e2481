"""Options drawn from every command's own configuration: work, or a sentence; never a traceback."""

import re
from dataclasses import fields, is_dataclass
from importlib import import_module

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_control import save_tiny_control

from transfer.cli import COMMANDS, main, parse
from transfer.errors import UserError

NUMBERS = [
    "-1", "0", "1", "2", "3", "0.5", "1.0", "-0.5", "nan", "inf", "-inf", "1e300", "-1e300",
    "1e-320", "10000000000", "1" + "0" * 30, "1" + "0" * 400, "9" * 5000, "1e5", "0x10", "1_0", "٣",
]  # fmt: skip
TEXTS = [
    "", " ", "-", "--", "nope", "None", "none", "all", "True", "os:system", "os:", ":x", "a:b=1",
    "h2o:budget=nan", "h2o:budget=1e300", "recency:sinks=99999999999999999999", "namm:", "namm:x",
    "snapkv:kernel=10000000001", "random:seed=1" + "0" * 30, "recency:sinks=" + "[" * 500,
    "/", ".", "..", "/dev/null", "/dev/null/x", "é", "\udcff", "%s{}", "a" * 300, "x" * 5000,
]  # fmt: skip
#: A little work of each command that works; what is drawn follows, and the last one counts.
RUN = {
    "plan": "plan --context 64",
    "language": "eval language --model llama-recall --documents 1 --length 96 --policy recency",
    "control": "eval control --model {control} --episodes 1 --max-steps 3 --num-envs 1 "
    "--policy recency",
    "evolve": "evolve --out {out} --generations 1 --population 2 --documents 1 --lengths 96 "
    "--tasks recall --validation-documents 1 --rows 4",
}
#: What has to be said of the others for them to be read at all.
NEEDED = {
    "eval language": "--model x",
    "eval control": "--model x",
    "eval video": "--model x",
    "pretrain decision-transformer": "--dataset x --out x",
    "pretrain recall": "--out x",
    "pretrain video-llava": "--out x",
    "evolve": "--out x",
    "calibrate": "--model x --kept 0.5 --task recall",
    "inspect": "--video x",
    "import": "x y",
    "report": "x",
}
MANY = {"plan": 30, "language": 20, "control": 20, "evolve": 8}
#: What starts other processes, or asks for what is not on this machine.
LONG = {"engine", "device"}


def names(config):
    """Of all options of a configuration, those of nested ones among them."""
    for option in fields(config):
        kind = option.type if isinstance(option.type, type) else None
        made = option.default_factory() if callable(option.default_factory) else None
        if is_dataclass(made) or is_dataclass(kind):
            yield from names(type(made) if is_dataclass(made) else kind)
        else:
            yield option.name


def kinds():
    """The words before the options of every command, with its configuration."""
    for command in COMMANDS:
        configs = import_module(f"transfer.cli.{command}_command").CONFIG
        if isinstance(configs, dict):
            yield from ((f"{command} {kind}", config) for kind, config in configs.items())
        else:
            yield command, configs


KINDS = dict(kinds())


def options(config):
    """Some options with values, as words."""
    known = st.sampled_from([name for name in names(config) if name not in LONG])
    one = st.tuples(known, st.sampled_from(NUMBERS + TEXTS))
    return st.lists(one, min_size=1, max_size=3).map(
        lambda drawn: [word for name, value in drawn for word in (f"--{name}", value)]
    )


def drawn(many):
    return settings(
        max_examples=many,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def test_every_command_is_drawn_from():
    assert {words.split()[0] for words in KINDS} == set(COMMANDS)
    assert "update_interval" in list(names(KINDS["eval video"]))
    assert sum(len(list(names(config))) for config in KINDS.values()) > 150


@given(data=st.data())
@drawn(60)
def test_configurations_are_made_or_refused(data):
    words = data.draw(st.sampled_from(sorted(KINDS)))
    told = [*words.split(), *NEEDED.get(words, "").split(), *data.draw(options(KINDS[words]))]
    try:
        parse(told)
    except UserError as error:
        assert re.search(r"; |: use ", str(error)), error
        assert "\n" not in str(error)
    except SystemExit as ended:
        assert ended.code == 2


@pytest.mark.parametrize("name", RUN)
def test_commands_work_or_say_a_sentence(name, tmp_path_factory, capsys, monkeypatch):
    base = tmp_path_factory.mktemp(name)
    monkeypatch.chdir(base)
    control = save_tiny_control(base / "control")
    words = next(words for words in KINDS if words.split()[-1] == name)

    @given(options(KINDS[words]))
    @drawn(MANY[name])
    def draw(told):
        out = base / f"out{len(list(base.iterdir()))}"
        try:
            code = main([*RUN[name].format(control=control, out=out).split(), *told])
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert code in (0, 1, 2), told
        assert code == 0 or said.err.strip(), told
        assert "Traceback" not in said.err

    draw()
