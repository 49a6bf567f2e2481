"""Tasks that a model reads and replies to in words, with the question hidden or seen.

Questions about one text are a block: with the question hidden from whoever prunes, the text is read
once, and each question is asked of a copy of the cache. `hidden`: an update falls on the last token
before the question; `seen`: on the last token before the reply.
"""

import hashlib
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, product
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfer.adapters.language_model import load_language_model
from transfer.adapters.placement import computed
from transfer.adapters.prompts import Form, Prompt, cut_sample, encode_prompt, has_chat
from transfer.adapters.replying import answer_log_likelihood, generate_reply, read
from transfer.adapters.scoring import check_length, positions_of
from transfer.adapters.weights import weights_digest
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.cache import PrunedCache
from transfer.cache.equal import Course
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import Pruning
from transfer.errors import UserError, check_unused, unknown_name
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.digest import model_digest, samples_digest
from transfer.evaluation.held import held
from transfer.evaluation.language import MADE_TEXTS, LanguageEval
from transfer.evaluation.options import RECORDS, refuse_file
from transfer.evaluation.repeating import repeated
from transfer.policies.kvzip import KVzip
from transfer.tasks.benchmarks import FAMILIES, reading_tasks
from transfer.tasks.reading import BrokenSample, MadeTask, ReadingTask, ReadTask, Sample
from transfer.tasks.recall import TASKS
from transfer.tasks.recall_text import READINGS
from transfer.tasks.records import OwnQuestions
from transfer.tasks.text import check_text

#: Characters of a question that rows tell, the last: some prompts are nothing but question.
_TOLD = 2000
_KVZIP = f"{KVzip.__module__}:{KVzip.__name__}"
#: What a task may be beside a name.
_LINES = (
    f"a file of your own questions ends in {RECORDS} and has lines of "
    '{"context": "...", "question": "...", "answer": "red"}'
)
_READ = f"{_LINES}, a benchmark of your own is package.module:Class"


@dataclass(frozen=True)
class Asked:
    """A sample as it is asked.

    Attributes:
        task: scores the reply.
        sample: cut already, if it had to be.
        length: of a text that was made to it.
        cluster: what is drawn together by the bootstrap.
        cut: whether its middle was taken out.
        broken: why it cannot be asked.
    """

    task: ReadingTask
    sample: Sample
    length: int | None
    cluster: str | int
    cut: bool = False
    broken: str | None = None


@dataclass(frozen=True)
class Ready:
    """Questions about one text.

    Attributes:
        prompts: each with its tokens, or why it cannot be asked.
        hidden: whether the question is hidden from whoever prunes.
    """

    prompts: Sequence[tuple[Asked, Prompt | str]]
    hidden: bool


