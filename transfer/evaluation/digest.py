"""What a resumed run must find as it was: the model, the NAMMs, the records and their videos."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from inspect import getsourcefile
from pathlib import Path

from transformers import PreTrainedModel

from transfer.evaluation.contenders import Contender
from transfer.namm.network import NAMM
from transfer.policies.namm import NAMMPolicy
from transfer.tasks.reading import Sample
from transfer.tasks.video.archives import archive_of
from transfer.tasks.video_records import BrokenRecord, VideoQuestion

#: Files that decide what a model answers; notes may lie beside them.
_MODEL_FILES = (".json", ".jinja", ".safetensors", ".bin", ".model")


def model_digest(model: PreTrainedModel) -> str:
    """Of the files it was loaded from, by size and time; of a Hub model, its commit."""
    folder = Path(str(model.name_or_path))
    if not folder.is_dir():
        return str(model.config._commit_hash)
    files = sorted(file for file in folder.iterdir() if file.suffix in _MODEL_FILES)
    return _digest(*map(path_digest, files))


def namm_digests(contenders: Sequence[Contender]) -> dict[str, str]:
    """Of every NAMM, by the name of who prunes with it."""
    return {
        one.name: namm_digest(one.pruning.policy.namm)
        for one in contenders
        if one.pruning is not None and isinstance(one.pruning.policy, NAMMPolicy)
    }


def source_digests(benchmark: object, contenders: Sequence[Contender]) -> dict[str, str]:
    """Of the files that classes from outside are written in, by the class."""
    policies = [one.pruning.policy for one in contenders if one.pruning is not None]
    kinds = {type(thing) for thing in (benchmark, *policies)}
    found = {kind: getsourcefile(kind) for kind in kinds if not _is_ours(kind.__module__)}
    return {kind.__qualname__: path_digest(Path(str(file))) for kind, file in found.items()}


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def namm_digest(namm: NAMM) -> str:
    """Of its configuration and all its numbers."""
    numbers = (namm.vector, namm.mean, namm.std)
    return _digest(namm.config, *(tensor.tolist() for tensor in numbers))


def record_digests(records: Sequence[VideoQuestion | BrokenRecord]) -> dict[str, str]:
    """Of every record, with the size and time of its video, by its id."""
    video: Callable[[Path], str] = cache(path_digest)
    return {
        record.id: _digest(record, video(archive_of(record.video) or record.video))
        for record in records
        if isinstance(record, VideoQuestion)
    }


def samples_digest(samples: Sequence[Sample]) -> str:
    """Of everything that is asked, and of what is right."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(repr(sample).encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]


def path_digest(path: Path) -> str:
    """Of a file, or of all files in a folder: names, sizes and times; nothing is read."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(file.name, file.stat()) for file in files]
    # What cannot be read fails when it is asked about.
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return _digest(*((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]
