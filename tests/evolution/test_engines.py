"""Worker processes and Ray's actors give the numbers of this process, also when some are lost."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from transfer.errors import UserError
from transfer.evolution.cases import fitness_cases
from transfer.evolution.engines import InProcess, Processes, make_engine
from transfer.evolution.evaluator import EvaluatorSettings
from transfer.evolution.evolve import evolve
from transfer.evolution.fitness import Weights, evaluate
from transfer.evolution.genome import Genome


def settings_of(config) -> EvaluatorSettings:
    return EvaluatorSettings(config.models, (), "cpu", 1)


def generation(engine, config):
    genome = Genome(config.namm, (0.0,) * 17, (1.0,) * 17)
    vectors = np.random.default_rng(0).standard_normal((12, genome.size))
    cases = fitness_cases(config, 0, 0)
    return evaluate(engine, genome, vectors, cases, Weights(), rows=4)


@contextmanager
def killing(find_process):
    """Kill, in the meantime, the first process that is found to be at work."""
    killed, stop = [], threading.Event()

    def watch():
        while not (killed or stop.is_set()):
            for process in find_process():
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def test_worker_processes_give_the_same_numbers_though_two_are_killed(configured):
    config = configured(tasks=("recall", "passkey"))
    with InProcess(settings_of(config)) as engine:
        expected = generation(engine, config)
    with Processes(settings_of(config), workers=2) as engine:
        engine._idle[0].process.kill()
        with killing(lambda: [child.process.pid for child in [*engine._busy.values()][:1]]) as pids:
            found = generation(engine, config)
        assert len(pids) == 1
        assert engine._started == 4
        again = generation(engine, config)
    assert found.fitness.tobytes() == expected.fitness.tobytes() == again.fitness.tobytes()
    assert found.kept.tobytes() == expected.kept.tobytes()


def test_a_run_in_processes_writes_the_same_ledger(configured, ledger_of):
    here, there = configured(), configured(out=configured().out.parent / "p", engine="processes")
    evolve(here)
    evolve(there)
    assert ledger_of(there.out) == ledger_of(here.out)


def test_what_is_wrong_with_a_job_is_said_once(configured):
    config = configured(models=("no-such-model",))
    with (
        Processes(settings_of(config), workers=1) as engine,
        pytest.raises(UserError, match="no-such-model"),
    ):
        generation(engine, config)


def test_a_job_that_costs_every_worker_is_given_up(configured):
    config = configured()

    def at_work():
        return [child.process.pid for child in [*engine._busy.values()]]

    def keep_killing():
        while not stop.is_set():
            for process in at_work():
                os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    stop = threading.Event()
    with Processes(settings_of(config), workers=1) as engine:
        thread = threading.Thread(target=keep_killing)
        thread.start()
        with pytest.raises(UserError, match=r"lost its worker 3 times .*exit code -9"):
            generation(engine, config)
        stop.set()
        thread.join()


def test_an_engine_gives_torch_its_threads_back(configured):
    import torch

    torch.set_num_threads(2)
    with InProcess(settings_of(configured())):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_without_ray_the_extra_to_install_is_named(configured, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install namm-transfer\[distributed\]"):
        make_engine("ray", settings_of(configured()), workers=1)


def test_unknown_engines_name_the_nearest(configured):
    with pytest.raises(UserError, match="did you mean processes"):
        make_engine("process", settings_of(configured()), workers=1)


def process_of(actor) -> int:
    import ray

    return ray.get(actor.handle.__ray_call__.remote(lambda evaluator: os.getpid()))


@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_numbers_though_an_actor_is_killed(configured):
    pytest.importorskip("ray", reason="needs the extra `distributed`")
    config = configured(tasks=("recall", "passkey"))
    with InProcess(settings_of(config)) as engine:
        expected = generation(engine, config)
    with make_engine("ray", settings_of(config), workers=2) as engine:
        process = {id(actor): process_of(actor) for actor in engine._idle}
        with killing(
            lambda: [process[id(actor)] for actor in [*engine._busy.values()][:1]]
        ) as pids:
            found = generation(engine, config)
        assert len(pids) == 1
        assert engine._started == 3
        with pytest.raises(UserError, match="unknown task"):
            engine.map("measure", [_of_unknown_task(config)])
    assert found.fitness.tobytes() == expected.fitness.tobytes()
    assert found.kept.tobytes() == expected.kept.tobytes()


def _of_unknown_task(config):
    from dataclasses import replace

    from transfer.evolution.evaluator import Job

    case = replace(fitness_cases(config, 0, 0)[0], task="recal")
    return Job(case, Genome(config.namm, (0.0,) * 17, (1.0,) * 17), None)
