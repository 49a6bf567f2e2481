"""Small trained models and evolved NAMMs that ship with the package, each a folder of files."""

from importlib import resources
from pathlib import Path


def shipped(file: str) -> dict[str, Path]:
    """Name and folder of everything shipped that holds a file of this name."""
    root = Path(str(resources.files(__name__)))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{file}"))}
