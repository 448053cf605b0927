"""Locks on files and folders, which the system takes back from a process that dies.

They are BSD's (`flock`): whoever may read a file or folder may lock it, and readers share a lock that a writer has
alone. A lock tells of the processes of one kernel on one mounted file system. Windows has no such locks, and some
network file systems have none.

The environment variable `TRIVIT_LOCKS=off` has nobody ask for a lock or wait for one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SWITCH = "TRIVIT_LOCKS"
PATIENCE = 3.0  # seconds of waiting after which it is said
PAUSE = 0.005  # seconds between attempts until then

_open: set[int] = set()  # descriptors that may have a lock
_is_said = False  # that a file system has no locks


@contextlib.contextmanager
def lockable(folder: Path) -> Iterator[int | None]:
    """An open folder for `lock` and `try_lock`, whose lock ends with the block; None if it cannot be opened."""
    descriptor = None
    with contextlib.suppress(OSError):  # who opens something in it says what is wrong; Windows opens no folders
        descriptor = opened(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            unlock(descriptor)


def opened(path: Path | str, flags: int, folder: int | None = None) -> int:
    """Open a file or folder to lock it; see `os.open`, whose `dir_fd` is here `folder`. To be closed by `unlock`."""
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    _open.add(descriptor)
    return descriptor


def lock(descriptor: int | None, path: Path, *, shared: bool = False) -> bool:
    """Wait for a lock, and say so if it takes long.

    Args:
        descriptor: of an open file or folder. A lock that it has is exchanged, not kept meanwhile.
        path: what to call it.
        shared: together with others who share it; otherwise alone.

    Returns:
        Whether it is locked now; False where nothing can be locked.
    """
    until = time.monotonic() + PATIENCE
    while (granted := try_lock(descriptor, shared=shared)) is False and time.monotonic() < until:
        time.sleep(PAUSE)
    if granted is False:
        warnings.warn(
            f"waiting for {path}, which another process has locked: it saves or opens a checkpoint there, or hangs. "
            f"End it, or set {SWITCH}=off if it does neither.",
            UserWarning,
            stacklevel=2,
        )
    while granted is False:
        time.sleep(PAUSE * 10)
        granted = try_lock(descriptor, shared=shared)
    return granted is True


def try_lock(descriptor: int | None, *, shared: bool = False) -> bool | None:
    """Ask for a lock without waiting; for the arguments see `lock`.

    Returns:
        True if it is locked now, False if somebody else has it, None where nothing can be locked.
    """
    if sys.platform == "win32" or descriptor is None or os.environ.get(SWITCH) == "off":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(descriptor: int) -> None:
    """Give back the lock of what `opened` opened, and close it."""
    if descriptor not in _open:  # in a process that was forked meanwhile
        return
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    _open.discard(descriptor)  # before its number can be another's
    os.close(descriptor)


def _close_after_fork() -> None:
    """Keep no lock for a parent that dies: a lock lasts as long as any process has the same file open."""
    while _open:
        with contextlib.suppress(OSError):
            os.close(_open.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_after_fork)


def say_unlockable(path: Path) -> None:
    """Warn, once in a process, that the file system of a path has no locks."""
    global _is_said
    if not (_is_said or sys.platform == "win32" or os.environ.get(SWITCH) == "off"):
        _is_said = True
        warnings.warn(
            f"{path} is on a file system without locks: let one process at a time save there, and nobody open what it "
            f"saves meanwhile.",
            UserWarning,
            stacklevel=2,
        )
