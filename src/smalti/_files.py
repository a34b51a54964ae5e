"""The one place that writes files and folders: beside the old one, then swapped, so that a whole one is there."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ZARR = ("zarr.json", ".zgroup")
"""Files by which a zarr store is known."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; afterwards that file takes the place of ``path`` in one step.

    If writing fails, whatever was at ``path`` is untouched and the unfinished file is removed.

    Parameters
    ----------
    path
        File to write; its folder is made if need be. A link is followed, so that the file it names is replaced.

    Raises
    ------
    OSError
        If the folder cannot be written to or the disk is full, with the name of ``path`` in the message.
    """
    target = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    check_file(target)
    with _named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(target)
    try:
        with _named(target):
            yield beside
            _flush(beside)
            os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    _flush(target.parent)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder beside ``path`` to fill; afterwards that folder takes the place of ``path``.

    If filling fails, whatever was at ``path`` is untouched and the unfinished folder is removed. Only a zarr store or
    an empty folder is ever replaced.

    Parameters
    ----------
    path
        Folder to write; the one that it lies in is made if need be.

    Raises
    ------
    OSError
        If the folder cannot be written to or the disk is full, with the name of ``path`` in the message.
    """
    target = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    check_file(target, folder=True)
    if target.exists() and any(target.iterdir()) and not any((target / name).exists() for name in ZARR):
        raise FileExistsError(f"{target} is a folder with other things in it. Name another place.")
    with _named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.parent))
    beside, old = room / target.name, room / "old"
    try:
        with _named(target):
            beside.mkdir()
            yield beside
            for part in beside.rglob("*"):
                _flush(part)
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(beside, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
    _flush(target.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write text (UTF-8) to a file, see :func:`replacing`."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Raise now if ``path`` could not be written later; leaves nothing behind.

    Parameters
    ----------
    path
        File or folder that will be written, made with its parents if need be.
    folder
        Whether it will be a folder.

    Raises
    ------
    IsADirectoryError, NotADirectoryError
        If something of the other kind is there.
    OSError
        If nothing can be written there.
    """
    path = Path(path)
    check_file(path, folder=folder)
    start = path if folder else path.parent
    while not start.exists() and start != start.parent:
        start = start.parent
    if not start.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {start} is a file, not a folder. Name another place.")
    with _named(path):
        handle, name = tempfile.mkstemp(prefix=".smalti-", dir=start)
        try:
            os.write(handle, b"\0" * 4096)  # an empty file fits even on a full disk
        finally:
            os.close(handle)
            os.unlink(name)


def check_file(path: Path, *, folder: bool = False) -> None:
    """Raise if a folder is where a file should be, or the other way round."""
    if not path.name:
        return
    if path.is_dir() and not folder:
        raise IsADirectoryError(f"{path} is a folder, expected a file to write. Name a file in it.")
    if folder and path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, expected a folder to write to. Name a folder.")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(target: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    os.chmod(name, mode)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """Bring a file or the entries of a folder to the disk, where the system offers it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # a folder cannot be opened on every system
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
    finally:
        os.close(handle)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say in one sentence which file could not be written and why."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        kind = PermissionError if isinstance(error, PermissionError) else OSError
        raise kind(f"{path} could not be written ({reason}); what was there before is as it was.") from error
