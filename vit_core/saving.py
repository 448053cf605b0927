"""Saving that either completes or leaves what was there before.

A checkpoint is several files that only make sense together, and no file system replaces several files at once. So a
save writes all of them, flushed to disk, into a staging folder inside the checkpoint's folder and then renames that
folder to `COMMITTED`: this one rename is the moment the save happens. Moving the files to their places afterwards can
be cut short at any point, since whoever opens the folder next finishes it (`finish_interrupted_save`).

A lock on the folder keeps processes that save, finish or open a checkpoint there out of each other's way; a process
that dies gives its lock back. Where folders cannot be locked (Windows, some network file systems) what is said above
still holds for one process at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

COMMITTED = ".trivit-save-committed"
STAGING = ".trivit-save-staging"
REPLACED = "replaced.json"  # inside the staging folder: names of the old files that the new ones make obsolete
LARGEST_LIST = 2**20  # bytes of that file; one is a few hundred


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
        temporary = _prepare(path.parent)
        try:
            write_flushed(temporary, data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


@contextlib.contextmanager
def replacing_files(folder: Path, obsolete: tuple[str, ...] = ()) -> Iterator[Path]:
    """Replace several files of a folder at once.

    The caller writes the new files, each flushed to disk as by `write_flushed`, into the folder that is yielded. When
    the block ends they appear in `folder` together; when it raises, or the process dies, `folder` is as it was.

    Args:
        folder: where the files belong; made if need be.
        obsolete: glob patterns of files that go when the new ones come, unless they are among the new ones. Only
            files whose names start as those of weights do ("model", "pytorch_model", ...) ever go.

    Yields:
        The empty staging folder.

    Raises:
        OSError: the files cannot be written; what was there before is untouched.
    """
    folder = Path(folder)
    with _explained(folder):
        staging = _prepare(folder)
        staging.mkdir()
    try:
        with _explained(folder):
            yield staging
            with undisturbed(folder):
                _commit(staging, folder, obsolete)
                _finish(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def finish_interrupted_save(folder: Path) -> None:
    """Put the files of a committed save in their places, if a save was cut short there; otherwise do nothing.

    Args:
        folder: a checkpoint's folder.

    Raises:
        OSError: a save was cut short and the folder cannot be written.
    """
    if (Path(folder) / COMMITTED).is_dir():
        with undisturbed(folder):
            pass


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Keep every save of this machine out of a folder for the length of the block; one cut short is finished first.

    What the block reads in the folder thus comes from one save. Blocks exclude each other and must not nest.

    Args:
        folder: an existing folder; it need not be writable.

    Raises:
        OSError: a save was cut short and the folder cannot be written.
    """
    with contextlib.ExitStack() as unlocking:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # a folder that cannot be locked can still be read
                descriptor = os.open(folder, os.O_RDONLY)
                unlocking.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Said aloud: closing alone leaves the lock to a process that was forked meanwhile.
                unlocking.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
        _finish(Path(folder))
        yield


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and return when it has reached the disk; not atomic, so for files that nobody looks for yet."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _prepare(folder: Path) -> Path:
    """Make a folder ready for a save and return the path to stage it under."""
    folder.mkdir(parents=True, exist_ok=True)
    finish_interrupted_save(folder)
    _remove_abandoned_staging(folder)
    return folder / f"{STAGING}-{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"


def _commit(staging: Path, folder: Path, obsolete: tuple[str, ...]) -> None:
    """Make the staged files the ones that count."""
    new = {file.name for file in staging.iterdir()}
    if blocked := sorted(name for name in new if (folder / name).is_dir()):
        raise IsADirectoryError(f"cannot save to {folder}: {blocked[0]} is a folder there; move or remove it.")
    old = {file.name for pattern in obsolete for file in folder.glob(pattern)} - new
    write_flushed(staging / REPLACED, json.dumps(sorted(old)).encode())
    _flush_folder(staging)
    os.rename(staging, folder / COMMITTED)
    _flush_folder(folder)


def _finish(folder: Path) -> None:
    """Put committed files in their places; each step may have been done already.

    Nothing is believed of the folder, which may come from a stranger: a link instead of it is not followed, since it
    would move files here that are not the checkpoint's.
    """
    committed = folder / COMMITTED
    if committed.is_symlink() or not committed.is_dir():
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


def _remove_abandoned_staging(folder: Path) -> None:
    """Remove what saves on this machine left when their process was killed."""
    for staging in folder.glob(f"{STAGING}-*-*-*"):
        machine, process, _ = staging.name.removeprefix(f"{STAGING}-").rsplit("-", 2)
        if machine == platform.node() and re.fullmatch("[0-9]{1,9}", process) and not _is_running(int(process)):
            shutil.rmtree(staging, ignore_errors=True)  # of `replacing_files`
            with contextlib.suppress(OSError):  # of `write_file`
                staging.unlink()


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there os.kill(process, 0) would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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
