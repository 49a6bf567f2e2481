"""Every spelling of a policy, and every mistake in one."""

from dataclasses import replace

import pytest
import torch
from toy_benchmark import Own

from transfer import NAMM, NAMMConfig
from transfer.cache.equal import at_equal_bytes
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import SHARING, Pruning
from transfer.errors import UserError
from transfer.evaluation.contenders import full, plan
from transfer.evaluation.control import ControlEval
from transfer.evaluation.digest import namm_digest
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import ContenderOptions
from transfer.namm.checkpoint import namm_place
from transfer.plugins import POLICIES
from transfer.policies.h2o import H2O
from transfer.policies.namm import NAMMPolicy
from transfer.policies.recency import Recency

SHAPE = LayerShape(batch=1, heads=4, kv_heads=2, dim=16, dtype=torch.float32)


def planned(*policy, **options):
    return plan(ContenderOptions(policy=policy, **{"budget": (24,), **options}))


def names(*policy, **options):
    return [one.name for one in planned(*policy, **options)]


@pytest.mark.parametrize(
    ("spelling", "pruning"),
    [
        ("h2o", Pruning(H2O(), 64, 24)),
        ("recency", Pruning(Recency(), 64, 24)),
        ("recency:sinks=0", Pruning(Recency(sinks=0), 64, 24)),
        ("fifo", Pruning(Recency(sinks=0), 64, 24)),
        ("fifo:budget=0.5", Pruning(Recency(sinks=0), 64, 0.5)),
        ("h2o:budget=32,update_interval=128", Pruning(H2O(), 128, 32)),
        ("recency:sinks=2,eviction=reference", Pruning(Recency(2), 64, 24, "reference")),
        ("toy_benchmark:Own:every=3", Pruning(Own(3), 64, 24)),
        ("toy_benchmark:Own:every=3,budget=0.25", Pruning(Own(3), 64, 0.25)),
        ("transfer.policies.recency:Recency", Pruning(Recency(), 64, 24)),
        ("h2o:keep_recent=8,sinks=2", Pruning(H2O(), 64, 24, keep_recent=8, sinks=2)),
        ("recency:keep_recent=8,sinks=2", Pruning(Recency(2), 64, 24, keep_recent=8)),
        ("toy_benchmark:Own:every=3,sinks=2", Pruning(Own(3), 64, 24, sinks=2)),
        ("h2o:share=layer", Pruning(H2O(), 64, 24, share="layer")),
        ("h2o:share=layer,share_floor=0", Pruning(H2O(), 64, 24, share="layer", share_floor=0)),
        ("recency:share=layer:sinks=2", Pruning(Recency(2), 64, 24, share="layer")),
    ],
)
def test_a_spelling_is_a_policy_its_settings_and_how_it_prunes(spelling, pruning):
    [found] = planned(spelling)
    assert (found.name, found.pruning) == (spelling, pruning)
    assert found.key == (spelling, pruning.budget)
    assert found.settings == {
        "budget": pruning.budget,
        "update_interval": pruning.update_interval,
        "eviction": pruning.eviction,
        "keep_recent": pruning.keep_recent,
        "sinks": pruning.sinks,
        "nominal": pruning.budget,
        "pair": None,
        "share": pruning.share,
        "share_floor": pruning.share_floor if pruning.share == "layer" else None,
        "threshold": None,
    }


def test_protected_tokens_are_those_of_the_options_but_where_a_spelling_says_others():
    spelled = ("h2o", "h2o:keep_recent=3", "h2o:sinks=0", "recency", "fifo", "namm:keep_recent=0")
    found = [one.pruning for one in planned(*spelled, keep_recent=6, sinks=2)]
    assert [(one.keep_recent, one.sinks) for one in found] == [
        (6, 2), (3, 2), (6, 0), (6, 2), (6, 0), (0, 2),
    ]  # fmt: skip
    # First in, first out is that under all options.
    assert found[4].policy == Recency(0)
    assert names("h2o", "h2o:keep_recent=6", keep_recent=6) == ["h2o"]


def test_sharing_is_that_of_the_options_but_where_a_spelling_says_another():
    spelled = ("namm", "h2o", "tova:share=head", "namm:share_floor=0.5", "namm:recall:share=model")
    found = [one.pruning for one in planned(*spelled, share="layer", share_floor=0.125)]
    assert [(one.share, one.share_floor, one.budget) for one in found] == [
        ("layer", 0.125, 24), ("layer", 0.125, 24), ("head", 0.125, 24), ("layer", 0.5, 24),
        ("model", 0.125, None),
    ]  # fmt: skip


