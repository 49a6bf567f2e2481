"""Killed at any moment and resumed, a run ends with the same bits."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import torch

from transfer.cli import parse
from transfer.errors import UserError
from transfer.evolution.evolve import evolve
from transfer.evolution.ledger import Ledger, read_ledger
from transfer.namm.network import NAMM
from transfer.provenance import command_line

SCRIPT = """
import json, sys
from pathlib import Path
from transfer.adapters.placement import Placement
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evolve import evolve
if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    told = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    place = Placement(**told["place"])
    evolve(EvolveConfig(**told | {"out": Path(told["out"]), "place": place}))
"""


def start(config) -> subprocess.Popen:
    told = json.dumps(asdict(config), default=str)
    return subprocess.Popen([sys.executable, "-c", SCRIPT, told], stderr=subprocess.DEVNULL)


def kill_after(process, ledger, lines):
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if ledger.is_file() and ledger.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be killed"
    process.kill()
    process.wait()


def contents(run, seeds=(0,)):
    names = [f"seed-{seed}/{kind}" for seed in seeds for kind in ("namm", "last")]
    return {
        name: (run / name / "namm.safetensors").read_bytes() for name in ["namm", "start", *names]
    }


def test_killed_twice_and_resumed_it_ends_with_the_same_bits(configured, ledger_of):
    whole = configured(out=configured().out.parent / "whole", generations=24)
    evolve(whole)
    config = configured(generations=24, resume=True)
    ledger = config.out / "seed-0" / "ledger.jsonl"
    for lines in (3, 11):
        kill_after(start(config), ledger, lines)
    done = ledger.read_bytes().count(b"\n")
    assert 11 <= done < 24
    evolve(config)
    assert ledger_of(config.out) == ledger_of(whole.out)
    assert contents(config.out) == contents(whole.out)


@pytest.mark.parametrize("search", ["full", "isotropic", "random"])
def test_a_ledger_cut_anywhere_resumes_to_the_same_bits(configured, ledger_of, search):
    whole = configured(out=configured().out.parent / "whole", search=search, seeds=(0, 1))
    evolve(whole)
    config = configured(search=search, seeds=(0, 1), resume=True)
    evolve(config)
    ledger = config.out / "seed-0" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-200])
    (config.out / "seed-0" / "namm" / "namm.safetensors").unlink()
    (config.out / "seed-1" / "ledger.jsonl").unlink()
    evolve(config)
    assert ledger_of(config.out) == ledger_of(whole.out)
    assert contents(config.out, (0, 1)) == contents(whole.out, (0, 1))


def test_a_finished_run_is_resumed_to_itself_or_to_more_generations(configured, ledger_of):
    config = configured(resume=True)
    evolve(config)
    before = contents(config.out)
    evolve(config)
    assert contents(config.out) == before
    evolve(configured(resume=True, generations=6, seeds=(0, 5)))
    assert len(ledger_of(config.out)) == len(ledger_of(config.out, 5)) == 6
    whole = configured(out=config.out.parent / "whole", generations=6)
    evolve(whole)
    last = "seed-0/last"
    assert contents(config.out)[last] == contents(whole.out)[last]


def rewritten(ledger, change):
    """The lines after a change, as if they had been written so."""
    records = [change(number, record) for number, record in enumerate(read_ledger(ledger))]
    ledger.unlink()
    with Ledger(ledger) as file:
        for record in records:
            file.append(record)


def test_a_ledger_of_another_population_is_refused(configured):
    config = configured(resume=True)
    evolve(config)
    rewritten(
        config.out / "seed-0" / "ledger.jsonl",
        lambda number, record: record | {"ranks": record["ranks"][::-1]} if number == 1 else record,
    )
    with pytest.raises(UserError, match=r"generation 2 of .* was made from another population"):
        evolve(config)


@pytest.mark.parametrize("changes", [{"keep_cost": 0.5}, {"documents": 3}, {"population": 6}])
def test_a_ledger_of_another_run_is_refused(configured, changes):
    config = configured(resume=True, generations=1)
    evolve(config)
    other = configured(out=config.out.parent / "other", generations=1, **changes)
    evolve(other)
    ledger = "seed-0/ledger.jsonl"
    (config.out / ledger).write_bytes((other.out / ledger).read_bytes())
    with pytest.raises(UserError, match=r"generation 0 of .* is of another run; put its own back"):
        evolve(config)


def test_a_ledger_of_another_seed_is_refused(configured):
    config = configured(resume=True, generations=1, seeds=(0, 1))
    evolve(config)
    one, other = (config.out / f"seed-{seed}/ledger.jsonl" for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="was made from another population"):
        evolve(config)


def test_a_run_that_lost_or_changed_what_it_was_told_is_refused(configured):
    config = configured(generations=1)
    evolve(config)
    path = config.out / "run.json"
    whole = path.read_text()
    path.write_text(whole.replace('"stage": 0', '"stage": 1'))
    with pytest.raises(UserError, match=r"run\.json was changed after it was written; put it back"):
        evolve(configured(resume=True))
    path.write_text('{"config": {}}')
    with pytest.raises(UserError, match=r"does not say what a run of transfer evolve was told"):
        evolve(configured(resume=True))
    path.unlink()
    for resume in (False, True):
        with pytest.raises(UserError, match=r"holds ledgers but no run\.json .*put it back, or"):
            evolve(configured(resume=resume))
    path.write_text(whole)
    NAMM(config.namm, None, torch.ones(17), torch.ones(17)).save_pretrained(config.out / "start")
    with pytest.raises(UserError, match=r"start is not where the run started; put it back"):
        evolve(configured(resume=True))


def test_a_run_of_earlier_words_is_resumed_and_its_settings_are_compared(configured):
    config = configured(generations=1)
    evolve(config)
    run = json.loads((config.out / "run.json").read_text())
    for new, old in (("budget", "budgets"), ("update_interval", "intervals")):
        run["config"][old] = run["config"].pop(new)
    # Those have no digest, no identity and no start.
    for name in ("digest", "identity", "start"):
        del run[name]
    (config.out / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match=r"evolved with --budget 12 24, this command says 12;"):
        evolve(configured(generations=2, resume=True, budget=(12,)))
    evolve(configured(generations=2, resume=True))


def test_earlier_spellings_of_options_are_understood(tmp_path):
    words = ["evolve", "--out", str(tmp_path), "--budgets", "8", "0.5", "--intervals", "16"]
    config, _ = parse(words)
    assert (config.budget, config.update_interval) == ((8, 0.5), (16,))
    assert "--budget 8 0.5 --update-interval 16" in command_line("evolve", config)
