"""Every engine gives the same numbers, leaves nothing running, and outlives its workers."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_worker import Broken, Tiny

from transfer.errors import SimulationError, UserError
from transfer.workers.engines import ENGINES, make_engine

HERE = "in-process"
PATH = os.pathsep.join(path for path in sys.path if path)


def engine_of(name, folder, **more):
    if name == "ray":
        pytest.importorskip("ray", reason="needs the extra `distributed`")
    return make_engine(name, partial(Tiny, folder), **more)


def pids(folder, what):
    return {int(path.name.split("-")[1]) for path in folder.glob(f"{what}-*")}


def lives(pid):
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(processes, seconds=10.0):
    deadline = time.monotonic() + seconds
    while any(map(lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(lives, processes))


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def importable_by_actors(monkeypatch):
    """What jobs are done with; worker processes know it anyhow."""
    monkeypatch.setenv("PYTHONPATH", PATH)


@pytest.mark.parametrize("name", ENGINES)
def test_results_come_in_the_order_of_jobs_and_are_the_same_everywhere(name, tmp_path):
    expected = [Tiny(tmp_path, "cpu").sum(seed) for seed in range(7)]
    with engine_of(name, tmp_path, threads=1) as engine:
        assert engine.map("sum", range(7)) == expected
        assert sorted(engine.imap("square", [2, 3])) == [(0, 4), (1, 9)]
        assert engine.map("square", []) == []


@pytest.mark.parametrize("name", ENGINES)
def test_workers_have_their_threads_and_device_and_are_made_once(name, tmp_path):
    before = torch.get_num_threads()
    with engine_of(name, tmp_path, workers=2, threads=3 if name == HERE else 1) as engine:
        found = {pid: facts for pid, *facts in engine.map("facts", range(6))}
        assert set(map(tuple, found.values())) == {(3 if name == HERE else 1, "cpu")}
        assert pids(tmp_path, "made") == set(found)
    assert torch.get_num_threads() == before
    assert name == HERE or gone(found)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_wrong_with_a_job_or_a_model_is_an_answer(name, tmp_path):
    with engine_of(name, tmp_path, workers=1) as engine:
        with pytest.raises(UserError, match=r"^number 3 is refused; use another$"):
            engine.map("refuse", [3])
        with pytest.raises(SimulationError, match=r"^the simulator broke down$"):
            engine.map("break_down", [None])
        with pytest.raises((RuntimeError, ZeroDivisionError), match="division by zero"):
            engine.map("divide", [0])
        assert engine.map("square", [3]) == [9]
    with make_engine(name, Broken) as engine, pytest.raises(UserError, match="no model on cpu"):
        engine.map("square", [3])


@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_lost_worker_is_replaced_and_its_job_done_again(name, tmp_path):
    with engine_of(name, tmp_path, workers=2) as engine:
        results = engine.map("die", [0, 2, 0, 0])
    assert results[1] == 2
    assert len(pids(tmp_path, "made")) in (3, 4)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_idle_worker_that_was_lost_is_replaced(name, tmp_path):
    with engine_of(name, tmp_path, workers=1) as engine:
        [(pid, *_)] = engine.map("facts", [None])
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        [(other, *_)] = engine.map("facts", [None])
        assert other != pid


@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_job_that_costs_every_worker_is_given_up(name, tmp_path):
    with engine_of(name, tmp_path, workers=1) as engine:
        with pytest.raises(UserError, match=r"a job lost its worker 3 times .* fewer --workers"):
            engine.map("die", [9])
        assert engine.map("square", [3]) == [9]


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_iterator_closed_early_leaves_nothing_running(name, tmp_path):
    with engine_of(name, tmp_path, workers=2) as engine:
        with closing(engine.imap("wait", [0.01, 0, 0, 0])) as results:
            assert next(results)[0] == 0
            while len(pids(tmp_path, "waits")) < 2:
                time.sleep(0.01)
            with pytest.raises(RuntimeError, match=r"an earlier imap .* is not done"):
                engine.map("square", [3])
        assert len(engine.map("facts", range(4))) == 4
        waiting = pids(tmp_path, "waits")
    assert gone(waiting)


SCRIPT = """
import signal
import sys
from functools import partial
from pathlib import Path
from tiny_worker import Tiny
from transfer.workers.engines import make_engine
if __name__ == "__main__":
    # A shell lets its background jobs ignore it, and so all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine = make_engine(sys.argv[2], partial(Tiny, Path(sys.argv[1])), workers=2)
    try:
        print("begins", flush=True)
        engine.map("wait", [0, 0, 0])
    except KeyboardInterrupt:
        print(engine.map("square", [3]), flush=True)
        engine.close()
"""


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_reaches_the_parent_alone_and_leaves_nothing_running(name, early, tmp_path):
    if name == "ray":
        pytest.importorskip("ray", reason="needs the extra `distributed`")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, script, tmp_path, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout and run.stdout.readline() == "begins\n"
    if early:
        # Worker processes are importing.
        time.sleep(0.5)
    while not early and len(pids(tmp_path, "waits")) < (1 if name == HERE else 2):
        time.sleep(0.01)
    # As a terminal does: to all processes of the group.
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (out, err, run.returncode) == ("[9]\n", "", 0)
    assert gone(pids(tmp_path, "made"))


def test_without_ray_the_extra_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install namm-transfer\[distributed\]"):
        make_engine("ray", partial(Tiny, tmp_path))


def test_what_a_machine_of_ray_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    with (
        engine_of("ray", tmp_path) as engine,
        pytest.raises(UserError, match=r"cannot be made .*No module named 'tiny_worker'"),
    ):
        engine.map("square", [3])


def test_ray_without_room_for_all_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"1000 workers need 1000 CPUs, Ray has .* here"):
        engine_of("ray", tmp_path, workers=1000)


def test_unknown_engines_name_the_nearest(tmp_path):
    with pytest.raises(UserError, match="unknown engine 'process'; did you mean processes"):
        make_engine("process", partial(Tiny, tmp_path))
