"""How much memory this process may have, which in a container or under a limit is less than the machine has."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import resource

GROUPS = Path("/proc/self/cgroup")
#: Where Linux mounts its control groups, and a group's file of the limit: version 2 and, below it, version 1.
HIERARCHIES = {
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
USED = Path("/proc/self/statm")  # in pages: all that is mapped first, data and stack sixth

#: How the allocators of the frameworks say that there is none left: torch, TensorFlow, XLA, C++.
_SHORTAGE = re.compile(
    "resource.?exhausted|out of memory|(can't|cannot|failed to|unable to) allocate|OOM when allocating|bad_alloc", re.I
)


def allowed_memory() -> int | None:
    """The bytes that this process can have: the least of the machine's memory, its control groups' limits and what its
    own limits leave; None where nothing tells.
    """
    limits = [*_machine(), *_groups(), *_own_limits()]
    return max(0, min(limits)) if limits else None


@contextlib.contextmanager
def explaining_shortage(what: str) -> Iterator[None]:
    """Have a lack of memory come out as one sentence, whichever allocator meets it.

    Args:
        what: what the memory is for, such as "loading google/vit-huge".

    Raises:
        OSError: there was not enough memory in the block.
    """
    try:
        yield
    except Exception as error:  # each framework has its own
        if not _is_shortage(error):
            raise
        allowed = allowed_memory()
        may_have = "" if allowed is None else f", of which this process may have {in_gib(allowed)}"
        raise OSError(
            f"{what} takes more memory than there is{may_have}; free some, or take a smaller model."
        ) from error


def in_gib(count: int) -> str:
    """A number of bytes in powers of 1024, such as "7.5 GiB"."""
    return f"{count / 2**30:.1f} GiB"


def _is_shortage(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    return not isinstance(error, ValueError | TypeError) and bool(_SHORTAGE.search(str(error)[:2000]))


def _machine() -> Iterator[int]:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[int]:
    """The limits of the control groups that the process is in, and of those around them."""
    with contextlib.suppress(OSError, ValueError):
        for line in GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller, (root, name) in HIERARCHIES.items():
                if controller in controllers.split(","):
                    inside = [root / path.lstrip("/"), *(root / path.lstrip("/")).parents]
                    yield from (
                        limit for folder in inside if folder.is_relative_to(root) for limit in _limit(folder / name)
                    )


def _limit(file: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # not there, or "max"
        yield int(file.read_text())


def _own_limits() -> Iterator[int]:
    if sys.platform == "win32":
        return
    used = [0] * 7
    with contextlib.suppress(OSError, ValueError):
        used = [int(pages) * resource.getpagesize() for pages in USED.read_text().split()]
    for kind, taken in ((resource.RLIMIT_AS, used[0]), (resource.RLIMIT_DATA, used[5])):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft - taken