def test_who_says_a_threshold_has_no_budget_and_is_there_once():
    found = planned("tova:threshold=0.02", "namm", "namm:threshold=-1", budget=(24, 0.25, None))
    assert [(*one.key, one.settings["share"], one.settings["threshold"]) for one in found] == [
        ("tova:threshold=0.02", None, "model", 0.02),
        ("namm", 24, "head", None),
        ("namm:threshold=-1", None, "model", -1),
        ("namm", 0.25, "head", None),
        ("namm", None, "model", 0.0),
    ]
    # A policy's own setting of that name stays its own.
    [own] = planned("toy_benchmark:Cut:every=2,threshold=3")
    assert (own.pruning.policy.threshold, own.pruning.threshold, own.pruning.budget) == (
        3,
        None,
        24,
    )


@pytest.mark.parametrize("spelling", ["namm:recall", "namm:recall:eviction=reference"])
def test_a_namm_is_named_in_the_spelling(spelling):
    [found] = planned(spelling, namm=("random",))
    assert isinstance(found.pruning.policy, NAMMPolicy)
    assert namm_digest(found.pruning.policy.namm) == namm_digest(NAMM.from_pretrained("recall"))
    assert found.name == spelling
    assert found.pruning.eviction == ("reference" if "reference" in spelling else "exact")


def test_namms_of_the_options_are_told_apart_by_their_shortest_names(tmp_path):
    for name in ("one", "deep/one", "other"):
        NAMM(NAMMConfig()).save_pretrained(tmp_path / name)
    one, deep, other = (str(tmp_path / name) for name in ("one", "deep/one", "other"))
    assert names("namm", namm=(one,)) == ["namm"]
    assert names("namm", "h2o", namm=(one, other)) == ["namm:one", "namm:other", "h2o"]
    assert names("namm", namm=(one, deep)) == [f"namm:{one}", f"namm:{deep}"]
    assert names("namm:budget=0.5", namm=(one, other)) == [
        "namm:one:budget=0.5",
        "namm:other:budget=0.5",
    ]
    assert names(f"namm:{deep}", "namm:recall", namm=(one,)) == [f"namm:{deep}", "namm:recall"]


def test_every_budget_is_run_and_one_of_its_own_once():
    found = planned("h2o", "recency:budget=5", budget=(24, 0.25))
    assert [one.key for one in found] == [
        ("h2o", 24),
        ("recency:budget=5", 5),
        ("h2o", 0.25),
    ]


def test_all_are_ours_and_without_a_budget_those_with_a_threshold():
    ours = [name for name in POLICIES.built_in if name != "full"]
    assert names("all") == ours
    assert names("all", budget=(None,)) == ["fastgen", "namm"]
    place, both = ours.index("namm"), ["namm:recall", "namm:random"]
    assert names("all", namm=("recall", "random")) == [*ours[:place], *both, *ours[place + 1 :]]
    # What is named beside it is not lost, nor run twice.
    assert names("all", "fifo", "h2o", "toy_benchmark:Own:every=3") == [
        *ours, "fifo", "toy_benchmark:Own:every=3",
    ]  # fmt: skip


def test_full_is_left_to_the_benchmark_and_prunes_nothing():
    assert names("full", "h2o") == ["h2o"]
    assert full().settings == dict.fromkeys(
        (
            "budget",
            "update_interval",
            "eviction",
            "keep_recent",
            "sinks",
            *SHARING,
            "nominal",
            "pair",
        )
    )
    assert full(32).pruning.update_interval == 32


