import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_control import save_tiny_control

import transfer
from transfer import cli
from transfer.adapters.decision_transformer import WindowController
from transfer.errors import SimulationError
from transfer.evaluation import control_benchmark
from transfer.evaluation.store import read_results

DATA = Path(__file__).parent / "data"
QUICK = ("--episodes", "2", "--max-steps", "25", "--budget", "8", "--update-interval", "32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return str(save_tiny_control(tmp_path_factory.mktemp("tiny")))


def run(*words: object) -> int:
    """Exit code of `transfer` with these words; tyro leaves by SystemExit."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1


def test_eval_prints_tables_and_writes_results(tiny, tmp_path, capsys):
    assert run("eval", "--model", tiny, *QUICK, "--out", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    results = read_results(tmp_path / "out")
    assert list(dict.fromkeys(entry["policy"] for entry in results.summary)) == [
        "window", "cache", "full", "namm", "h2o", "fifo",
    ]  # fmt: skip
    for entry in results.summary:
        assert f" {entry['policy']} " in out
    assert "after 3 steps" in out
    assert "error" not in err


def test_json_is_all_that_reaches_standard_output(tiny, tmp_path, capfd):
    words = ("eval", "--model", tiny, *QUICK, "--memory", "window", "--policy", "recency", "--json")
    assert run(*words, "--out", tmp_path) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert sorted(printed["command"].split()) == sorted(
        ["transfer", *words, "control", "--out", str(tmp_path)]
    )
    policies = [entry["policy"] for entry in printed["summary"] if entry["metric"] == "return"]
    assert policies == ["window", "recency", "fifo"]
    assert (printed["kind"], printed["metrics"]) == ("control", ["d4rl_score", "return"])
    assert printed["interrupted"] is False


def test_the_same_command_twice_gives_the_same_rows(tiny, tmp_path):
    words = ("eval", "--model", tiny, *QUICK, "--seeds", "3", "9", "--target-return", "900", "50")
    assert run(*words, "--out", tmp_path / "a") == run(*words, "--out", tmp_path / "b") == 0
    first, second = (read_results(tmp_path / name).rows for name in "ab")
    assert [_untimed(row) for row in first] == [_untimed(row) for row in second]
    assert len(first) == 6 * 2 * 4


def _untimed(row):
    return {name: value for name, value in row.items() if not name.endswith("seconds")}


def test_ctrl_c_says_what_is_kept_and_exits_with_130(tiny, tmp_path, monkeypatch, capsys):
    class Impatient(WindowController):
        def select(self, rows):
            raise KeyboardInterrupt

    monkeypatch.setattr(control_benchmark, "WindowController", Impatient)
    assert run("eval", "--model", tiny, *QUICK, "--episodes", "4", "--out", tmp_path) == 130
    kept = read_results(tmp_path)
    assert kept.interrupted and 1 <= len(kept.rows) < 4
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line == (
        f"interrupted: {len(kept.rows)} rows are kept in {tmp_path};"
        " the same command goes on from there"
    )


def test_ctrl_c_before_the_first_episode_still_exits_with_130(tiny, monkeypatch, capsys):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(control_benchmark, "load_control_model", interrupted)
    assert run("eval", "--model", tiny) == 130
    said = "interrupted: no result was kept; --out keeps what has ended\n"
    assert capsys.readouterr().err == said


def test_a_breakdown_of_everything_is_a_sentence_and_keeps_the_rows(
    tiny, tmp_path, monkeypatch, capsys
):
    class Broken(WindowController):
        def select(self, rows):
            raise SimulationError("Hopper-v4, seed 1, step 17: it broke")

    monkeypatch.setattr(control_benchmark, "WindowController", Broken)
    assert run("eval", "--model", tiny, *QUICK, "--episodes", "4", "--out", tmp_path) == 1
    assert capsys.readouterr().err.strip() == "error: Hopper-v4, seed 1, step 17: it broke"
    assert (tmp_path / "rows.jsonl").read_text().count("\n") >= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model", "decision-transformr"), "did you mean decision-transformer"),
        (("--model", "llama"), "unknown model 'llama'"),
        (("--model", "./nowhere"), "there is no folder ./nowhere; check the path"),
        (("--model", __file__), "is a file; name the folder of a model, or a GGUF file"),
        (("--model", "decision-transformer", "--env", "walker"), "unknown environment 'walker'"),
        (
            ("--model", "decision-transformer", "--env", "walker2d", "--quality", "mixed"),
            "no Decision Transformer of quality mixed for walker2d is shipped",
        ),
        (("--env", "halfcheetah"), "trained for hopper, not for halfcheetah"),
        (("--policy", "h2"), "unknown policy 'h2'; did you mean h2o"),
        (("--policy", "h2o,namm"), "write several with spaces between: h2o namm"),
        (("--policy", "recency", "--budget", "None"), "policy recency has no threshold"),
        (("--policy", "recency", "--budget", "none"), "policy recency has no threshold"),
        (
            ("--policy", "recency", "--budget", "1", "1.0"),
            "budget 1 is one token and budget 1.0",
        ),
        (("--policy", "rules"), "(one of your own: package.module:Name)"),
        (("--policy", "rules.py:Mine"), "names a file; name its module"),
        (("--policy", "test:Mine"), "no attribute 'Mine', found in "),
        (("--quality", "medium"), "data, not on medium"),
        (("--policy", "namm", "--namm", "recal"), "unknown NAMM 'recal'"),
        (("--target-return", "nan"), "--target-return is nan"),
        (("--target-return", "1000", "-inf"), "--target-return is -inf"),
        (("--episodes", "0"), "episodes is 0"),
        (("--max-steps", "41"), "longer than the 40 time steps"),
        (("--budget", "0"), "budget 0 keeps nothing"),
        (("--budget=-3"), "budget -3 keeps nothing"),
        (("--budget", "1.5"), "budget 1.5 is not a fraction"),
        (("--video", "film.avi"), "none of the suffixes .mp4 and .gif"),
        (("--update-interval", "20"), "update interval 20 does not fit policy namm"),
        (("--engine", "processes", "--workers", "0"), "workers is 0"),
        (("--policy", "recency:sinks"), "write name=value"),
        (("--policy", "recency:sinks=-1"), "recency cannot keep -1 sinks"),
        (("--policy", "recency:sink=1"), "unknown setting of policy recency 'sink'; did you mean"),
        (("--policy", "nowhere.rules:Mine"), "policy 'nowhere.rules:Mine' cannot be imported"),
        (("--policy", "pathlib:Path"), "must be a subclass of transfer.cache.policy:Policy"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tiny, words, sentence, capsys):
    given = (words,) if isinstance(words, str) else words
    model = () if "--model" in given else ("--model", tiny, "--max-steps", "25")
    assert run("eval", *model, *given) == 2
    out, err = capsys.readouterr()
    [line] = err.strip().splitlines()
    assert line.startswith("error: ")
    assert sentence in line
    assert out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval",), "needs a kind, language or video or control or suite"),
        (("eval", "--modle", "x"), "name a model with --model"),
        (("eval", "languag", "--model", "x"), "did you mean language"),
        (("eval", "--suite"), "--suite says nothing; give it zero-shot"),
        (("eval", "language"), "needs --model: llama-recall, smollm2-135m"),
        (("eval", "control", "--model"), "--model says nothing"),
        (("eval", "control", "--model", "x", "--quality"), "--quality says nothing"),
        (("eval", "control", "--model", "x", "--memory", "windw"), "use window or cache or full"),
        (("eval", "control", "--model", "x", "--delayed", "yes"), "use True or False or None"),
        (("eval", "control", "--model", "x", "--target-return", "high"), "high; use a number"),
        (("eval", "control", "--model", "x", "--env-version", "v3"), "v3; use v4 or v5"),
        (("eval", "language", "--model", "x", "--budget", "25%"), "25 % is 0.25"),
        (("eval", "language", "--model", "x", "--documents", "1.5"), "use a whole number or None"),
        (("eval", "video", "--model", "x", "--documents", "3"), "of `transfer eval language`"),
        (("eval", "language", "--model", "x", "--budget", "0,25"), "a point for decimals"),
        (("calibrate", "--model", "x", "--kept", "25", "--task", "recall"), "25 % is 0.25"),
        (("eval", "--suite", "zero-shot", "--section", "vidio"), " more"),
        (("import", ".", "namm"), ". is a folder; name the checkpoint's file"),
        (("report", "nowhere"), "nowhere"),
        (("eval", "language", "--model", "a", "b"), "'b' belongs to no option; put quotes around"),
        (("evaluate",), "unknown command 'evaluate'; did you mean eval"),
        (("--versions",), "did you mean --version"),
        (("plan", "--modle", "x"), "did you mean --model"),
        (("pretrain",), "needs a kind, decision-transformer or recall or video-llava"),
        (("pretrain", "recal"), "did you mean recall"),
        (("import", "only-one"), "needs OUT: folder of the NAMM"),
        (("get", "a", "b"), "'b' belongs to no option"),
        (("--tyro-print-completion", "bahs"), "did you mean bash"),
    ],
)
def test_words_that_do_not_fit_are_a_sentence_too(words, said, capsys):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("error: ") and said in line
    assert not any(internal in line for internal in ("Traceback", "tyro.", "transfer.cli"))


@pytest.mark.parametrize(("option", "name"), [("--out", "out"), ("--video", "film.mp4")])
def test_an_unwritable_place_is_refused_before_anything_runs(
    tiny, tmp_path, option, name, monkeypatch, capsys
):
    def played(*args, **kwargs):
        pytest.fail("an episode was played")

    monkeypatch.setattr(control_benchmark, "stream", played)
    (tmp_path / "file").write_text("")
    words = ("eval", "--model", tiny, *QUICK, option, tmp_path / "file" / name)
    assert run(*words) == 2
    assert "choose a folder you may write to" in capsys.readouterr().err


def test_import_makes_a_namm_that_eval_can_use(tiny, tmp_path, capsys):
    assert run("import", DATA / "ckpt_hidden1.pt", tmp_path / "namm") == 0
    assert str(tmp_path / "namm") in capsys.readouterr().out
    words = ("--memory", "full", "--policy", "namm", "--namm", tmp_path / "namm")
    assert run("eval", "--model", tiny, *QUICK, *words, "--out", tmp_path / "out") == 0
    rows = read_results(tmp_path / "out").rows
    assert list(dict.fromkeys(row["policy"] for row in rows)) == ["full", "namm", "fifo"]


def test_import_of_a_missing_file_is_a_sentence(tmp_path, capsys):
    assert run("import", tmp_path / "none.pt", tmp_path / "namm") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "namm").exists()


def test_doctor_says_what_works_line_by_line(capsys):
    assert run("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "versions", "simulator", "video", "rendering", "decord", "d4rl", "sbx", "gguf", "minari",
        "minigrid", "popgym", "control", "language", "video-qa", "NAMMs",
    ]  # fmt: skip
    assert transfer.__version__ in lines[0]
    assert all(line.startswith("ok ") for line in lines[:3])


def test_doctor_checks_that_pruning_a_model_is_exact(tiny, capsys):
    assert run("doctor", "--model", tiny) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "pruned and exact" in last


def test_doctor_refuses_an_unknown_model(tmp_path, capsys):
    assert run("doctor", "--model", tmp_path) == 2
    assert "has no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pretrain", "decision-transformer", "--dataset", "none.hdf5", "--out", "m"), "none.hdf5"),
        (("pretrain", "decision-transformer", "--dataset", "--out", "m"), "no dataset"),
        (("collect", "--out", "d", "--steps", "0"), "--steps is 0"),
        (("collect", "--out", "d", "--env", "hoper"), "did you mean hopper"),
    ],
)
def test_makers_of_models_and_data_refuse_in_a_sentence(
    words, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and sentence in line
    assert list(tmp_path.iterdir()) == []


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"transfer {transfer.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "compare cache policies"),
        (("eval",), "language"),
        (("eval",), "video"),
        (("eval",), "control"),
        (("eval",), "suite"),
        (("eval", "control"), "--target-return"),
        (("eval", "language"), "--documents"),
        (("eval", "--model", "llama-recall"), "--documents"),
        (("eval", "--suite", "zero-shot"), "--quick"),
        (("eval", "--policy", "h2o"), "language"),
        (("pretrain",), "decision-transformer"),
        (("pretrain", "decision-transformer"), "--dataset"),
        (("collect",), "--out"),
        (("import",), "checkpoint"),
        (("inspect", "video"), "--question"),
        (("doctor",), "--model"),
        (("doctor",), "--dtype"),
        (("inspect", "control"), "--device"),
        (("evolve",), "--dtype"),
        (("eval", "language"), "--device"),
        (("eval", "control"), "--dtype"),
        (("eval", "suite"), "--dtype"),
        (("eval", "video"), "--device-map"),
        (("get",), "package registry"),
        (("calibrate",), "--kept"),
        (("record",), "--documents"),
    ],
)
@pytest.mark.parametrize("how", ["-h", "--help", "--help-all"])
def test_help_documents_every_command(words, said, how, capsys):
    assert run(*words, how) == 0
    assert said in " ".join(capsys.readouterr().out.replace("│", " ").split()).lower()


LIGHT = (
    "eval", "report", "leaderboard", "calibrate", "get", "plan", "inspect", "import", "doctor",
)  # fmt: skip
MAKERS = ("evolve", "record", "pretrain", "collect")


@pytest.mark.parametrize(
    ("commands", "absent"),
    [
        (LIGHT, {"torch", "transformers", "gymnasium", "numpy"}),
        (MAKERS, {"torch", "transformers"}),
    ],
)
def test_help_and_refusals_do_not_wait_for_torch(commands, absent):
    code = (
        "import sys, transfer.cli as cli\n"
        "def run(*words):\n"
        "    try: return cli.main(words)\n"
        "    except SystemExit as end: return end.code\n"
        "codes = [run()]\n"
        "for command in sys.argv[1:]:\n"
        "    kinds = cli._command(command).CONFIG\n"
        "    for kind in [[], *([one] for one in (kinds if isinstance(kinds, dict) else ()))]:\n"
        "        asked = ('--help', '--help-all', '--nope')\n"
        "        codes += [run(command, *kind, how) for how in asked]\n"
        "codes += [run('eval', '--model', 'llava-next-video', '--help')]\n"
        f"print(set(codes), {absent} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "{0, 2} set()", done.stderr


def test_a_table_with_long_names_is_whole(capsys):
    from rich.console import Group

    from transfer.cli.eval_command import print_table
    from transfer.evaluation.tables import new_table

    names, numbers = (
        ["policy", "- full"],
        ["my_package.my_rules:" + "Rule" * 20, "-82.5 [-90.0 -75.0]"],
    )
    print_table(Group(new_table("title", names, [numbers])))
    assert " ".join(numbers) in " ".join(capsys.readouterr().out.split())
