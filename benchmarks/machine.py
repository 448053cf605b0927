"""What the numbers were measured on, without names that only its owner knows."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """Processor, cores, memory, system and Python."""
    return {
        "processor": of_file("/proc/cpuinfo", "model name") or platform.machine(),
        "instructions": instructions(of_file("/proc/cpuinfo", "flags").split()),
        "cores": len(os.sched_getaffinity(0)),
        "memory": int((of_file("/proc/meminfo", "MemTotal") or "0").split()[0]) * 1024,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def instructions(flags: list[str]) -> list[str]:
    """Those of a processor's flags that decide how fast matrix products are."""
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8") if flag in flags]


def busy() -> float:
    """Seconds that all cores together have worked, for anybody."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Those of them that worked for this process, and for its children that have ended."""
    return sum(os.times()[:4])


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
