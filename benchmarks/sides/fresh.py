"""What a user waits for: programs in fresh processes, from their start to their end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

from benchmarks.worker import Prepared, Spent


def prepare(kind: str, programs: Mapping[str, str]) -> Prepared:
    """Run a program of Python's.

    Args:
        kind: what is to be done.
        programs: the code that does it, by kind.
    """
    command = [sys.executable, "-c", programs[kind]]

    def run() -> Spent:
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Spent(time.perf_counter() - start)

    return Prepared(run)
