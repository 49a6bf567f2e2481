"""What a worker does: holds the models, and measures candidates and features on them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.scoring import Scores, check_length, score_batch
from transfer.attachment.memory import attach
from transfer.cache.cache import PrunedCache
from transfer.cache.window import AttentionWindow
from transfer.evolution.cases import Case
from transfer.evolution.control import ControlTasks
from transfer.evolution.genome import Genome
from transfer.evolution.measured import Measured, PerDocument, Seconds, TimedPolicy
from transfer.evolution.replay import ReplayJob, replay
from transfer.evolution.search import Vector
from transfer.evolution.slope import SlopeJob, slope
from transfer.namm.network import NAMM, NAMMConfig
from transfer.namm.statistics import FeatureStatistics
from transfer.policies.namm import NAMMPolicy
from transfer.replay.cost import Costs
from transfer.tasks.base import Language, TokenBatch
from transfer.tasks.recall import get_task, make_batch
from transfer.tasks.text import language_for


@dataclass(frozen=True)
class MeasureJob:
    """Some candidates on some documents; without candidates, the full cache.

    Attributes:
        case: the documents and the setting.
        genome: of the candidates.
        vectors: theirs.
    """

    case: Case
    genome: Genome
    vectors: Float[np.ndarray, "candidates size"] | None


@dataclass(frozen=True)
class StatisticsJob:
    """Features of these documents at full cache."""

    cases: tuple[Case, ...]
    config: NAMMConfig


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the transformed features."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Evaluator:
    """Measures candidates on models, which it loads once.

    Args:
        models: names, as `load_language_model` takes them.
        controls: names of Decision Transformers.
        device: of the models.
        trust_remote_code: run the Python that language models bring.
        longest: tokens of the longest document.
        dtype: of the models, see `load_language_model`.
        device_map: of the models, instead of the device.

    Raises:
        UserError: a model cannot be loaded, or has fewer positions.
    """

    def __init__(
        self,
        models: Sequence[str],
        controls: Sequence[str],
        device: str,
        trust_remote_code: bool = False,
        longest: int = 0,
        dtype: str | None = None,
        device_map: str | None = None,
    ) -> None:
        place = {"dtype": dtype, "device_map": device_map}
        place["device"] = None if device_map else device
        self._device = device
        self._models: dict[str, PreTrainedModel] = {}
        self._languages: dict[str, Language] = {}
        for name in models:
            loaded = load_language_model(name, trust_remote_code, **place)
            vocabulary = loaded.model.config.get_text_config(decoder=True).vocab_size
            self._languages[name] = language_for(loaded.tokenizer, vocabulary)
            self._models[name] = loaded.model
            check_length(loaded.model, longest, "a document")
        self._control = ControlTasks(controls, place)
        self._documents = lru_cache(maxsize=32)(self._make_documents)

    def computed(self, job: None) -> dict[str, dict[str, str]]:
        """What decides the digits of each model, see `placement.computed`."""
        models = {**self._models, **self._control.models}
        return {name: computed(model) for name, model in models.items()}

    def measure(self, job: MeasureJob) -> Measured:
        """Score the candidates of a job, all in one forward pass, or in one rollout."""
        if job.case.model in self._control.names:
            return self._measure_control(job)
        began = time.perf_counter()
        batch, model = self._documents(job.case), self._models[job.case.model]
        if job.vectors is None:
            scores = score_batch(model, batch)
            kept = np.ones((1, len(batch.ids)))
            return _measured(scores, kept, Seconds(model=time.perf_counter() - began))
        namm = job.genome.namm(job.vectors)
        policy = TimedPolicy(namm)
        case = job.case
        with attach(
            model, policy, case.update_interval, case.budget, case.eviction, share=case.share
        ) as memory:
            cache = memory.new_cache()
            scores = score_batch(model, batch, cache, namm.population)
        kept = _kept(cache).reshape(namm.population, -1)
        seconds = Seconds.split(time.perf_counter() - began, cache, policy.watch)
        return _measured(scores, kept, seconds)

    def _measure_control(self, job: MeasureJob) -> Measured:
        if job.vectors is None:
            return self._control.full(job.case)
        return self._control.measure(job.case, job.genome.namm(job.vectors))

    def replay(self, job: ReplayJob) -> tuple[Costs, Seconds]:
        """What the candidates of a job cost on records, which takes none of the models."""
        return replay(job, self._device)

    def slope(self, job: SlopeJob) -> tuple[Costs, Seconds, Vector]:
        """Likewise of one candidate, with the slope of what it gains."""
        return slope(job, self._device)

    def statistics(self, job: StatisticsJob) -> Statistics:
        """Measure what features are normalised by."""
        namm = NAMM(job.config)
        statistics = FeatureStatistics(namm.feature.width)
        policy = FeatureCollector(namm, statistics)
        for case in job.cases:
            if case.model in self._control.names:
                self._control.watch(case, policy)
                continue
            model = self._models[case.model]
            with attach(model, policy, case.update_interval) as memory:
                score_batch(model, self._documents(case), memory.new_cache())
        return Statistics(tuple(statistics.mean.tolist()), tuple(statistics.std.tolist()))

    def _make_documents(self, case: Case) -> TokenBatch:
        language = self._languages[case.model]
        return make_batch(get_task(case.task), case.length, case.seeds, language)


@dataclass(frozen=True)
class FeatureCollector(NAMMPolicy):
    """Keeps every token, and takes down the features that the NAMM would see."""

    statistics: FeatureStatistics

    name: ClassVar[str] = "collector"

    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Every token scores the same, at the threshold."""
        told = {name: tensor.cpu() for name, tensor in self.told(window, state).items()}
        values = self.namm.read(**told | {"features": told["features"].double()})
        self.statistics.add(values[told["valid"]])
        return state.new_zeros(state.shape[:3]), state


def _kept(cache: PrunedCache) -> Float[np.ndarray, " rows"]:
    held = np.array([[np.mean(heads) for heads in layer] for layer in cache.kept()])
    return held.mean(0) / cache.pruned[0].seen


def _measured(scores: Scores, kept: PerDocument, seconds: Seconds) -> Measured:
    probability, likelihood = (
        np.atleast_2d(values.double().numpy())
        for values in (scores.answer_probability, scores.log_likelihood)
    )
    return Measured(probability, likelihood, kept, seconds)
