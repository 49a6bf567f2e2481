"""What pruning saves where only some layers have full attention: published models, from sizes."""

from benchmarks.measure import Row
from transfer.errors import UserError
from transfer.known_models import KNOWN
from transfer.plan import Plan, plan_device, plan_layers

TITLE = (
    "Caches of published models, full and pruned to 25 % by a NAMM every 512 tokens (10^9 bytes)"
)
CONTEXTS = ("8k", "32k", "128k")
#: One of each kind of layers.
MODELS = (
    "llama-3-8b",
    "mistral-7b",
    "mistral-7b-v0.1",
    "gemma-3-1b",
    "gemma-3-4b",
    "gemma-3-27b",
    "llama-4-scout",
    "bamba-9b",
    "falcon-h1-7b",
    "qwen3-next-80b",
    "deepseek-v3",
)


def run() -> list[Row]:
    """A row for each model."""
    return [_row(name) for name in MODELS]


def _row(name: str) -> Row:
    row: Row = {"model": name, "pruned layers": ""}
    plans = [Plan(name, context) for context in CONTEXTS]
    try:
        layers, refused = plan_layers(plans[0]), ""
    except UserError as error:
        layers, refused = plan_layers(plans[0], refuse=False), str(error)
    for plan in plans:
        whole = plan_device(0, layers, plan)
        held = whole.cache + whole.state
        row["pruned layers"] = "none" if refused else f"{whole.pruned_layers} of {whole.layers}"
        row[f"{plan.context} full"] = _gb(whole.full)
        row[f"{plan.context} pruned"] = "" if refused else _gb(held)
        row[f"{plan.context} of full"] = "" if refused else round(held / whole.full, 2)
    return row | {"sizes": KNOWN[name].source, "why none": refused}


def _gb(size: int) -> float:
    return round(size / 1e9, 3)
