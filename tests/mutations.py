"""Files changed byte by byte: whatever reads them says a sentence, or reads something usable.

Never a traceback; and a file with a digest is never read as something else. By hand, in processes
of their own, because what HDF5 and video decoders do to damaged bytes may end theirs:

    PYTHONPATH=tests python -m mutations --count 10000 --kind d4rl mp4
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from tiny_control import save_tiny_control

from transfer.errors import UserError


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        make: writes them into a folder, and returns those that are changed, one at a time.
        read: reads the folder as a command would.
        many: of these, how many the suite tries.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    many: int = 250


def make_namm(folder: Path) -> list[Path]:
    from transfer.namm.network import NAMM

    NAMM.from_pretrained("recall").save_pretrained(folder)
    return sorted(folder.iterdir())


def read_namm(folder: Path) -> None:
    from transfer.namm.network import NAMM

    namm = NAMM.from_pretrained(folder)
    assert all(tensor.isfinite().all() for tensor in namm.tensors.values())


def make_original(folder: Path) -> list[Path]:
    buffers = "stored_buffers_to_save.token_embedding_0_output_"
    state = {"mean": torch.zeros(4172), f"{buffers}mean": torch.zeros(17)}
    state[f"{buffers}var"] = torch.ones(17)
    torch.save({"evolution_state": state}, folder / "ckpt.pt")
    return [folder / "ckpt.pt"]


def read_original(folder: Path) -> None:
    from transfer.namm.original import import_original

    import_original(folder / "ckpt.pt")


def make_d4rl(folder: Path) -> list[Path]:
    from transfer.envs.d4rl import write_d4rl

    rng, steps = np.random.default_rng(0), 12
    ends = np.arange(steps) % 6 == 5
    write_d4rl(
        folder / "data.hdf5",
        {
            "observations": rng.normal(size=(steps, 5)),
            "actions": rng.uniform(-1, 1, (steps, 2)),
            "rewards": rng.normal(size=steps),
            "terminals": ends,
            "timeouts": np.zeros(steps, bool),
        },
        {"command": np.bytes_("transfer collect"), "seed": np.int32(1)},
    )
    return [folder / "data.hdf5"]


def read_d4rl(folder: Path) -> None:
    from transfer.envs.d4rl import read_d4rl, state_statistics

    found = read_d4rl(folder / "data.hdf5")
    numbers = (found.observations, found.actions, found.rewards)
    assert all(np.isfinite(values).all() and len(values) == len(found) for values in numbers)
    if found.trajectories:
        with np.errstate(over="ignore"):
            state_statistics(found.trajectories)


def make_rate(folder: Path) -> list[Path]:
    rng, steps = np.random.default_rng(0), 6
    observations, actions = rng.normal(size=(steps, 5)), rng.uniform(-1, 1, (steps, 2))
    for number, save in enumerate((np.savez, np.savez_compressed)):
        ended = np.arange(steps) == steps - 1
        arrays = {"obs": observations, "action": actions, "reward": np.ones(steps), "done": ended}
        save(folder / f"train_data_{number}.npz", **arrays)
    return sorted(folder.glob("*.npz"))


def make_state_dict(folder: Path) -> list[Path]:
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    sizes = {"state_dim": 11, "act_dim": 3, "hidden_size": 8, "n_layer": 1, "max_ep_len": 9}
    tokens = {"n_positions": 1, "bos_token_id": None, "eos_token_id": None}
    model = DecisionTransformerModel(DecisionTransformerConfig(**sizes, **tokens))
    torch.save(model.state_dict(), folder / "model.pt")
    return [folder / "model.pt"]


def read_state_dict(folder: Path) -> None:
    from transfer.adapters.imported_control import import_control

    import_control(folder / "model.pt", env="hopper", quality="medium")


def make_minari(folder: Path) -> list[Path]:
    import h5py

    (folder / "data").mkdir()
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group["observations"], group["actions"] = np.ones((4, 5)), np.zeros((3, 2))
            group["rewards"] = np.ones(3)
            group["terminations"], group["truncations"] = np.zeros((2, 3), bool)
    return [folder / "data/main_data.hdf5"]


def read_folder(folder: Path) -> None:
    from transfer.envs.datasets import read_dataset

    assert np.isfinite(read_dataset(folder).observations).all()


VIDEO_LINES = [
    {"id": "a", "video": "a.mp4", "question": "What?", "options": ["x", "y"], "answer": "A"},
    {"video": "b.mp4", "question": "Who?", "options": ["x", "y", "z"], "answer": 2, "start": 1.5},
    {"video": "c", "question": "Where?", "options": ["é", "y"], "answer": "é", "folder_fps": 2},
]

TEXT_LINES = [
    {"prompt": "A is b. A is", "answer": "b"},
    {"context": "A is b.", "question": "A is", "answer": ["b", "é"]},
]


def make_questions(folder: Path) -> list[Path]:
    lines = {"video.jsonl": VIDEO_LINES, "text.jsonl": TEXT_LINES}
    for name, records in lines.items():
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))
    return [folder / name for name in lines]


def read_questions(folder: Path) -> None:
    from transfer.evaluation.digest import record_digests
    from transfer.tasks.records import read_records
    from transfer.tasks.video import VIDEO_TASKS

    records = VIDEO_TASKS["jsonl"].read(folder / "video.jsonl", None)
    record_digests(records)
    for record in (*records, *read_records(folder / "text.jsonl")):
        repr(record).encode()


def make_control(folder: Path) -> list[Path]:
    save_tiny_control(folder)
    return [folder / "control.json"]


def make_config(folder: Path) -> list[Path]:
    save_tiny_control(folder)
    return [folder / "config.json"]


def make_weights(folder: Path) -> list[Path]:
    save_tiny_control(folder)
    return [folder / "model.safetensors"]


def read_control(folder: Path) -> None:
    from transfer.adapters.control_model import load_control_model

    control = load_control_model(folder)
    assert control.state_mean.isfinite().all()
    assert (control.state_std > 0).all()


def make_statistics(folder: Path) -> list[Path]:
    np.savez(folder / "a.npz", state_mean=np.zeros(3), state_std=np.ones(3), env=np.array("hopper"))
    return [folder / "a.npz"]


def read_statistics(folder: Path) -> None:
    from transfer.adapters.control_facts import read_statistics

    read_statistics(folder / "a.npz")


def make_results(folder: Path) -> list[Path]:
    from transfer.evaluation.language import LanguageEval
    from transfer.evaluation.options import ContenderOptions, RunOptions
    from transfer.evaluation.runner import evaluate

    evaluate(
        LanguageEval(
            "llama-recall",
            documents=2,
            length=(96,),
            contenders=ContenderOptions(policy=("recency",), budget=(24,), update_interval=32),
            run=RunOptions(out=folder),
        )
    )
    return [folder / "results.json", folder / "rows.jsonl"]


def read_results(folder: Path) -> None:
    from transfer.cli.eval_command import print_tables
    from transfer.report.page import content
    from transfer.report.runs import read_runs

    runs = read_runs([folder])
    content(runs, "")
    with redirect_stdout(StringIO()):
        for run in runs:
            print_tables(run.results)


def make_mp4(folder: Path) -> list[Path]:
    from transfer.video.writer import write_video

    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(6)]
    write_video(folder / "a.mp4", frames, Fraction(10))
    return [folder / "a.mp4"]


def read_mp4(folder: Path) -> None:
    from transfer.video.frames import read_clip

    clip = read_clip(folder / "a.mp4", 3)
    assert len(clip.pixels) == len(set(clip.indices))
    assert len(clip.pixels) == 3 or "fewer than the 3 asked for" in clip.notes[0]


#: Those that a decoder in C reads are tried in processes of their own, by hand.
KINDS = {
    "namm": Kind(make_namm, read_namm),
    "original": Kind(make_original, read_original),
    "d4rl": Kind(make_d4rl, read_d4rl, 200),
    "minari": Kind(make_minari, read_folder, 50),
    "rate": Kind(make_rate, read_folder, 100),
    "state dict": Kind(make_state_dict, read_state_dict, 50),
    "questions": Kind(make_questions, read_questions, 400),
    "control": Kind(make_control, read_control, 100),
    "config": Kind(make_config, read_control, 150),
    "weights": Kind(make_weights, read_control, 50),
    "statistics": Kind(make_statistics, read_statistics),
    "results": Kind(make_results, read_results, 200),
    "mp4": Kind(make_mp4, read_mp4, 100),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes, bits, cuts, repetitions, and what numbers are parsed from."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        # Structures stand at the beginning of most files.
        end = len(found) if rng.random() < 0.6 else min(len(found), 512)
        at = rng.randrange(end) if end else 0
        match rng.randrange(7):
            case 0 if found:
                found[at] = rng.randrange(256)
            case 1 if found:
                found[at] ^= 1 << rng.randrange(8)
            case 2:
                del found[at : at + rng.choice((1, 2, 8, 64, len(found)))]
            case 3:
                found[at:at] = found[at : at + rng.choice((1, 8, 64))]
            case 4:
                found[at : at + 1] = rng.choice(WORDS)
            case 5:
                found[at : at + 8] = rng.choice((b"\xff", b"\0", b"\x7f")) * 8
            case _:
                digits = [place for place, byte in enumerate(found[:4096]) if 48 <= byte < 58]
                if digits:
                    place = rng.choice(digits)
                    found[place : place + 1] = rng.choice((b"-1", b"0", b"99999999", b"1e999"))
    return bytes(found)


WORDS = (
    b"null", b"NaN", b"-Infinity", b"true", b'"', b"{", b"]", b"[[[[", b"\\ud800", b"\xff\xfe",
    b"\0", b"1e400", b"-", b'""', b"{}", b"9" * 400, b",", b":", b"\n", b"\\u0000", b"../",
)  # fmt: skip


def tried(kind: str, folder: Path, seeds: range) -> Iterator[str]:
    """How each mutation ended: read, or refused.

    Raises:
        AssertionError: one ended in another way; it names the seed.
    """
    [*paths] = KINDS[kind].make(folder)
    KINDS[kind].read(folder)
    whole = {path: path.read_bytes() for path in paths}
    for seed in seeds:
        rng = random.Random(seed)
        path = rng.choice(paths)
        path.write_bytes(mutated(whole[path], rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                KINDS[kind].read(folder)
            yield "read"
        except UserError as error:
            assert "\n" not in str(error), f"{kind} {seed}: {error}"
            yield "refused"
        except BaseException as error:
            raise AssertionError(f"{kind}, mutation {seed} of {path.name}") from error
        finally:
            path.write_bytes(whole[path])


def main() -> None:
    """Try many, in processes of a few hundred each, and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="of each kind")
    parser.add_argument("--first", type=int, default=10_000, help="seed of the first")
    parser.add_argument("--kind", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--each", type=int, default=1000, help="in one process")
    asked = parser.parse_args()
    for kind in asked.kind:
        began, ended = time.perf_counter(), Counter[str]()
        start, stop = asked.first, asked.first + asked.count
        while start < stop:
            start = _some(kind, range(start, min(stop, start + asked.each)), ended)
        print(f"{kind:10} {dict(ended)} in {time.perf_counter() - began:.0f} s", flush=True)


def _some(kind: str, seeds: range, ended: Counter[str]) -> int:
    """Try these in a process, count how they ended, and return the seed to go on with."""
    words = [sys.executable, __file__, kind, str(seeds.start), str(seeds.stop)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=3600)
    lines = [line for line in done.stdout.splitlines() if line in ("read", "refused")]
    ended.update(lines)
    if done.returncode == 0:
        return seeds.stop
    last = seeds.start + len(lines)
    how = "traceback" if done.returncode > 0 else f"signal {-done.returncode}"
    ended[how] += 1
    cause = [line for line in done.stderr.splitlines() if line.strip()][-12:]
    print(f"{kind} seed {last}: {how}", *cause, sep="\n   ", flush=True)
    return last + 1


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


if __name__ == "__main__" and len(sys.argv) == 4 and sys.argv[1] in KINDS:
    torch.set_num_threads(1)
    with _folder() as where:
        for outcome in tried(sys.argv[1], where, range(int(sys.argv[2]), int(sys.argv[3]))):
            print(outcome, flush=True)
elif __name__ == "__main__":
    main()
