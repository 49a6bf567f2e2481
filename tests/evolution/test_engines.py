"""Worker processes and Ray's actors give the numbers of this process, also when one is lost."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from transfer.errors import UserError
from transfer.evolution.cases import fitness_cases
from transfer.evolution.evaluator import Evaluator
from transfer.evolution.evolve import evolve
from transfer.evolution.fitness import Weights, evaluate
from transfer.evolution.genome import Genome
from transfer.workers.engines import make_engine


def engine_of(name, config):
    return make_engine(name, partial(Evaluator, config.models, ()), threads=1)


def generation(engine, config):
    genome = Genome(config.namm, (0.0,) * 17, (1.0,) * 17)
    vectors = np.random.default_rng(0).standard_normal((12, genome.size))
    cases = fitness_cases(config, 0, 0)
    return evaluate(engine, genome, vectors, cases, Weights(0.0, 0.5), rows=4)


@contextmanager
def killing_one():
    """Kill, in the meantime, the first worker process there is."""
    killed, stop = [], threading.Event()

    def watch():
        while not (killed or stop.is_set()):
            for child in multiprocessing.active_children()[:1]:
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def test_worker_processes_give_the_same_numbers_though_one_is_killed(configured):
    config = configured(tasks=("recall", "passkey"))
    with engine_of("in-process", config) as engine:
        expected = generation(engine, config)
    with engine_of("processes", config) as engine:
        with killing_one() as killed:
            found = generation(engine, config)
        assert len(killed) == 1
        again = generation(engine, config)
    assert found.fitness.tobytes() == expected.fitness.tobytes() == again.fitness.tobytes()
    assert found.kept.tobytes() == expected.kept.tobytes()


def test_a_run_in_processes_writes_the_same_ledger(configured, ledger_of):
    here, there = configured(), configured(out=configured().out.parent / "p", engine="processes")
    evolve(here)
    evolve(there)
    assert ledger_of(there.out) == ledger_of(here.out)


def test_what_is_wrong_with_a_model_is_said_once(configured, llama_folder, tmp_path):
    # A name that is none is found before there are workers; that weights are absent, by them.
    with pytest.raises(UserError, match=r"^unknown model 'no-such-model'; known: "):
        configured(models=("no-such-model",))
    folder = tmp_path / "no-weights"
    folder.mkdir()
    shutil.copy(Path(llama_folder) / "config.json", folder)
    config = configured(models=(str(folder),))
    with (
        engine_of("processes", config) as engine,
        pytest.raises(UserError, match=r"^language model .*no-weights cannot be loaded"),
    ):
        generation(engine, config)


@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_numbers(configured):
    pytest.importorskip("ray", reason="needs the extra `distributed`")
    config = configured(tasks=("recall", "passkey"))
    with engine_of("in-process", config) as engine:
        expected = generation(engine, config)
    with engine_of("ray", config) as engine:
        found = generation(engine, config)
    assert found.fitness.tobytes() == expected.fitness.tobytes()
    assert found.kept.tobytes() == expected.kept.tobytes()