def test_rules_have_the_bytes_of_the_first_namm_and_namms_their_tokens():
    options = ContenderOptions(
        policy=("namm", "h2o", "recency:update_interval=32", "tova:budget=9"),
        namm=("recall", "random"),
        budget=(24, 0.25),
        equal_bytes=True,
    )
    found = [one.pruning for one in plan(options, SHAPE, 512)]
    whole, own, shares = found[:4], found[4], found[5:]
    for budget, (recall, other, h2o, recency) in zip((24, 0.25), (whole, shares)):
        assert recall.budget == other.budget == budget
        assert min(h2o.budget, recency.budget) > budget
        assert h2o == at_equal_bytes(Pruning(H2O(), 64, budget), recall, SHAPE, 512)
        assert recency.update_interval == 32
    assert own.budget == 9
    same = plan(replace(options, equal_bytes=False), SHAPE, 512)
    assert [one.pruning.budget for one in same] == [24] * 4 + [9] + [0.25] * 4


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("h20", r"^unknown policy 'h20'; did you mean h2o"),
        ("fif", r"^unknown policy 'fif'"),
        ("h2o:budget", r"^policy 'h2o:budget' has the setting 'budget'; write name=value"),
        ("h2o:budget=32,often", r"^policy 'h2o:budget=32,often' has the setting 'often'; write"),
        ("h2o:=3", r"^policy 'h2o:=3' has the setting '=3'; write name=value"),
        ("recency:sink=0", r"^unknown setting of policy recency 'sink'; did you mean sinks\?$"),
        ("recency:sinks=-1", r"^recency cannot keep -1 sinks; use 0 or more$"),
        ("recency:budget=0", r"^budget 0 keeps nothing"),
        ("recency:budget=1.5", r"^budget 1.5 is neither a fraction nor whole tokens"),
        (
            "recency:budget=few",
            r"^policy 'recency:budget=few' has the budget 'few'; use a num",
        ),
        ("recency:budget=None", r"^policy recency has no threshold of its own; give it a budget"),
        ("recency:update_interval=0", r"^update interval 0 does not fit policy recency; use a pos"),
        ("h2o:update_interval=16.5", r"has the update_interval 16\.5; use a whole number$"),
        ("h2o:update_interval=often", r"has the update_interval 'often'; use a whole"),
        (
            "namm:update_interval=20",
            r"^update interval 20 does not fit policy namm; use a",
        ),
        ("recency:eviction=exakt", r"^unknown eviction 'exakt'; use exact or reference$"),
        ("h2o:share=heads", r"^unknown share 'heads'; use head, layer, model$"),
        ("h2o:share=3", r"^policy 'h2o:share=3' has the share 3; use head or layer or model$"),
        ("h2o:share=layer,share_floor=2", r"^share_floor is 2; use a part of the even share"),
        ("h2o:share_floor=few", r"has the share_floor 'few'; use a number from 0 to 1$"),
        ("h2o:share=layer,budget=None", r"^share layer is of a budget, and there is none; give"),
        ("h2o:share=model", r"^policy h2o has no threshold of its own; give it a budget"),
        ("namm:share=model,budget=9", r"^share model goes by one threshold, and budget 9 was"),
        ("namm:threshold=0,budget=9", r"^threshold 0 and budget 9 say both what leaves; give one"),
        ("tova:threshold=low", r"^policy 'tova:threshold=low' has the threshold 'low'; use a nu"),
        ("h2o:threshold=1", r"^the scores of policy h2o are of one budget or moment, so that no"),
        ("recency:sinks=many", r"^sinks of policy recency is 'many'; use a number, such as 4$"),
        ("namm:recal", r"^unknown NAMM 'recal'; did you mean recall"),
        ("sinks=0:budget=8", r"^policy 'sinks=0:budget=8' begins with a setting; begin with a"),
        ("recency:sinks=1:sinks=2", r"^policy 'recency:sinks=1:sinks=2' says sinks twice"),
        ("recency:sinks=1,sinks=1", r"says sinks twice; say it once$"),
        ("fifo:sinks=2", r"^policy 'fifo:sinks=2' says sinks twice"),
        ("h2o:budget=3:budget=4", r"says budget twice"),
        ("toy_benchmark:Own:every=1:every=2", r"says every twice"),
        ("namm:namm=x", r"^policy 'namm:namm=x' has the setting namm; name a NAMM as in namm:re"),
        ("recency:sinks=True", r"^sinks of policy recency is True; use a number, such as 4$"),
        (
            "toy_benchmark.py:Own",
            r"names a file; name its module from the .*, as toy_benchmark:Own",
        ),
        ("toy_benchmark:Own", r"^policy toy_benchmark:Own needs every; give every=\.\.\.$"),
        (
            "h2o:keep_recent=few",
            r"^policy 'h2o:keep_recent=few' has the keep_recent 'few'; use a wh",
        ),
        (
            "namm:sinks=1.5",
            r"^policy 'namm:sinks=1.5' has the sinks 1.5; use a whole number of tok",
        ),
        ("h2o:sinks=-1", r"^sinks is -1; use 0 to [0-9,]+ tokens$"),
        ("h2o:keep_recents=8", r"^policy h2o has no setting of its own, .* sinks, share, share_f"),
        (
            "snapkv:keep_recents=8",
            r"^unknown setting of policy snapkv .*; did you mean keep_recent",
        ),
        (
            "namm:keep_recent=20,sinks=5",
            r"^keep_recent 20 and sinks 5 protect 25 tokens, the newest among them, and the budget "
            r"is 24; raise it or protect fewer$",
        ),
        (f"recency:sinks={'-' * 3000}1", r"^sinks of policy recency is '-+"),
        ("full:keep_recent=2,budget=None", r"^policy full keeps everything; leave keep_recent out"),
        ("toy_benchmark:Owm", r"^policy 'toy_benchmark:Owm' cannot be imported \(AttributeError"),
        ("toy_bench:Own", r"^policy 'toy_bench:Own' cannot be imported \(ModuleNotFoundError"),
        ("toy_benchmark:Toy", r"^policy 'toy_benchmark:Toy' is .*; it must be a subclass of"),
    ],
)
def test_a_mistake_is_one_sentence(policy, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        planned(policy)
    assert "\n" not in str(caught.value)


def test_what_is_named_twice_is_one_contender(tmp_path, monkeypatch):
    NAMM(NAMMConfig()).save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert names("h2o", "h2o", budget=(24, 24.0, 24)) == ["h2o"]
    assert names("h2o", budget=(0.25, 0.25)) == ["h2o"]
    assert names("recency:sinks=0", "fifo", "fifo:budget=24") == ["recency:sinks=0"]
    assert names("recency", "recency:sinks=4", "transfer.policies.recency:Recency") == ["recency"]
    assert names("recency:sinks=1,budget=3", "recency:budget=3:sinks=1") == [
        "recency:sinks=1,budget=3"
    ]
    shipped = str(namm_place("recall"))
    same = ("recall", "namm-recall", shipped, "random")
    assert names("namm", namm=same) == ["namm:recall", "namm:random"]
    assert names("namm", "namm:namm-recall", namm=("recall",)) == ["namm"]
    folders = ("mine", "./mine", str(tmp_path / "mine"), "mine/../mine")
    assert names("namm", namm=folders) == ["namm"]
    # A token and everything are two things, whatever their numbers are to Python.
    assert names("h2o:budget=1", "h2o:budget=1.0") == ["h2o:budget=1", "h2o:budget=1.0"]


def test_tasks_and_returns_named_twice_are_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ("a.jsonl", "./a.jsonl", str(tmp_path / "a.jsonl"), "recall", "recall")
    config = LanguageEval(model="llama-recall", task=files, length=(64, 64))
    assert (config.task, config.length) == (("a.jsonl", "recall"), (64,))
    control = ControlEval(model="x", target_return=(3.0, 3.0, 4.0), memory=("full", "full"))
    assert (control.target_return, control.memory) == ((3.0, 4.0), ("full",))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"budget": ()}, "no budget was named"),
        ({"budget": (1, 1.0)}, "budget 1 is one token and budget 1.0 is all of them"),
        ({"budget": (24.5,)}, "budget 24.5 is not a fraction"),
        ({"budget": (0,)}, "budget 0 keeps nothing; use 1 token or more"),
        ({"budget": (1.5,)}, "budget 1.5 is not a fraction; use a number above 0"),
        ({"budget": (float("nan"),)}, "budget nan is not a fraction"),
        ({"namm": ()}, "no namm was named"),
        ({"update_interval": 0}, "--update-interval is 0; use 1 or more"),
        ({"keep_recent": -1}, "--keep-recent is -1; use 0 "),
        ({"sinks": -2}, "--sinks is -2; use 0 "),
    ],
)
def test_options_that_name_nobody_are_one_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        ContenderOptions(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"policy": ("h2o",), "budget": (24,)}, "equal bytes are those of the policy namm; add it"),
        ({"policy": ("namm", "fastgen"), "budget": (None,)}, "equal bytes need a budget of the NA"),
    ],
)
def test_equal_bytes_need_a_namm_with_a_budget(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        plan(ContenderOptions(equal_bytes=True, **options), SHAPE, 512)


def test_two_namms_of_one_name_are_refused(tmp_path):
    NAMM(NAMMConfig(hidden=4)).save_pretrained(tmp_path / "recall")
    options = ContenderOptions(
        policy=("namm:recall", "namm"), namm=(str(tmp_path / "recall"), "recall-stage-1")
    )
    with pytest.raises(UserError, match=r"two policies would be called 'namm:recall'; name one"):
        plan(options)