class TextBenchmark(Benchmark):
    """Prompts whose replies are generated greedily and scored by the task's own metric.

    For tasks of your own, override `tasks_of`.

    Args:
        config: of the evaluation.

    Raises:
        UserError: unknown model or task, data that cannot be read, or a length that does not hold
            its task.
    """

    kind: ClassVar[str] = "language"
    metrics = ("score", "answer_log_likelihood")
    keys = ("length", "question")
    means = ("prompt_tokens", "reply_tokens", "read_seconds", "reply_seconds")
    sums = ("unended", "cut")
    families = "family"

    def __init__(self, config: LanguageEval) -> None:
        self.config, self.model = config, config.model
        self.language = load_language_model(
            config.model, config.trust_remote_code, **config.place.settings
        )
        if self.language.tokenizer is None:
            raise UserError(
                f"{config.model} has no tokenizer, and these tasks are text; save its tokenizer in "
                "the model's folder, or use another model"
            )
        self.tokenizer = self.language.tokenizer
        if config.prompt == "chat" and not has_chat(self.tokenizer):
            raise UserError(f"{config.model} has no chat template; use --prompt completion")
        self.adapter = get_adapter(self.language.model)
        self.positions = positions_of(self.language.model)
        self.tasks = {
            task.name: task for name in dict.fromkeys(config.task) for task in self.tasks_of(name)
        }
        if not any(task.reads_data for task in self.tasks.values()):
            whose = f"task {' '.join(config.task)}, which reads none (--task perplexity would)"
            check_unused(config, whose, "data")
        self._asked = [one for task in self.tasks.values() for one in self._samples(task)]
        if "hidden" in config.question:
            _tell_of_nothing_hidden(self._asked)
        self._whole: tuple[list[Asked], list[Row]] | None = None
        named = dict.fromkeys(name for one in self._asked for name in one.sample.groups)
        self.groups = tuple(map(self._group, named))

    def tasks_of(self, name: str) -> Sequence[ReadingTask]:
        """The tasks that a name of `--task` stands for.

        Raises:
            UserError: there is no such task.
        """
        if name.endswith(RECORDS):
            return [OwnQuestions(name)]
        if name in READINGS:
            return [READINGS[name]]
        if name in FAMILIES:
            return _without_data(reading_tasks(name), self.config.data)
        if name.partition("/")[0] in FAMILIES:
            return reading_tasks(name)
        refuse_file(name, f"{_LINES}, one of a benchmark is read with its name and --data {name}")
        raise unknown_name("task", name, [*TASKS, *FAMILIES, "perplexity"], _READ)

    def contenders(self) -> Sequence[Contender]:
        """The full cache, then every policy at every budget."""
        options = self.config.contenders
        options = replace(options, policy=tuple(map(self._spelled, options.policy)))
        shape = LayerShape.of(self.adapter.config, self.language.model.dtype)
        courses = self._courses if options.equal_in else [Course(0, 0)]
        longest = max(course.tokens for course in courses)
        rules = [_named(one) for one in plan(options, shape, longest, courses)]
        return [full(options.update_interval), *rules]

    def _spelled(self, name: str) -> str:
        """KVzip is no rule of the registry: only here is there a text that has ended."""
        first, *settings = name.split(":")
        return ":".join((_KVZIP, *settings)) if first == KVzip.name else name

    @cached_property
    def _courses(self) -> list[Course]:
        """How the prompts are read, with the likely reply, for budgets of equal memory."""
        found = []
        for one in self._asked:
            if one.broken:
                continue
            answer = one.task.answer(one.sample)
            prompt = encode_prompt(self.tokenizer, one.sample, self._form(one.task), answer)
            tokens = len(prompt.ids) + len(prompt.answer)
            found += [
                Course(tokens, _updated(prompt, question == "hidden"))
                for question in self.config.question
            ]
        return found

    def blocks(self) -> Sequence[Block]:
        """The questions about one text; hidden and seen one after the other."""

        def text(one: Asked) -> tuple[Any, ...]:
            return one.task.name, one.length, one.sample.context

        groups = [list(group) for _, group in groupby(self._asked, text)]
        return [self._block(own, how) for own, how in product(groups, self.config.question)]

    def _block(self, asked: Sequence[Asked], question: str) -> Block:
        first = asked[0]
        items = [
            {
                "task": one.task.name,
                "length": one.length,
                "question": question,
                "item": one.sample.item,
                "cluster": one.cluster,
                "family": one.task.family,
                **{self._group(name): value for name, value in one.sample.groups.items()},
            }
            for one in asked
        ]
        name = f"{first.task.name}/{first.length or 'own'}/{question}/{first.sample.item}"
        return Block(name, items, (asked, question == "hidden"))

    def _group(self, name: str) -> str:
        """The field of a group; the length of a record is another than that of a made text."""
        return f"record_{name}" if name in self.keys else name

    def prepared(self, block: Block) -> Ready:
        """The tokens of each prompt."""
        asked, hidden = block.content
        return Ready([self._prompted(one) for one in asked], hidden)

    def rows(self, ready: Ready, contender: Contender) -> Iterator[Row]:
        """The replies to the questions of a block, with their scores and costs."""
        assert contender.pruning is not None
        if contender.pruning.policy.evicts:
            yield from self._rows(ready, contender.pruning)
            return
        # Hidden or seen is the same to who never prunes.
        asked = [one for one, _ in ready.prompts]
        if self._whole is None or self._whole[0] != asked:
            self._whole = asked, list(self._rows(ready, contender.pruning))
        yield from self._whole[1]

    def _rows(self, ready: Ready, pruning: Pruning) -> Iterator[Row]:
        for text, prompts in groupby(ready.prompts, lambda each: _text(each[1])):
            began = time.perf_counter()
            with Memory(self.adapter, self._of_text(text, ready, pruning)) as memory:
                read_once = Reader(self.language.model, memory)
                for one, prompt in prompts:
                    if isinstance(prompt, str):
                        yield {"item": one.sample.item, "failure": prompt}
                    else:
                        found = self._reply(one, prompt, ready.hidden, read_once, began)
                        yield {"item": one.sample.item, **found}
                    began = time.perf_counter()

    def _of_text(self, text: Sequence[int] | None, ready: Ready, pruning: Pruning) -> Pruning:
        """How a text is pruned; by KVzip it is read and repeated first."""
        if text is None or not isinstance(pruning.policy, KVzip):
            return pruning
        form = self._form(ready.prompts[0][0].task)
        return repeated(self.adapter, self.tokenizer, text, form, pruning)

    def _reply(
        self, one: Asked, prompt: Prompt, hidden: bool, reader: "Reader", began: float
    ) -> Row:
        model, task = self.language.model, one.task
        logits, cache = reader.read(prompt, hidden)
        between = time.perf_counter()
        likelihood = (
            answer_log_likelihood(model, logits, cache, prompt.answer) if prompt.answer else None
        )
        room = self._room(one, prompt)
        reply = generate_reply(model, self.tokenizer, logits, cache, room, task.ends_at_newline)
        return {
            "question_text": one.sample.question.strip()[-_TOLD:],
            "right": list(one.sample.answers),
            "score": task.score(reply.text, one.sample),
            "answer_log_likelihood": likelihood,
            "reply": reply.text,
            "unended": int(not reply.ended),
            "cut": int(one.cut),
            "prompt_tokens": len(prompt.ids),
            "reply_tokens": reply.tokens,
            "read_seconds": between - began,
            "reply_seconds": time.perf_counter() - between,
            **held(cache),
        }

    def about(self, rows: Sequence[Row], failed: Sequence[Row]) -> Row:
        """What the table says of a task beside its scores."""
        task = self.tasks[rows[0]["task"]]
        return {"chance": task.chance}

    def computed(self) -> dict[str, str]:
        """Of the model."""
        return computed(self.language.model)

    def weights(self) -> str:
        """Digest of the model's."""
        return weights_digest(self.language.model)

    def digest(self) -> dict[str, Any]:
        """Of the model's files, and of what is asked."""
        return {
            "model files": model_digest(self.language.model),
            "samples": samples_digest([one.sample for one in self._asked]),
        }

    def _samples(self, task: ReadingTask) -> Iterator[Asked]:
        config, clusters = self.config, Clusters()
        if config.data is not None and isinstance(task, MadeTask) and task.published:
            task = task.published
        if isinstance(task, ReadTask):
            yield from self._read(task)
        elif isinstance(task, MadeTask):
            check_length(self.language.model, max(config.length), "a document")
            seeds = range(config.seed, config.seed + (config.documents or MADE_TEXTS))
            around = self._around(task)
            for length in config.length:
                made = task.samples(
                    length, seeds, self.tokenizer, config.depth, config.data, around
                )
                yield from (Asked(task, one, length, clusters(one)) for one in made)

    def _read(self, task: ReadTask) -> list[Asked]:
        """The records of a task, those that are broken too, unless all are."""
        clusters = Clusters()
        found = [
            Asked(task, Sample(one.item, "", "", ()), None, one.item, broken=one.reason)
            if isinstance(one, BrokenSample)
            else self._whole_or_cut(task, one, clusters(one))
            for one in task.samples(self.config.data, self.config.documents)
        ]
        if found and found[0].broken and all(one.broken for one in found):
            raise UserError(found[0].broken)
        return found

    def _whole_or_cut(self, task: ReadTask, sample: Sample, cluster: str | int) -> Asked:
        cut = self._cut(task, sample)
        return Asked(task, cut, None, cluster, cut is not sample)

    def _form(self, task: ReadingTask) -> Form:
        if self.config.prompt is not None:
            return self.config.prompt
        return "chat" if task.chat and has_chat(self.tokenizer) else "completion"

    def _around(self, task: ReadingTask, prefix: str = "") -> int:
        """Tokens that a prompt has beside its text, with the beginning of the reply."""
        nothing = Sample("", "", "", (), prefix)
        return len(encode_prompt(self.tokenizer, nothing, self._form(task)).ids)

    def _cut(self, task: ReadTask, sample: Sample) -> Sample:
        """The prompt within `--max-length`, or as long as the model has positions for."""
        if task.cut is None:
            what = f"question {sample.item} of {task.name}"
            check_text(sample.context + sample.question, self.tokenizer, self.positions, what)
            return sample
        most = self.config.max_length
        if most is None:
            reply = min(task.longest_reply(sample), self.positions // 2)
            most = max(2, self.positions - self._around(task, sample.prefix) - reply)
        return cut_sample(self.tokenizer, sample, most, task.cut)

    def _prompted(self, one: Asked) -> tuple[Asked, Prompt | str]:
        """A sample with its tokens, or why it cannot be asked."""
        if one.broken:
            return one, one.broken
        answer = one.task.answer(one.sample)
        prompt = encode_prompt(self.tokenizer, one.sample, self._form(one.task), answer)
        room = self._room(one, prompt)
        if room < 1:
            return one, (
                f"record {one.sample.item} of {one.task.name} has {len(prompt.ids)} tokens, which"
                f" leaves no room for a reply in {room + len(prompt.ids)}; use a smaller"
                " --max-length, or a model with more positions"
            )
        # The likelihood of an answer for which there is no room is not measured.
        fits = len(prompt.ids) + len(prompt.answer) <= self.positions
        return one, prompt if fits else replace(prompt, answer=())

    def _room(self, one: Asked, prompt: Prompt) -> int:
        """Tokens that a reply may have."""
        most = one.task.longest_reply(one.sample)
        return min(most, (one.length or self.positions) - len(prompt.ids))


def _without_data(tasks: Sequence[ReadingTask], data: Path | None) -> list[ReadingTask]:
    """Those of a family that lack no data, and a line about the others."""
    left = [task.name for task in tasks if task.lacks(data)]
    if left:
        why = "without --data" if data is None else f"for want of their files in --data {data}"
        _tell(f"left out {why}: {', '.join(left)}")
    return [task for task in tasks if task.name not in left]


def _tell_of_nothing_hidden(asked: Sequence[Asked]) -> None:
    """Of prompts that are nothing but question, which is then seen by whoever prunes."""
    whole = [one for one in asked if not one.broken]
    bare = [one for one in whole if not one.sample.context.strip()]
    if bare:
        _tell(
            f"of {len(bare)} of {len(whole)} prompts ({bare[0].task.name}) nothing comes before the"
            " question, so that whoever prunes sees it"
        )


def _tell(line: str) -> None:
    # Of workers nobody wants to hear it again.
    if multiprocessing.parent_process() is None:
        print(line, file=sys.stderr)


def _named(one: Contender) -> Contender:
    return replace(one, name=one.name.replace(_KVZIP, KVzip.name))


def _updated(prompt: Prompt, hidden: bool) -> int:
    """Tokens on the last of which an update falls: those before the question, or all."""
    return prompt.context if hidden and prompt.context else len(prompt.ids)


def _text(prompt: Prompt | str) -> Sequence[int] | None:
    """The tokens before the question; None: it cannot be asked."""
    return None if isinstance(prompt, str) else prompt.ids[: prompt.context]


class Clusters:
    """Which samples of a task are not independent: those of one text, before it is cut."""

    def __init__(self) -> None:
        self._first: dict[str, str | int] = {}

    def __call__(self, sample: Sample) -> str | int:
        """A sample's own word for it, or the first sample that has the same text."""
        if sample.cluster is not None:
            return sample.cluster
        text = hashlib.sha256(sample.context.encode("utf-8", "backslashreplace")).hexdigest()
        return self._first.setdefault(text, sample.item)


class Reader:
    """Reads prompts one after the other; what two have in common before the question once.

    Args:
        model: attached.
        memory: whose caches are filled.
    """

    def __init__(self, model: PreTrainedModel, memory: Memory) -> None:
        self._model, self._memory = model, memory
        self._context: Sequence[int] = ()
        self._cache: PrunedCache | None = None

    def read(
        self, prompt: Prompt, hidden: bool
    ) -> tuple[Float[Tensor, "1 vocabulary"], PrunedCache]:
        """The logits after a prompt, and the cache, which is the caller's."""
        updated = _updated(prompt, hidden)
        if updated == len(prompt.ids):
            cache = self._new(updated)
            return read(self._model, prompt.ids, cache), cache
        context = prompt.ids[:updated]
        if context != self._context:
            self._cache = self._new(updated)
            read(self._model, context, self._cache)
            self._context = context
        cache = deepcopy(self._cache)
        assert cache is not None
        return read(self._model, prompt.ids[prompt.context :], cache), cache

    def _new(self, last: int) -> PrunedCache:
        """A cache of which an update falls on its `last` token."""
        cache = self._memory.new_cache()
        interval = self._memory.pruning.interval
        cache.count_from(-last % interval)
        return cache
