"""What comes from outside: found by every way of naming it, checked, and refused in a sentence."""

import multiprocessing
import subprocess
import sys

import pytest
import tiny
import torch

import transfer
from transfer import Environment, attach, register
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.errors import UserError
from transfer.plugins import ADAPTERS, ENVIRONMENTS, POLICIES
from transfer.policies import get_policy
from transfer.policies.h2o import H2O

RULES = """
from dataclasses import dataclass
from transfer import Policy

@dataclass(frozen=True)
class Newest(Policy):
    power: int = 1
    name = "newest"

    def score(self, window, state):
        return window.positions.to(state.dtype) ** self.power, state

class Plain(Policy):
    name = "plain"

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def score(self, window, state):
        return self.sign * window.positions.to(state.dtype), state

class Nameless(Policy):
    def score(self, window, state):
        return state[..., 0], state

class Scoreless(Policy):
    name = "scoreless"

def function():
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, with a module of policies."""
    (tmp_path / "my_rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_rules", None)


@pytest.fixture
def installed(here):
    """Puts packages with entry points on the path."""

    def install(package, group="transfer.policies", **points):
        folder = here / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))

    sys.path.append(str(here))
    return install


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    for registry in (POLICIES, ADAPTERS, ENVIRONMENTS):
        registry._registered.clear()


def kept(policy, **settings):
    """Positions that a policy leaves of 64 tokens, in one head."""
    model = tiny.llama()
    with attach(model, policy, update_interval=16, budget=8, **settings) as memory:
        cache = memory.new_cache()
        with torch.no_grad():
            model(torch.randint(3, 97, (1, 64)), cache=cache)
    return cache.pruned[0].positions()[0].tolist()


@pytest.mark.usefixtures("here")
def test_a_policy_of_a_module_in_this_folder_with_its_settings():
    newest = list(range(56, 64))
    assert kept("my_rules:Newest") == newest
    assert kept("my_rules:Newest", power=3) == newest
    assert kept("my_rules:Plain", sign=-1) != newest == kept("my_rules:Plain", sign=1)
    assert get_policy("my_rules:Newest", power=2).power == 2
    with pytest.raises(UserError, match="setting of policy my_rules:Newest 'pwer'; did you mean p"):
        attach(tiny.llama(), "my_rules:Newest", budget=8, pwer=3)
    with pytest.raises(UserError, match=r"policy my_rules:Plain needs sign; give sign=\.\.\."):
        get_policy("my_rules:Plain")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my_rules:Nameless", "lacks name; define what transfer.cache.policy:Policy asks for"),
        ("my_rules:Scoreless", "lacks score; define what transfer.cache.policy:Policy asks for"),
        ("my_rules:function", "is <function .*; it must be a subclass of transfer.cache.policy"),
        (
            "my_rules:Newst",
            r"\(AttributeError: .*'Newst', found in .*my_rules\.py\); check the spelling",
        ),
        ("my_rule:Newest", r"cannot be imported \(ModuleNotFoundError: No module named 'my_rule'"),
        ("my_rules:", "unknown policy 'my_rules:'; known: "),
        (":Newest", "unknown policy ':Newest'; known: "),
        ("h20", "unknown policy 'h20'; did you mean h2o"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(name, sentence):
    with pytest.raises(UserError, match=sentence):
        get_policy(name)


def test_a_module_that_does_not_work(here):
    for text, error in (("1 +", "SyntaxError"), ("raise RuntimeError('no licence')", "no licence")):
        (here / "broken.py").write_text(text)
        with pytest.raises(UserError, match=rf"'broken:Rule' cannot be imported \(.*{error}"):
            POLICIES.get("broken:Rule")


def test_entry_points(installed):
    installed("one-package", mine="my_rules:Newest", missing="my_rules:Gone", gone="no_module:X")
    assert {"mine", "h2o"} <= set(POLICIES)
    assert next(iter(POLICIES)) == next(iter(POLICIES.built_in))
    assert "mine" in POLICIES
    assert get_policy("mine", power=2).name == "newest"
    for name in ("missing", "gone"):
        with pytest.raises(UserError, match=f"policy '{name}' cannot be imported .*; check the"):
            get_policy(name)
    with pytest.raises(UserError, match="unknown policy 'mien'; did you mean mine"):
        get_policy("mien")


def test_two_packages_with_one_name(installed):
    installed("one-package", mine="my_rules:Newest", same="my_rules:Newest")
    installed("other-package", mine="my_rules:Plain", same="my_rules:Newest")
    sentence = "more than one package; name one of my_rules:Newest and my_rules:Plain instead"
    with pytest.raises(UserError, match=sentence):
        get_policy("mine")
    assert get_policy("same").name == "newest"
    assert get_policy("my_rules:Plain", sign=1).name == "plain"


def test_no_package_changes_what_a_built_in_name_means(installed):
    installed("one-package", h2o="my_rules:Newest")
    assert POLICIES.get("h2o") is H2O
    assert list(POLICIES).count("h2o") == 1


def test_registered_for_this_process():
    class Mine(H2O):
        name = "mine"

    register("policy", "mine", Mine)
    assert POLICIES.get("mine") is Mine
    for name in ("mine", "h2o"):
        with pytest.raises(UserError, match=f"policy '{name}' is there already; choose another"):
            register("policy", name, Mine)
    with pytest.raises(UserError, match="unknown kind of plugin 'polcy'; did you mean policy"):
        register("polcy", "other", Mine)


class Named(Adapter):
    """Of models of a family that nobody named."""


def test_an_adapter_by_its_model_type(monkeypatch):
    model = tiny.llama()
    monkeypatch.setattr(model.config, "model_type", "my_family")
    assert type(get_adapter(model)) is Adapter
    register("adapter", "my_family", Named)
    assert type(get_adapter(model)) is Named
    with pytest.raises(UserError, match=r"adapter 'other' is <class .*H2O'>; it must be a sub"):
        register("adapter", "other", H2O)


def test_an_environment_is_an_instance():
    for thing in (Environment, "Hopper-v4"):
        with pytest.raises(UserError, match=r"environment 'mine' is .*; it must be an instance"):
            register("environment", "mine", thing)
    register("environment", "mine", Environment("Pendulum-v1"))
    assert "mine" in ENVIRONMENTS


def test_every_built_in_name_is_what_it_says():
    for registry in (POLICIES, ADAPTERS, ENVIRONMENTS):
        assert [registry.checked(name, registry.get(name)) for name in registry.built_in]


@pytest.mark.usefixtures("here")
def test_a_policy_from_outside_goes_to_a_spawned_process():
    policy = get_policy("my_rules:Newest", power=5)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [same] = pool.map(vars, [policy])
    assert same == {"power": 5}


def test_importing_it_does_not_wait_for_torch():
    program = (
        "import sys, transfer.plugins; transfer.register; list(transfer.plugins.POLICIES);"
        "print(sorted({'torch', 'transformers', 'gymnasium', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_top_names_are_there():
    names = set(transfer.__all__) - {"Benchmark"}
    assert all(getattr(transfer, name) is not None for name in names)
    with pytest.raises(AttributeError, match="module 'transfer' has no attribute 'atach'"):
        transfer.atach  # noqa: B018
