"""The loop over ablations: what is missing is run, what is there is not, and the table says it."""

import pytest
import tiny

from benchmarks import ablations
from benchmarks.ablations import ROWS, main, planned
from transfer import cli
from transfer.errors import UserError


@pytest.fixture
def words(tmp_path):
    model = tmp_path / "model"
    tiny.llama(layers=1, vocabulary=128).save_pretrained(model)
    evolve = f"--models {model} --tasks recall --documents 1 --population 4 --lengths 96 --hidden 3"
    measure = f"language --model {model} --documents 2 --length 96 --budget 24"
    return [
        "--out", str(tmp_path / "out"), "--generations", "2", "--seeds", "0", "1",
        "--row", "narrow=--features log", "--row", "all=--features universal --scorer linear",
        "--evolve", f"{evolve} --budget 24 --validation-documents 1 --validate-every 9",
        "--measure", measure, "--measure", f"log_likelihood: {measure}",
    ]  # fmt: skip


def test_two_rows_and_again(words, tmp_path, monkeypatch, capsys):
    main(words)
    table = (tmp_path / "out" / "ablations.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    heads, _, narrow, everything = (line.split(" | ") for line in table.splitlines())
    assert heads[1:4] == ["parameters", "generations", "seconds"]
    assert (narrow[0], narrow[1], narrow[2]) == ("| narrow", "460", "2")
    assert (everything[0], everything[1]) == ("| all", "66")
    assert [len(line) for line in (narrow, everything)] == [6, 6]
    # Random models: log-likelihoods near that of guessing, and two seeds that differ.
    value, spread = narrow[5].rstrip(" |").split(" ± ")
    assert -8 < float(value) < -3 and float(spread) >= 0
    monkeypatch.setattr(ablations, "command", lambda words: pytest.fail("nothing is missing"))
    main(words)
    assert (tmp_path / "out" / "ablations.md").read_text() == table


def test_seconds_are_gone_on_for(words, tmp_path, monkeypatch):
    """Two generations at a time until half of a second is computed, told by a ledger made up."""
    spent, calls = {"total": 0.2}, []
    monkeypatch.setattr(ablations, "read_ledger", lambda path: [{"seconds": spent}] * 100)
    monkeypatch.setattr(ablations, "command", lambda words: calls.append(words) or 0)
    monkeypatch.setattr(ablations, "ended", lambda run: 0)
    plan = planned([*words, "--seconds", "0.5"])
    assert ablations.evolved(plan, "", tmp_path, 0) == (4, pytest.approx(0.8))
    assert [words[words.index("--generations") + 1] for words in calls] == ["2", "4"]


def test_a_run_of_more_generations_is_not_taken_for_one_of_fewer(words, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "read_ledger", lambda path: [{"seconds": {"total": 0.2}}] * 9)
    monkeypatch.setattr(ablations, "ended", lambda run: 6)
    monkeypatch.setattr(ablations, "command", lambda words: pytest.fail("nothing is missing"))
    assert ablations.evolved(planned([*words, "--seconds", "1"]), "", tmp_path, 0)[0] == 6
    for more in ([], ["--seconds", "0.5"]):
        with pytest.raises(UserError, match=r"has made 6 generations, and here [24] are enough"):
            ablations.evolved(planned([*words, *more]), "", tmp_path, 0)


def test_a_command_that_fails_is_named(words):
    with pytest.raises(UserError, match=r"transfer evolve .*--scorer bma.* failed"):
        main([*words, "--evolve", "--scorer bma"])


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_one_that_evolution_takes(name, tmp_path):
    usual, _ = cli.parse(["evolve", "--out", str(tmp_path)])
    config, _ = cli.parse(["evolve", "--out", str(tmp_path), *ROWS[name].split()])
    assert (config == usual) is (name == "log")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rows", "lgo"], "did you mean log"),
        (["--row", "layer"], "--row 'layer' has no ="),
        (["--generations", "0"], "--generations is 0; use 1 or more"),
        (["--seconds", "nan"], "--seconds is nan; use a number above 0"),
        (["--seeds", "0", "0"], "--seeds 0 0: give different numbers"),
    ],
)
def test_bad_arguments_are_named(more, said):
    with pytest.raises(UserError, match=said):
        planned(["--out", "out", "--generations", "1", *more])
