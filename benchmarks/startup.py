"""How long a user waits before anything happens: imports and `trivit --help`, each in fresh processes.

Usage: python benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time

IMPORT = "{before}\nimport time; start = time.perf_counter()\nimport {module}\nprint(time.perf_counter() - start)"
LIMITS = {"import vit_core": 0.3, "import vit_torch after torch": 0.15, "trivit --help": 0.5}


def import_time(module: str, before: str = "") -> float:
    """Seconds that an import takes, in a fresh process that has already imported what comes before."""
    code = IMPORT.format(before=before, module=module)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def command_time(*command: str) -> float:
    """Seconds from the start of a command to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure alternately, so that a busy machine slows all rows alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="fresh processes for each row (default 7)")
    runs = parser.parse_args().runs
    trivit = shutil.which("trivit") or "trivit"
    measures = {
        "import vit_core": lambda: import_time("vit_core"),
        "import vit_torch after torch": lambda: import_time("vit_torch", before="import torch"),
        "trivit --help": lambda: command_time(trivit, "--help"),
    }
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(runs + 1)]
    times = {name: [one[name] for one in rounds[1:]] for name in measures}  # the first round warms the disk cache
    print(f"{'':32}{'median':>8}{'fastest':>9}{'limit':>8}   seconds, {runs} runs")
    for name, seconds in times.items():
        print(f"{name:32}{statistics.median(seconds):8.3f}{min(seconds):9.3f}{LIMITS[name]:8.2f}")


if __name__ == "__main__":
    main()
