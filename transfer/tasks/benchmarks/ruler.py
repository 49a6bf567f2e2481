"""RULER (NVIDIA): thirteen tasks whose texts are made at any length, for any tokenizer.

Parameters and templates are the published ones; the generators are our own, so texts differ from
those of the authors' scripts: words come from other lists, sentences of essays end where a full
stop, question or exclamation mark is followed by a space, and every sample depends on its own seed
alone. Without `--data` essays are replaced by plain prose.
"""

from transfer.tasks.benchmarks.ruler_base import RulerTask
from transfer.tasks.benchmarks.ruler_needles import NEEDLES
from transfer.tasks.benchmarks.ruler_qa import QUESTIONS
from transfer.tasks.benchmarks.ruler_variables import Variables
from transfer.tasks.benchmarks.ruler_words import CommonWords, FrequentWords

TASKS: dict[str, RulerTask] = {
    task.name: task for task in (*NEEDLES, Variables(), CommonWords(), FrequentWords(), *QUESTIONS)
}
