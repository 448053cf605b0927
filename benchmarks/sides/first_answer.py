"""From the start of a process to a model's first answer or training step: imports, loading, compiling."""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

from benchmarks.processes import Process
from benchmarks.worker import Prepared, Spent


def prepare(module: str, **work: Any) -> Prepared:
    """Have a fresh process do once what a module of `benchmarks.sides` prepares."""

    def run() -> Spent:
        with tempfile.TemporaryDirectory() as cache:  # torch.compile finds nothing that it has compiled before
            start = time.perf_counter()
            process = Process(sys.executable, {"TORCHINDUCTOR_CACHE_DIR": cache})
            try:
                process.ask("prepare", side="", module=module, work=work)
                process.ask("turn", side="", repeats=1)
            finally:
                seconds = time.perf_counter() - start
                process.close()
        return Spent(seconds)

    return Prepared(run)
