"""The process in which sides do their work: `serve` reads requests and writes answers, as JSON.

A request is a line `[method, arguments]` on standard input, its answer a line on standard output: `{"result": ...}` or
`{"error": ...}`. What the work itself prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

#: Packages whose versions say what was measured.
NOTED = (
    *(
        "torch",
        "transformers",
        "timm",
        "torchvision",
        "onnxruntime",
        "tensorflow",
        "tensorflow-cpu",
        "keras",
        "tf-keras",
    ),
    *("keras-hub", "jax", "jaxlib", "flax", "numpy", "pillow", "safetensors"),
)


#: An allocator that gives memory back at once, so that what is taken again is seen; slower, so never beside a clock.
FRUGAL = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def first_peak(run: Callable[[], Any]) -> int:
    """The most bytes that this process has in use at a time while it runs something, besides those in use before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = of_memory("VmRSS")
    run()
    return max(of_memory("VmHWM") - before, 0)


def peak(run: Callable[[], Any]) -> int:
    """The same of work that is done again: tracing and compiling are over, and what stays is there."""
    run()
    return first_peak(run)


class Spent(NamedTuple):
    """What doing work once took, where the work itself knows better than who asked for it.

    Attributes:
        seconds: of what counts.
        memory: the bytes that it needed, where they are not measured apart.
    """

    seconds: float
    memory: int | None = None


class Prepared(NamedTuple):
    """Work that is ready to be done, again and again.

    Attributes:
        run: does it once, to its end. Where it returns `Spent`, that counts; otherwise its time is taken here.
        answer: some numbers of what it computes, the same of all who do the same work.
        memory: the bytes that it needs, in a process that is `FRUGAL`.
        quality: how good its answers are, as shares by what is counted, where others' speed has a price.
    """

    run: Callable[[], Any]
    answer: Callable[[], list[float]] | None = None
    memory: Callable[[Callable[[], Any]], int] = peak
    quality: Callable[[], dict[str, float]] = dict


class Worker:
    """What a process can be asked to do. Each method takes and gives what JSON can hold."""

    def __init__(self) -> None:
        self.work: dict[str, Prepared] = {}

    def prepare(self, side: str, module: str, work: dict[str, Any]) -> None:
        """Get work ready, and forget what was."""
        self.release(side)
        self.work[side] = importlib.import_module(f"benchmarks.sides.{module}").prepare(**work)

    def answer(self, side: str) -> list[float] | None:
        """Some numbers of what it computes, if it has any."""
        prepared = self.work[side]
        return prepared.answer() if prepared.answer else None

    def turn(self, side: str, repeats: int) -> dict[str, Any]:
        """Do it some times; gives mean seconds, those of all threads together, and the most memory if that is told."""
        run = self.work[side].run
        start, cpu_start = time.perf_counter(), time.process_time()
        spent = [run() for _ in range(repeats)]
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        memory = None
        if isinstance(spent[0], Spent):
            seconds = sum(each.seconds for each in spent)
            memory = max((each.memory for each in spent if each.memory is not None), default=None)
        return {"seconds": seconds / repeats, "cpu_seconds": cpu_seconds / repeats, "memory": memory}

    def quality(self, side: str) -> dict[str, float]:
        """How good its answers are, if that is a question."""
        return self.work[side].quality()

    def memory(self, side: str) -> int:
        """The bytes that it needs."""
        prepared = self.work[side]
        return prepared.memory(prepared.run)

    def release(self, side: str) -> None:
        """Forget it."""
        self.work.pop(side, None)
        gc.collect()

    def versions(self) -> dict[str, str]:
        """What is installed of the packages that matter."""
        found = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
        return {name: found[name] for name in NOTED if name in found}


def of_memory(field: str) -> int:
    """Bytes of this process, by a field of Linux's /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}; the benchmarks need Linux.")


def serve() -> None:
    """Answer each line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            answer = {"result": getattr(worker, method)(**arguments)}
        except Exception as error:  # whatever a package may raise is the answer
            text = str(error).strip()
            answer = {"error": f"{type(error).__name__}: {text.splitlines()[0] if text else 'without a word'}"}
            if os.environ.get("BENCHMARKS_TRACEBACKS"):
                sys.excepthook(*sys.exc_info())
        print(json.dumps(answer), file=answers, flush=True)
