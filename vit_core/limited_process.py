"""Programs that see a stranger's bytes in a process of their own, with limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from vit_core.checks import shown

STARTER = Path(__file__).with_name("process_limits.py")
LONGEST_ANSWER = 1000  # bytes


def is_possible() -> bool:
    """Whether processes can be given limits: on Linux, where Python is a program that can be called."""
    return sys.platform == "linux" and bool(sys.executable) and not getattr(sys, "frozen", False)


def run(
    program: Path,
    *arguments: int,
    source: BinaryIO,
    target: BinaryIO,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program that reads one file and writes another.

    Args:
        program: a Python file; see `vit_core.process_limits`.
        arguments: for its `main`, which gets them as text.
        source: its standard input, which is read from where it stands.
        target: its standard output.
        environment: variables that it has beside those of this process.

    Returns:
        How it ended, to follow its name in a sentence: "crashes on it (SIGSEGV)"; empty if it did its work.

    Raises:
        OSError: no process can be started.
    """
    command = [sys.executable, "-P", *map(str, (STARTER, program, *arguments))]
    environment = {**os.environ, **(environment or {})}
    with os.fdopen(os.memfd_create("answer"), "rb") as answer:
        code = subprocess.run(command, stdin=source, stdout=target, stderr=answer, env=environment).returncode
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "takes longer for it than for any file of its size"
        if code < 0:
            return f"crashes on it ({signal.Signals(-code).name})"
        said = os.pread(answer.fileno(), LONGEST_ANSWER, 0).decode(errors="replace").strip()
        return f"says {shown(said)}" if code else ""
