"""Settings that cannot work are refused in one sentence, before anything is loaded."""

import pytest

from transfer.errors import UserError


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"population": 1}, "a population of 1 has nothing to choose from"),
        ({"sigma": -1.0}, "sigma -1.0"),
        ({"search": "diagnal"}, "unknown search 'diagnal'; did you mean diagonal"),
        ({"engine": "rays"}, "unknown engine 'rays'; did you mean ray"),
        ({"features": "logs"}, "unknown feature 'logs'; did you mean log"),
        ({"scorer": "bma"}, "unknown scorer 'bma'"),
        ({"hidden": 0}, "hidden width 0"),
        ({"gamma": 1.0}, "gamma 1.0"),
        ({"tasks": ("recal",)}, "unknown task 'recal'; did you mean recall"),
        ({"tasks": ()}, "--tasks names none"),
        ({"models": ()}, "--models names none"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"seeds": (-1,)}, "--seeds is -1; use 0 or more"),
        ({"generations": 0}, "--generations is 0"),
        ({"validate_every": 0}, "--validate-every is 0"),
        ({"rows": 0}, "--rows is 0"),
        ({"keep_cost": -0.5}, "--keep-cost is -0.5"),
        ({"likelihood_weight": float("nan")}, "--likelihood-weight is nan"),
        ({"update_interval": (16, 40)}, "update interval 40 does not fit"),
        ({"budget": (12, 0)}, "budget 0 keeps nothing"),
        ({"share": ()}, "--share names none"),
        ({"share": ("head", "heads")}, "unknown share 'heads'; use head, layer, model"),
        ({"share": ("head", "layer"), "budget": ()}, "share layer is of a budget, and there is"),
        ({"share": ("model",)}, "share model goes by one threshold, and budget 12 was given"),
        ({"eviction": "exacct"}, "unknown eviction 'exacct'"),
    ],
)
def test_refuses(configured, changes, words):
    with pytest.raises(UserError, match=words):
        configured(**changes)
