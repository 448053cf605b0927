"""The `trivit` command: one line on standard error for a failure, and nothing imported that is not needed."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FAILURE, USAGE_ERROR, INTERRUPTED = 1, 2, 130

#: Errors that a caller can cause: their text is written for people. Any other is a mistake of ours.
EXPECTED_ERRORS = (OSError, ValueError, TypeError, ImportError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what follows the command's name; `sys.argv` unless given.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a wrong call, 130 after Ctrl-C.
    """
    try:
        with warnings.catch_warnings(), _seldom_collecting():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            warnings.filterwarnings("ignore", "Image size .* decompression bomb")  # PIL's, before an error of ours
            status = _run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        if os.environ.get("TRIVIT_TRACEBACK"):
            raise
        _complain(_sentence(error))
        # The base class of typer's own errors moved between its versions; what they have is this.
        return getattr(error, "exit_code", FAILURE)


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Have Python look for garbage in cycles each time that there are 100,000 new objects, not some hundreds.

    Frameworks make millions when they are imported, and few of them are garbage. To look through TensorFlow's took a
    sixth of the time in which `trivit classify` answers.
    """
    first, *later = gc.get_threshold()
    gc.set_threshold(100_000, *later)
    try:
        yield
    finally:
        gc.set_threshold(first, *later)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        import typer

        from vit_cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        raise ImportError(f'{error.name} is not installed; run: pip install "trivit[cli]"') from error
    try:
        status = typer.main.get_command(app).main(
            None if arguments is None else list(arguments), prog_name="trivit", standalone_mode=False
        )
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status or 0


def _sentence(error: Exception) -> str:
    if hasattr(error, "format_message"):
        return f"{error.format_message().rstrip('.')}; see trivit --help"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, EXPECTED_ERRORS):
        return str(error) or type(error).__name__
    return f"unexpected {type(error).__name__}: {error} (TRIVIT_TRACEBACK=1 shows where)"


def _complain(message: str) -> None:
    from vit_cli.terminal import complain

    complain(message)


def _show_warning(message: Warning | str, *_: object) -> None:
    _complain(f"warning: {message}")
