"""The `.venv` that make makes, as the README's commands find it."""

from __future__ import annotations

import hashlib

from tests.support.absence import skip
from tests.support.command import ROOT


def require_made_environment() -> None:
    """Skip where .venv was not made by make from what is here: the README's commands would install into it anew.

    What they install would name the folder of the test, which everybody else who uses .venv would then import from.
    """
    if not any((ROOT / ".venv" / stamp_of(purpose)).exists() for purpose in ("run", "dev")):
        skip("the README's commands need the .venv that make makes")


def stamp_of(purpose: str) -> str:
    """Return the name of the file that says what .venv was made from, as the Makefile makes it."""
    names = (f"requirements/{purpose}.txt", "pyproject.toml", "tools/environment.sh", "requirements/build.txt")
    content = b"".join((ROOT / name).read_bytes() for name in names)
    digest = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
    return f".made-{purpose}-{digest}"
