"""Runs any benchmark: blocks times contenders, resumed, interrupted, on one process or many."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from transfer.adapters.placement import AUTO
from transfer.arguments import typed
from transfer.evaluation.benchmark import Row
from transfer.evaluation.digest import namm_digests, source_digests
from transfer.evaluation.options import FREE, EvalConfig, RunOptions, flat_options
from transfer.evaluation.reference import measured
from transfer.evaluation.store import Results, Store, lost_policies
from transfer.evaluation.summary import summarise
from transfer.evaluation.threads import torch_threads
from transfer.evaluation.threshold import thresholds_of
from transfer.evaluation.worker import BlockWorker, Job
from transfer.progress import bars
from transfer.provenance import command_line, versions
from transfer.workers.engines import make_engine


@typed
def evaluate(config: EvalConfig) -> Results:
    """Ask everything of every contender, and summarise it.

    Ctrl-C ends the run early: what had ended is summarised and written, and the results say
    `interrupted`. An item that fails is a marked row, and is in no mean.

    Raises:
        UserError: unknown model, task or policy, a setting they cannot follow, data that cannot be
            read, or an output that cannot be written or holds another run; before the first item.
    """
    run: RunOptions = config.run
    command = command_line(f"eval {config.kind}", config)
    with torch_threads(run.threads):
        config = measured(config)
        worker = BlockWorker(config)
        benchmark = worker.benchmark
        try:
            settings, notes = _settings(config, worker), _notes(config, worker)
            with Store(run.out, settings, worker.items, benchmark.dated) as store:
                interrupted = _play(worker, config, store)
                rows = _ordered(worker, store.rows)
                results = Results(
                    kind=benchmark.kind,
                    command=command,
                    versions=versions(**benchmark.versions()),
                    metrics=benchmark.metrics,
                    keys=benchmark.keys,
                    summary=summarise(rows, benchmark),
                    rows=rows,
                    interrupted=interrupted,
                    lost=lost_policies(rows),
                    computed=benchmark.computed(),
                    notes=notes,
                )
                store.finish(results)
                store.keep(benchmark.files(rows))
        finally:
            benchmark.close()
    return results


def _settings(config: EvalConfig, worker: BlockWorker) -> Mapping[str, Any]:
    """What decides the results: the options, and what the names in them stand for."""
    options = {name: value for name, value in flat_options(config) if name not in FREE}
    return {
        "kind": worker.benchmark.kind,
        **options,
        **worker.benchmark.computed(),
        "threads": torch.get_num_threads(),
        "namms": namm_digests(worker.contenders),
        "thresholds": [one.settings["threshold"] for one in worker.contenders],
        "sources": source_digests(worker.benchmark, worker.contenders),
        **worker.benchmark.digest(),
        "versions": versions(**worker.benchmark.versions()),
    }


def _notes(config: EvalConfig, worker: BlockWorker) -> list[str]:
    """By which thresholds of files is pruned, and who has the rows of another."""
    merged = (one.merged for one in worker.contenders)
    return [*(one.words for one in thresholds_of(config)), *filter(None, merged)]


def _play(worker: BlockWorker, config: EvalConfig, store: Store) -> bool:
    """Ask what is not ended; returns whether Ctrl-C ended it early."""
    total = sum(map(len, worker.items.values()))
    try:
        with bars() as progress, closing(_rows(worker, config, store)) as rows:
            bar = progress.add_task("begins", total=total, completed=len(store.rows))
            for row in rows:
                store.add(row)
                progress.update(bar, advance=1, description=row["policy"])
        worker.benchmark.finish(worker.contenders)
    except KeyboardInterrupt:
        return True
    return False


def _rows(worker: BlockWorker, config: EvalConfig, store: Store) -> Generator[Row, None, None]:
    """Every row that is missing, as it comes."""
    jobs, run = _jobs(worker, store), config.run
    if run.engine == "in-process":
        for job in jobs:
            yield from worker.stream(job)
        return
    if len(jobs) < run.workers:
        jobs = [Job(job.block, (one,)) for job in jobs for one in job.contenders]
    make, threads = partial(_make_worker, config), torch.get_num_threads()
    device = config.place.device
    if device == AUTO:
        device = worker.benchmark.computed().get("device", "cpu")
    with make_engine(run.engine, make, run.workers, threads, device) as engine:
        for _, rows in engine.imap("rows", jobs):
            yield from rows


def _make_worker(config: EvalConfig, device: str) -> BlockWorker:
    if config.place.device_map is None:
        config = replace(config, place=replace(config.place, device=device))
    return BlockWorker(config)


def _jobs(worker: BlockWorker, store: Store) -> list[Job]:
    """Every block with the contenders that have not ended it."""
    found = []
    for number, block in enumerate(worker.blocks):
        keys = [(block.name, *one.key) for one in worker.contenders]
        left = tuple(place for place, key in enumerate(keys) if key not in store.ended)
        if left:
            found.append(Job(number, left))
    return found


def _ordered(worker: BlockWorker, rows: Sequence[Row]) -> list[Row]:
    """Rows by block and contender, in whichever order they came."""
    blocks = {block.name: place for place, block in enumerate(worker.blocks)}
    keys = {one.key: place for place, one in enumerate(worker.contenders)}
    return sorted(rows, key=lambda row: (blocks[row["block"]], keys[row["policy"], row["budget"]]))
