"""Where a model computes, and in which numbers: what every command that loads one is told.

Nothing heavy is imported before a model is loaded, because the command line reads `Placement` for
its help.
"""

import multiprocessing
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transfer.arguments import check_fields
from transfer.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16", "float16", "float64"]
AUTO = "auto"
#: The attribute of a widened model that says what its weights were.
_STORED = "transfer_stored"


@dataclass(frozen=True)
class Placement:
    """Where a model computes, and in which numbers.

    Args:
        dtype: number format of the weights, the cache and what is computed; by default as the
            weights are stored, those of shipped models in float32. Where the CPU has no arithmetic
            for stored half precision, it is computed in float32.
        device: where it computes: auto (a GPU where there is one; for shipped models, which are
            small, the CPU), cpu, cuda, cuda:1, mps.
        device_map: lays the layers of a large model over devices instead, as accelerate does: auto,
            balanced, sequential.
    """

    dtype: Dtype | None = None
    device: str = AUTO
    device_map: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not re.fullmatch(r"[a-z]+(:[0-9]{1,3})?", self.device):
            raise UserError(f"device is {self.device!r}; use auto, cpu, cuda, cuda:1 or mps")
        if self.device_map is not None and self.device != AUTO:
            raise UserError(
                f"device is {self.device} and device_map {self.device_map}; give one of them"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the functions that load models."""
        device = None if self.device_map else self.device
        return {"dtype": self.dtype, "device": device, "device_map": self.device_map}


def usable_device(name: str, small: bool = False, dtype: Any = None) -> str:
    """A device that can be computed on.

    Args:
        name: of it; auto: a GPU if there is one.
        small: whether the models are so small that a CPU is as fast, which auto then takes.
        dtype: the numbers that are to be computed there, by name or torch's own; None: float32.

    Raises:
        UserError: it is not there, or has no such numbers.
    """
    import torch

    if name == AUTO:
        gpu = torch.accelerator.current_accelerator(check_available=True)
        name = "cpu" if small or gpu is None else gpu.type
    try:
        # Some devices can be named and not be computed on.
        torch.ones(1, device=name).to(_dtype(dtype)).tolist()
    except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:
        what = f" for {plain(_dtype(dtype))}" if dtype else ""
        raise UserError(
            f"device {name} cannot be used here{what}; use auto, cpu, or a GPU that this machine "
            "has (cuda, cuda:1, mps)"
        ) from error
    return name


def _dtype(dtype: Any) -> "torch.dtype":
    import torch

    return torch.float32 if dtype in (None, AUTO) else getattr(torch, plain(dtype))


def widen(model: "PreTrainedModel", name: str) -> None:
    """Let half-precision weights on a CPU without arithmetic for them be float32, and say so.

    Such a CPU computes every number in float32 and rounds it, which takes five times as long.
    """
    import torch

    half, places = model.dtype, {parameter.device.type for parameter in model.parameters()}
    narrow = half in (torch.float16, torch.bfloat16) and not getattr(model, "is_quantized", False)
    if not narrow or places != {"cpu"} or _has_arithmetic(half):
        return
    model.float()
    setattr(model, _STORED, plain(half))
    # Of workers nobody wants to hear it again and again.
    if multiprocessing.parent_process() is None:
        say_widened(name, plain(half))


def say_widened(name: str, stored: str) -> None:
    """The line for a model that is computed in float32 though it is stored otherwise."""
    print(
        f"{name} is stored in {stored}, for which this CPU has no arithmetic, and is computed in "
        f"float32; --dtype {stored} keeps it",
        file=sys.stderr,
    )


def _has_arithmetic(half: "torch.dtype") -> bool:
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    if half == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def plain(dtype: "torch.dtype | str") -> str:
    """The name of a type, as options say it."""
    return str(dtype).removeprefix("torch.")


def computed(model: "PreTrainedModel") -> dict[str, str]:
    """What decides a model's digits: `dtype`, kinds of `device`, and of a widened one `stored`."""
    kinds = sorted({parameter.device.type for parameter in model.parameters()})
    stored = {"stored": getattr(model, _STORED)} if hasattr(model, _STORED) else {}
    return {"dtype": plain(model.dtype), "device": " and ".join(kinds), **stored}
