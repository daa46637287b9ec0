"""What deploy/Dockerfile says, done without an engine: its own commands, in a folder that stands for the file system.

The folder is kept below `build/`, one for each state of the Dockerfile and of the locks, and a command is not repeated
while everything that was copied before it is the same: the cache of an engine in small. Commands that only root in a
container can run are left out, and named in `Image.left_out`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
_LOCKS: Final = ("build", "service")
_FOR_ROOT: Final = ("groupadd", "useradd", "apt-get", "chown")
# Where the commands write; the rest of what they name is the machine's own.
_PLACED: Final = re.compile(r"(?<![\w./])/(?=(?:opt|src|tmp|etc/kongflow)\b)")
_RUN_SECONDS: Final = 600


@dataclass(slots=True)
class Image:
    """A built image: `root` stands for `/`, and the rest is what the last stage of the Dockerfile says."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    user: str = ""
    exposed: str = ""
    stop_signal: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _layers: list[str] = field(default_factory=list)
    _copied: hashlib._Hash = field(default_factory=hashlib.sha256)

    def inside(self, text: str) -> str:
        """Return a text with its paths of the image as paths of this machine."""
        return _PLACED.sub(f"{self.root}/", text)

    def path(self, inside: str) -> Path:
        """Return where a path of the image is on this machine, relative to the image's working directory."""
        return Path(self.inside(str(self.directory / inside)))


@contextmanager
def built_image() -> Iterator[Image]:
    """Build the image, unless it is there, and keep others from building it until the block ends."""
    named = hashlib.sha256(sys.version.encode() + DOCKERFILE.read_bytes())
    for lock in _LOCKS:
        named.update((ROOT / "requirements" / f"{lock}.txt").read_bytes())
    folder = ROOT / "build" / f"image-{named.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield _build(folder.resolve())


def _build(root: Path) -> Image:
    _give_python(root)
    image = Image(root)
    for word, text in _instructions(DOCKERFILE.read_text(encoding="utf-8")):
        if word == "FROM":
            image = Image(root, left_out=image.left_out, _layers=image._layers)
            image.variables["PATH"] = f"{root / 'usr/bin'}:/usr/bin:/bin"
        else:
            # An instruction that nobody has said how to do without an engine is a KeyError.
            _DONE[word](image, text)
    return image


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in dockerfile.splitlines() if line and not line.startswith("#"))
    return [(word, text.strip()) for word, _, text in (line.partition(" ") for line in _joined(lines).splitlines())]


def _joined(lines: str) -> str:
    return re.sub(r"\s*\\\n\s*", " ", lines)


def _give_python(root: Path) -> None:
    """Put the Python that this test's environment was made from where the base image has its own."""
    (root / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    link = root / "usr" / "bin" / "python"
    if not link.exists():
        link.symlink_to(Path(sys.executable).resolve())


def _set_variables(image: Image, text: str) -> None:
    for assignment in shlex.split(text):
        name, _, value = assignment.partition("=")
        image.variables[name] = image.inside(Template(value).substitute(image.variables))


def _enter(image: Image, text: str) -> None:
    image.directory = Path(text)
    image.path("").mkdir(parents=True, exist_ok=True)


def _note(image: Image, text: str, *, name: str) -> None:
    setattr(image, name, json.loads(text) if text.startswith("[") else text)


def _copy(image: Image, text: str) -> None:
    words = shlex.split(text)
    *sources, target = [word for word in words if not word.startswith("--")]
    if len(sources) < len(words) - 1:
        # Between stages, which share the folder.
        assert sources == [target]
        assert image.path(target).is_dir()
        return
    for source in sources:
        origin, place = ROOT / source, image.path(target)
        if origin.is_dir():
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, place / origin.name)
        files = sorted(path for path in (place.rglob("*") if origin.is_dir() else [place / origin.name]))
        for path in files:
            if path.is_file():
                image._copied.update(str(path.relative_to(image.root)).encode() + b"\0" + path.read_bytes())


def _run(image: Image, commands: str) -> None:
    if commands.startswith(_FOR_ROOT):
        image.left_out.append(commands)
        return
    image._copied.update(commands.encode())
    layers, image._layers = image._layers, [*image._layers, image._copied.hexdigest()]
    there = image.root / "layers.json"
    kept = json.loads(there.read_text()) if there.exists() else []
    if kept[: len(image._layers)] == image._layers:
        return
    there.write_text(json.dumps(layers))
    variables = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "SSL", "HOME"))}
    variables |= image.variables
    # What an image must not keep is what the next run of this test lives on.
    variables.pop("PIP_NO_CACHE_DIR", None)
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", image.inside(commands)],
        cwd=image.path(""),
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_SECONDS,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    there.write_text(json.dumps(image._layers))


_DONE: Final[dict[str, Callable[[Image, str], None]]] = {
    "ENV": _set_variables,
    "WORKDIR": _enter,
    "COPY": _copy,
    "RUN": _run,
    "USER": partial(_note, name="user"),
    "ENTRYPOINT": partial(_note, name="entrypoint"),
    "CMD": partial(_note, name="command"),
    "HEALTHCHECK": lambda image, text: _note(image, text.partition("CMD ")[2], name="health"),
    "EXPOSE": partial(_note, name="exposed"),
    "STOPSIGNAL": partial(_note, name="stop_signal"),
}
