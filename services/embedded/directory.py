"""The directory of an embedded server: one user at a time, its password, and where its data may live."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.embedded.process import EmbeddedServerError, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM_DATA_HOME = Path("/var/lib")
_NOBODY = 65534
_REMEDIES: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "make it and what it holds yours, or choose another directory"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room, or choose another directory"),
}


class DirectoryLock:
    """Lets one process at a time use a directory. The kernel releases it when that process ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            EmbeddedServerError: another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise EmbeddedServerError(
                f"Another KongFlow is using {self._path.parent}: stop it, or choose another directory."
            ) from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back. Repeatable."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def failures_in(directory: Path) -> Iterator[None]:
    """Turn what the system refuses to do in `directory` into a sentence.

    Raises:
        EmbeddedServerError: it may not be used, is none or cannot be made, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        path = f"{error.filename}: " if error.filename and Path(error.filename) != directory else ""
        remedy = _REMEDIES.get(error.errno or 0, "choose another directory")
        raise EmbeddedServerError(f"KongFlow cannot start in {directory} ({path}{reason}): {remedy}.") from error


def read_or_create_password(path: Path) -> str:
    """Return the password kept in `path`, a file only its owner may read, and create a random one the first time."""
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    password = secrets.token_urlsafe(24)
    write_private(path, password)
    return password


def write_private(path: Path, text: str, *, owner: Identity | None = None) -> None:
    """Write `text` to a file that only its owner may read; a reader sees all of it or nothing."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner.user_id, owner.group_id)
    unfinished.replace(path)


def unprivileged_identity() -> Identity | None:
    """Return who a server that refuses root runs as: nobody when we are root, else None, which means ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(_NOBODY, _NOBODY)
    return Identity(nobody.pw_uid, nobody.pw_gid)


def can_reach(path: Path, identity: Identity) -> bool:
    """Tell whether `identity` may enter `path` and every folder above it, by their owners and modes."""
    return all(_may_enter(folder.stat(), identity) for folder in (path, *path.parents))


def _may_enter(status: os.stat_result, identity: Identity) -> bool:
    if status.st_uid == identity.user_id:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == identity.group_id:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def system_home() -> Path:
    """Return a folder of our own, made by root and open to all, outside of every project.

    Raises:
        EmbeddedServerError: someone else made the folder of that name.
    """
    for parent in (SYSTEM_DATA_HOME, Path(tempfile.gettempdir())):
        home = parent / "kongflow"
        try:
            home.mkdir(mode=0o755)
            home.chmod(0o755)
        except FileExistsError:
            status = home.lstat()
            if status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode):
                return home
        except OSError:
            continue
        else:
            return home
    raise EmbeddedServerError(
        f"Neither {SYSTEM_DATA_HOME / 'kongflow'} nor {Path(tempfile.gettempdir()) / 'kongflow'} can be made by us."
    )


def home_reachable_by(identity: Identity | None, directory: Path) -> Path:
    """Return where a server running as `identity` keeps what belongs to `directory`.

    That is `directory` itself where `identity` can reach it. Elsewhere it is a folder of our own outside the project,
    named by the path, so that the next start finds it again.
    """
    if identity is None or can_reach(directory, identity):
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    home = system_home() / f"{directory.name}-{name}"
    home.mkdir(mode=0o755, exist_ok=True)
    home.chmod(0o755)
    return home


def make_scratch_directory(prefix: str) -> Path:
    """Make a new directory that an embedded server can enter, whoever it runs as, and return it; its user removes it.

    It is among the temporary files, or in our own folder where only we may enter those.
    """
    identity = unprivileged_identity()
    parent = Path(tempfile.gettempdir())
    if identity is not None and not can_reach(parent, identity):
        parent = system_home()
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    directory.chmod(0o755)
    return directory


def publish_copy(sources: dict[str, Path], target: Path) -> None:
    """Copy files and folders (name in the copy → where it is) to `target`, which appears complete or not at all.

    Everyone may read the copy and run what its owner may run. Does nothing when `target` exists.
    """
    if target.exists():
        return
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        for name, source in sources.items():
            destination = unfinished / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, destination, symlinks=True)
            else:
                shutil.copy2(source, destination)
        _open_to_readers(unfinished)
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished)
        if not target.exists():
            raise


def _open_to_readers(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            runnable = stat.S_IXGRP | stat.S_IXOTH if mode & stat.S_IXUSR else 0
            path.chmod(mode | stat.S_IRGRP | stat.S_IROTH | runnable)
