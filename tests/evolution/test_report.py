"""The curve of a run, finished or not."""

import json

import pytest

from transfer.errors import UserError
from transfer.evolution.curve import draw_curve
from transfer.evolution.evolve import evolve


def test_the_curve_shows_every_seed_and_validation(configured, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    config = configured(seeds=(0, 2))
    evolve(config)
    figure = draw_curve(config.out)
    fitness, kept = figure.axes
    records = [
        json.loads(line)
        for line in (config.out / "seed-0" / "ledger.jsonl").read_text().splitlines()
    ]
    curve, validated = fitness.lines[:2]
    assert list(curve.get_ydata()) == pytest.approx([sum(r["fitness"]) / 4 for r in records])
    held = [r["validation"]["mean"]["fitness"] for r in records if r["validation"]]
    assert list(validated.get_ydata()) == held
    assert list(validated.get_xdata()) == [1, 3]
    assert [text.get_text() for text in fitness.get_legend().get_texts()] == [
        "seed-0, held out",
        "seed-2, held out",
    ]
    assert len(kept.lines) == 2
    figure.savefig(tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").stat().st_size > 1000


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no ledger in"):
        draw_curve(tmp_path)


def test_without_matplotlib_the_extra_to_install_is_named(configured, monkeypatch):
    import sys

    config = configured(generations=1)
    evolve(config)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install namm-transfer\[report\]"):
        draw_curve(config.out)
