"""Saving that either completes or leaves what was there before.

A checkpoint is several files that only make sense together, and no file system replaces several files at once. So a
save writes all of them, flushed to disk, into a staging folder inside the checkpoint's folder and then renames that
folder to `COMMITTED`: this one rename is the moment the save happens. Moving the files to their places afterwards can
be cut short at any point, since whoever opens the folder next finishes it (`finish_interrupted_save`).

Two locks keep processes out of each other's way, and a process that dies gives them back (`vit_core.locks`). A lock on
the folder is shared by those that open a checkpoint there, and had alone by those that commit or finish a save. A lock
on the staging says that its save is alive: what a killed save left behind is removed by the next one, and only if it
can be locked. A lock means nothing where it was asked for through another kernel or another mount, such as on another
machine: what was staged there is left alone for a day, however dead it looks.

Where nothing can be locked (Windows, some network file systems) what is said above holds for one process at a time, and
all that was staged is left alone for a day.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from vit_core.locks import lock, lockable, opened, say_unlockable, try_lock, unlock

COMMITTED = ".trivit-save-committed"
STAGING = ".trivit-save-staging"
#: Inside the staging folder: names of the old files that the new ones make obsolete. Its lock is that of the folder,
#: since network file systems lock only files that are open for writing.
REPLACED = "replaced.json"
LARGEST_LIST = 2**20  # bytes of that file; one is a few hundred
DAY = 24 * 3600.0  # seconds without a change after which what was staged elsewhere is taken for abandoned
ATTEMPTS = 10  # to stage something before another process removes it


def write_file(path: Path, data: bytes) -> None:
    """Write one file so that the path holds either its old content or all of the new.

    Args:
        path: the file; its folder is made if need be.
        data: the whole content.

    Raises:
        OSError: it cannot be written (read-only folder, full disk, ...); what was there before is untouched.
    """
    path = Path(path)
    with _explained(path):
        _prepare(path.parent)
        with _staged(path.parent, is_folder=False) as (temporary, _):
            write_flushed(temporary, data)
            os.replace(temporary, path)
        _flush_folder(path.parent)


@contextlib.contextmanager
def replacing_files(folder: Path, names: Collection[str], obsolete: tuple[str, ...] = ()) -> Iterator[Path]:
    """Replace several files of a folder at once.

    The caller writes the new files, each flushed to disk as by `write_flushed`, into the folder that is yielded. When
    the block ends they appear in `folder` together; when it raises, or the process dies, `folder` is as it was.

    Args:
        folder: where the files belong; made if need be.
        names: of the files that the block writes. If one of them is gone at its end, nothing is saved.
        obsolete: glob patterns of files that go when the new ones come, unless they are among the new ones. Only
            files whose names start as those of weights do ("model", "pytorch_model", ...) ever go.

    Yields:
        The staging folder, in which nothing but `REPLACED` is.

    Raises:
        OSError: the files cannot be written; what was there before is untouched.
    """
    folder = Path(folder)
    with _explained(folder):
        _prepare(folder)
        with _staged(folder, is_folder=True) as (staging, release):
            yield staging
            with lockable(folder) as descriptor:
                lock(descriptor, folder)
                _finish(folder)
                _commit(staging, folder, names, obsolete)
                release()  # network file systems keep a file that is open, and with it the folder
                _finish(folder)


def finish_interrupted_save(folder: Path) -> None:
    """Put the files of a committed save in their places, if a save was cut short there; otherwise do nothing.

    Args:
        folder: a checkpoint's folder.

    Raises:
        OSError: a save was cut short and the folder cannot be written.
    """
    if _is_committed(Path(folder)):
        with undisturbed(folder):
            pass


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Keep every save of this machine out of a folder for the length of the block; one cut short is finished first.

    What the block reads in the folder thus comes from one save. Others may read at the same time. The block must not
    save in the folder.

    Args:
        folder: an existing folder; it need not be writable, and one that cannot be locked can still be read.

    Raises:
        OSError: a save was cut short and the folder cannot be written.
    """
    folder = Path(folder)
    with lockable(folder) as descriptor:
        lock(descriptor, folder, shared=True)
        if _is_committed(folder):
            lock(descriptor, folder)
            _finish(folder)
        yield


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and return when it has reached the disk; not atomic, so for files that nobody looks for yet."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _prepare(folder: Path) -> None:
    """Make a folder ready for a save."""
    folder.mkdir(parents=True, exist_ok=True)
    finish_interrupted_save(folder)
    _remove_abandoned_staging(folder)


