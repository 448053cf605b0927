"""What the numbers were measured on, without names that only its owner knows."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from pathlib import Path
from typing import Any

#: What decides how fast a processor's matrix products are; the last is ARM's.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "bf16")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and Python."""
    return {
        "processor": of_file("/proc/cpuinfo", "model name") or platform.machine(),
        "instructions": instructions(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": int((of_file("/proc/meminfo", "MemTotal") or "0").split()[0]) * 1024,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def instructions() -> list[str]:
    """Those of `INSTRUCTIONS` that the processor has."""
    flags = (of_file("/proc/cpuinfo", "flags") or of_file("/proc/cpuinfo", "Features")).split()
    return [flag for flag in INSTRUCTIONS if flag in flags]


def busy() -> float:
    """Seconds that all cores together have worked, for anybody."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Those of them that worked for this process, its children, and theirs that have ended."""
    return sum(os.times()[:4]) + sum(map(of_child, Path("/proc").glob("[0-9]*/stat")))


def of_child(stat: Path) -> float:
    """Seconds of a process and of its children that have ended, if it is a child of this one."""
    with contextlib.suppress(OSError):  # it has just ended
        fields = stat.read_text().rpartition(")")[2].split()  # a name may have spaces
        if int(fields[1]) == os.getpid():
            return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def today() -> str:
    """The date, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def of_file(path: str, field: str) -> str:
    """The value of a line `field : value`; nothing where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field), "")
