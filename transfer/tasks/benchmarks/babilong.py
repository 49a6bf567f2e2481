"""BABILong: the facts of a bAbI story, scattered over the text of books.

Its files are one for each task and length. A sample's length is that of the authors' text, `4k` of
their tokens or the like.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path

from transfer.errors import UserError
from transfer.files import read_json
from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.reading import ReadTask, Sample

FAMILY = "babilong"
REPOSITORY = "RMT-team/babilong"
LENGTHS = ("0k", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k", "1M")
#: Longer ones are hundreds of megabytes a task; whoever wants them gives them as data.
FETCHED = LENGTHS[:7]
_PART = re.compile(r"-\d+-of-\d+$")
_KIND = re.compile(r"qa\d+")
_ENDINGS = (".json", ".jsonl", ".parquet")
#: Folders and the file's name, as in `data/qa1/4k.json` or `4k/qa1/0000.parquet`.
_LEVELS = 3


class BabiLong(ReadTask):
    """One of the twenty.

    Attributes:
        labels: all answers, of which a reply gives one, or several.
    """

    family = FAMILY
    new_tokens = 20
    chat = True

    def __init__(
        self, kind: str, labels: list[str], instruction: str, examples: str, format: str
    ) -> None:
        self.kind, self.name = kind, f"{FAMILY}/{kind}"
        self.labels = [label.lower() for label in labels]
        self.chance = 1 / len(labels)
        self.before = f"{instruction}\n\n{examples}\n\n{format}\n\n"

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Found]:
        """See `ReadTask`; the lengths take turns, the shortest first."""
        published = Published(
            REPOSITORY, tuple(f"data/{self.kind}/{length}.json" for length in FETCHED)
        )
        if data is None:
            read = {n: records(None, f"{self.kind}/{n}", published) for n in FETCHED}
        else:
            found = self._found(data)
            read = {
                n: chain.from_iterable(records(file, file.stem, published) for file in found[n])
                for n in sorted(found, key=_rank)
            }
        told = (map(partial(self._asked, n), enumerate(rows)) for n, rows in read.items())
        turns = chain.from_iterable(zip_longest(*told))
        yield from islice((sample for sample in turns if sample is not None), most)

    def score(self, reply: str, sample: Sample) -> float:
        """Whether the first sentence names what is right, and nothing else that is not asked of.

        "none" names "one" as well by the authors' rule, and is never right.
        """
        reply = reply.lower().partition(".")[0]
        for begin in ("<context>", "<example>"):
            reply = reply.partition(begin)[0]
        question = sample.question.lower()
        told = {label for label in self.labels if label in reply and label not in question}
        return float(told == set(_parts(sample.answers[0])))

    def _found(self, data: Path) -> dict[str, list[Path]]:
        """The files of each length; it is empty where one file is given that says none."""
        if data.suffix.lower() == ".zip":
            raise UserError(f"{data} is zipped, which this data never is; give the folder in it")
        if data.is_file():
            kind, length = _told(data)
            if kind != self.kind:
                raise UserError(
                    f"{data} is not of {self.name}, by its path; give {self.kind}/4k.json or the "
                    f"like, or name it {self.kind}.json if it is"
                )
            return {length or "": [data]}
        if not data.is_dir():
            raise UserError(f"there is no file or folder {data}; check --data")
        found: dict[str, list[Path]] = {}
        for path in sorted(p for p in data.rglob("*") if p.suffix in _ENDINGS and p.is_file()):
            kind, length = _told(path)
            if kind == self.kind and length:
                files = found.setdefault(length, [])
                # The authors' repository once had the same records in several layouts.
                if not files or _whole(files[0]) == _whole(path):
                    files.append(path)
        if not found:
            raise UserError(
                f"{data} has no {self.kind}/4k.json or the like; give the data as their authors "
                f"publish them (https://huggingface.co/datasets/{REPOSITORY})"
            )
        return found

    def _asked(self, length: str, numbered: tuple[int, Record]) -> Found:
        number, record = numbered
        return asked(record, partial(self._sample, length, number))

    def _sample(self, length: str, number: int, record: Record) -> Sample:
        question, target = record.text("question"), record.text("target")
        if not set(_parts(target)) <= set(self.labels):
            raise record.wrong(f"has the target {target!r}, which {self.kind} never has")
        return Sample(
            f"{length}-{number}" if length else number,
            f"{self.before}<context>\n{record.text('input').strip()}\n</context>",
            f"\n\nQuestion: {question}".rstrip(),
            (target,),
            groups={"length": length} if length else {},
        )


def _parts(target: str) -> list[str]:
    """The answers within an answer, such as of `apple,milk`; a way, such as `n,w`, is one."""
    target = target.lower()
    return target.split(",") if len(target) > len("n,w") else [target]


def _told(path: Path) -> tuple[str | None, str | None]:
    """Task and length that a file's path says."""
    parts = path.absolute().parts[-_LEVELS:]
    names = [_PART.sub("", Path(part).stem) for part in parts]
    kind = next((name for name in reversed(names) if _KIND.fullmatch(name)), None)
    return kind, next((name for name in reversed(names) if name in LENGTHS), None)


def _whole(path: Path) -> Path:
    """What a part of a file is a part of."""
    return path.with_name(_PART.sub("", path.stem) + path.suffix)


def _rank(length: str) -> int:
    return LENGTHS.index(length) if length else -1


def _tasks() -> dict[str, BabiLong]:
    forms = read_json(Path(__file__).with_suffix(".json"))
    tasks = (BabiLong(kind, **form) for kind, form in forms.items())
    return {task.name: task for task in tasks}


TASKS = _tasks()