@contextlib.contextmanager
def _staged(folder: Path, is_folder: bool) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A place for new files or one new file, and what gives up its lock; what the block leaves there is removed."""
    with contextlib.ExitStack() as unlocking:
        staging, descriptor = _stage(folder, is_folder)
        unlocking.callback(_remove, staging)
        if descriptor is not None:
            unlocking.callback(unlock, descriptor)
        yield staging, unlocking.close


def _stage(folder: Path, is_folder: bool) -> tuple[Path, int | None]:
    """Make a staging folder or file and lock it; beside it the descriptor that has the lock, if there are any."""
    for _ in range(ATTEMPTS):
        staging = folder / f"{_staging_prefix(folder)}{secrets.token_hex(8)}"
        if is_folder:
            staging.mkdir()
        lock_file = staging / REPLACED if is_folder else staging
        try:
            descriptor = opened(lock_file, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # who cleans up was faster
            continue
        except OSError:
            _remove(staging)
            raise
        granted = try_lock(descriptor)
        if granted and lock_file.exists():  # nobody else makes a file of that name
            return staging, descriptor
        unlock(descriptor)
        if granted is None:
            say_unlockable(folder)
            return staging, None
    raise OSError(f"cannot save to {folder}: another program removes what is written there before it is complete.")


def _commit(staging: Path, folder: Path, names: Collection[str], obsolete: tuple[str, ...]) -> None:
    """Make the staged files the ones that count."""
    new = {file.name for file in staging.iterdir()} - {REPLACED}
    if blocked := sorted(name for name in new if (folder / name).is_dir()):
        raise IsADirectoryError(f"cannot save to {folder}: {blocked[0]} is a folder there; move or remove it.")
    old = {file.name for pattern in obsolete for file in folder.glob(pattern)} - new
    write_flushed(staging / REPLACED, json.dumps(sorted(old)).encode())
    _flush_folder(staging)
    if lost := sorted({*names, *new} - {file.name for file in staging.iterdir()}):
        raise FileNotFoundError(
            f"cannot save to {folder}: {lost[0]} was removed while the files beside it were written; what was there "
            f"before is unchanged."
        )
    os.rename(staging, folder / COMMITTED)
    _flush_folder(folder)


def _finish(folder: Path) -> None:
    """Put committed files in their places; each step may have been done already.

    Nothing is believed of the folder, which may come from a stranger: a link instead of it is not followed, since it
    would move files here that are not the checkpoint's.
    """
    committed = folder / COMMITTED
    if not _is_committed(folder):
        return
    try:
        for name in _obsolete_files(committed / REPLACED):
            if not (folder / name).is_dir():
                (folder / name).unlink(missing_ok=True)
        # REPLACED goes last: without it a second attempt would not know which old files to remove.
        for file in sorted(committed.iterdir()):
            if file.name != REPLACED and not file.is_dir():
                with contextlib.suppress(FileNotFoundError):  # where nothing can be locked, another process was faster
                    os.replace(file, folder / file.name)
    except OSError as error:
        raise type(error)(
            f"a save in {folder} is complete but could not put its files in their places: "
            f"{error.strerror or error}; opening the folder where it can be written finishes it."
        ) from error
    _flush_folder(folder)
    shutil.rmtree(committed, ignore_errors=True)


def _is_committed(folder: Path) -> bool:
    """Whether a save in a folder is complete, but its files are not in their places."""
    committed = folder / COMMITTED
    return committed.is_dir() and not committed.is_symlink()


def _obsolete_files(list_file: Path) -> list[str]:
    """The names in the list, as far as they can be names of weights."""
    try:
        if not list_file.is_file() or list_file.stat().st_size > LARGEST_LIST:
            return []
        names = json.loads(list_file.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return []
    if not isinstance(names, list):
        return []
    return [
        name for name in names if isinstance(name, str) and re.fullmatch(r"(pytorch_|tf_|flax_)?model[\w.-]*", name)
    ]


def _staging_prefix(folder: Path) -> str:
    """What the names of all start with that is staged under the same locks: through one kernel and one mount.

    Containers may share host names and not process numbers; but their locks, if they have the kernel in common.
    """
    return f"{STAGING}-{_kernel()}-{folder.stat().st_dev:x}-"


@functools.cache
def _kernel() -> str:
    """The run of the kernel, by which it is told from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "").strip()
    except OSError:  # no Linux
        return re.sub(r"\W", "", platform.node()) if sys.platform == "darwin" else secrets.token_hex(16)


def _remove_abandoned_staging(folder: Path) -> None:
    """Remove what saves left when their process was killed; what may be alive, the next save looks at again."""
    with contextlib.suppress(OSError), lockable(folder) as descriptor:
        found = [folder / name for name in os.listdir(folder) if name.startswith(f"{STAGING}-")]
        if not found or try_lock(descriptor) is False:
            return
        for staging in found:
            with contextlib.suppress(OSError):  # a link, for example, which is left alone
                _remove_if_abandoned(staging, staging.name.startswith(_staging_prefix(folder)))


def _remove_if_abandoned(staging: Path, is_lock_ours: bool) -> None:
    """Remove what was staged, if no living save has its lock, and unless a lock tells, nobody wrote there for a day."""
    is_old = _age(staging) > DAY
    if not (is_old or is_lock_ours):
        return
    with _lock_of(staging) as descriptor:
        granted = try_lock(descriptor)
        if granted or (granted is None and is_old):
            _remove(staging)


@contextlib.contextmanager
def _lock_of(staging: Path) -> Iterator[int | None]:
    """The lock of what was staged, to be asked for; nothing that a link leads to is opened.

    Raises:
        OSError: there is no such file or folder.
    """
    if sys.platform == "win32":
        yield None
        return
    with contextlib.ExitStack() as closing:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        if stat.S_ISDIR(staging.lstat().st_mode):
            inside = os.open(staging, os.O_RDONLY | os.O_NOFOLLOW)
            closing.callback(os.close, inside)
            # Made if the save was killed before it was: only what is locked may go.
            descriptor = opened(REPLACED, flags | os.O_CREAT, inside)
        else:
            descriptor = opened(staging, flags)
        closing.callback(unlock, descriptor)
        yield descriptor


def _age(staging: Path) -> float:
    """Seconds since something was written there."""
    inside = staging.iterdir() if stat.S_ISDIR(staging.lstat().st_mode) else ()
    return time.time() - max(path.lstat().st_mtime for path in (staging, *inside))


def _remove(staging: Path) -> None:
    shutil.rmtree(staging, ignore_errors=True)  # of `replacing_files`
    with contextlib.suppress(OSError):  # of `write_file`
        staging.unlink()


def _flush_folder(folder: Path) -> None:
    """Make renames in the folder durable, where the system can; they have happened in any case."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in one sentence what could not be saved, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # already a sentence
            raise
        reason = error.strerror or str(error)
        raise type(error)(f"cannot save to {path}: {reason}; what was there before is unchanged.") from error
