"""`model.generate(custom_generate=FOLDER)` is `attach` and `generate`, and leaves no trace."""

import ast
import re
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from transfer import NAMM, attach
from transfer.errors import UserError

FOLDER = Path(__file__).parents[1] / "hub" / "custom_generate"
SETTINGS = {"budget": 0.25, "update_interval": 16}
PADDING = 9


@pytest.fixture(autouse=True)
def _code_of_its_own(tmp_path, monkeypatch):
    # Where transformers copies code to before it imports it.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)


def pruned(model, ids, **arguments):
    return model.generate(
        ids, custom_generate=str(FOLDER), trust_remote_code=True, max_new_tokens=20, **arguments
    )


@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": True, "temperature": 2.0},
        {"do_sample": False, "num_beams": 3},
        {"do_sample": False, "padding": True},
    ],
    ids=["sampling", "beams", "greedy with padding"],
)
def test_the_tokens_are_those_of_attach_and_generate(how):
    how, model = dict(how), tiny.llama()
    ids = torch.randint(3, 97, (2, 60))
    if how.pop("padding", None):
        ids[0, :PADDING] = 0
        how["attention_mask"] = (torch.arange(60) >= torch.tensor([[PADDING], [0]])).long()
    torch.manual_seed(3)
    told = pruned(model, ids, namm="recall", **SETTINGS, **how)
    torch.manual_seed(3)
    with attach(model, NAMM.from_pretrained("recall"), **SETTINGS) as memory:
        expected = model.generate(ids, cache=memory.new_cache(), max_new_tokens=20, **how)
        assert torch.equal(told, expected)
        assert memory.report().kept[0][0][0] < 60
    torch.manual_seed(3)
    assert not torch.equal(told, model.generate(ids, max_new_tokens=20, **how))


def test_a_namm_of_ones_own_and_its_threshold():
    model, ids, namm = tiny.llama(), torch.randint(3, 97, (1, 60)), NAMM.from_pretrained("replay")
    told = pruned(model, ids, namm=namm, update_interval=16, do_sample=False)
    with attach(model, namm, update_interval=16) as memory:
        expected = model.generate(ids, cache=memory.new_cache(), max_new_tokens=20, do_sample=False)
    assert torch.equal(told, expected)


def test_the_model_is_left_as_it_was_also_by_an_error():
    model, ids = tiny.llama(), torch.randint(3, 97, (1, 60))
    before = model.config._attn_implementation, model.generation_config.to_dict()
    own = model.generate(ids, max_new_tokens=20, do_sample=False)
    pruned(model, ids, do_sample=False, **SETTINGS)
    with pytest.raises(UserError, match="budget -1 keeps nothing"):
        pruned(model, ids, budget=-1)
    with pytest.raises(UserError, match="does not return its attention"):
        pruned(model, ids, output_attentions=True, return_dict_in_generate=True)
    assert (model.config._attn_implementation, model.generation_config.to_dict()) == before
    assert not any(hasattr(module, "transfer_tie") for module in model.modules())
    assert torch.equal(own, model.generate(ids, max_new_tokens=20, do_sample=False))


def test_a_cache_of_ones_own_is_refused():
    model, ids = tiny.llama(), torch.randint(3, 97, (1, 60))
    with pytest.raises(ValueError, match=r"cache was given, .* leave it out"):
        pruned(model, ids, cache=object())


def test_the_folder_is_as_the_hub_wants_it():
    readme = (FOLDER / "README.md").read_text()
    head = yaml.safe_load(readme.split("---\n")[1])
    assert head["library_name"] == "transformers" and "custom_generate" in head["tags"]
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    [call] = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "generate"
    ]
    told = {word.arg for word in call.keywords}
    named = set(re.findall(r"^\| `(\w+)`", readme, re.MULTILINE))
    source = ast.parse((FOLDER / "custom_generate" / "generate.py").read_text())
    [function] = [node for node in source.body if isinstance(node, ast.FunctionDef)]
    own = {argument.arg for argument in function.args.args} - {"model"}
    assert own == named and own <= told
