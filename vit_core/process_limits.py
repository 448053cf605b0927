"""A program that runs another one, which sets limits to this process before it sees a stranger's bytes.

    python -P process_limits.py PROGRAM [ARGUMENT ...]

calls the `main(give_up, *arguments)` of PROGRAM; that loads everything it needs and then calls `give_up`. Nothing of
this package is imported, so that the process starts at once; see `vit_core.limited_process` for the end that asks.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable

GiveUp = Callable[[int, int, int], None]


def give_up(memory: int, seconds: int, written: int) -> None:
    """Give up other processes, files that are not open, core dumps, and more of the rest than is needed.

    Args:
        memory: bytes that this process may take beside those that it has.
        seconds: of a processor, likewise.
        written: how long a file may become, in bytes.
    """
    import resource  # of Unix

    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, limit in {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: written,
        resource.RLIMIT_AS: in_use + memory,
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + seconds,
    }.items():
        _, allowed = resource.getrlimit(kind)
        limit = limit if allowed == resource.RLIM_INFINITY else min(limit, allowed)
        resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    runpy.run_path(sys.argv[1])["main"](give_up, *sys.argv[2:])
