"""The rooms of the house: no import circle, and arrows that only point down.

Imports inside functions and those for types count too. That public names are documented is ruff's
(D1).
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: From the bottom to the top; what is in none of them, as the command line, may import all.
FLOORS = (
    {
        "arguments",
        "checkpoints",
        "errors",
        "files",
        "pages",
        "plugins",
        "progress",
        "provenance",
        "ragged",
        "keys",
        "terminal",
        "tiles",
    },
    {"namm"},
    {"cache"},
    {"policies"},
    {"attachment"},
    {"adapters", "envs", "tasks", "video", "workers"},
    {"replay"},
    {"evaluation", "evolution", "inspection", "pretrain"},
    {"report"},
)


def modules():
    rooms = [ROOT / "transfer", *(ROOT / room for room in ("adapters", "checkpoints", "envs"))]
    for path in (path for room in rooms for path in room.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "transfer" else ("transfer", *parts)
        yield ".".join(parts).removesuffix(".__init__"), path


def imports():
    """Every module, and the modules of the house that it imports."""
    files = dict(modules())
    found = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & set(files)
            elif isinstance(node, ast.ImportFrom) and node.module in files:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                modules_within = inner & set(files)
                found[name] |= modules_within
                if modules_within != inner:
                    found[name].add(node.module)
            assert not getattr(node, "level", 0), f"{name} has a relative import"
    return found


def floor(module):
    room = (*module.split("."), "")[1]
    return next((height for height, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def test_no_import_goes_in_a_circle():
    graph = imports()
    assert len(graph) > 60
    TopologicalSorter(graph).prepare()


def test_arrows_only_point_down():
    graph = imports()
    assert floor("transfer.namm.network") < floor("transfer.cli")
    up = [f"{a} -> {b}" for a, bs in graph.items() for b in bs if floor(b) > floor(a)]
    assert not up, "\n".join(sorted(up))
