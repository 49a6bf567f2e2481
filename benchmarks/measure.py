"""Time and memory of functions side by side, so that ratios are of one run."""

import ctypes
import gc
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

Row = dict[str, str | float]
#: Makes everything ready and returns what is to be timed.
Prepare = Callable[[], Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs: the middle one, the fastest and the slowest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 3 if self.median >= 0.1 else 5
        return f"{self.median:.{digits}f} [{self.low:.{digits}f} {self.high:.{digits}f}]"


def side_by_side(prepared: Mapping[str, Prepare], repeats: int) -> dict[str, Timing]:
    """Run each function `repeats` times in turns, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in prepared}
    for _ in range(repeats + 1):
        for name, prepare in prepared.items():
            run = prepare()
            _synchronise()
            began = time.perf_counter()
            run()
            _synchronise()
            seconds[name].append(time.perf_counter() - began)
    return {name: _timing(each[1:]) for name, each in seconds.items()}


def _timing(seconds: list[float]) -> Timing:
    return Timing(median(seconds), min(seconds), max(seconds))


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mb(prepare: Prepare, device: str = "cpu") -> float:
    """Memory in MB (10^6 bytes) that a function needs at its peak beyond its inputs."""
    run = prepare()
    before = reset_peak(device)
    result = run()
    peak = process_peak(device)
    del result
    return (peak - before) / 1e6


def reset_peak(device: str = "cpu") -> int:
    """Forget the peak of memory and return the bytes in use now: of the GPU, or resident."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def process_peak(device: str = "cpu") -> int:
    """The most bytes in use since `reset_peak`."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
