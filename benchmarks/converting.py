"""Converting ViT-L/16 (1.2 GB) to each format: time against copying its file, and peak memory.

Copies and conversions take turns, each in a process of its own, and end when the data have reached the disk. To copy is
to copy the file and look once at each of its bytes. Usage: python benchmarks/converting.py [--rounds N] [FORMAT ...]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from conversion.converter import convert
from conversion.format_names import WRITABLE_NAMES
from vit_core import ViTConfig, parameters
from vit_core.checkpoint import save_checkpoint
from vit_core.stored_tensor import StoredTensor

LARGE = ViTConfig(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    num_labels=1000,
    layer_norm_eps=1e-6,
    architectures=["ViTForImageClassification"],
)
COPY, HALF = "copy and one pass", "transformers, as bfloat16"


def write_large_model(folder: Path) -> None:
    """Write ViT-L/16 with random weights, one tensor at a time."""
    random = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> StoredTensor:
        return StoredTensor("F32", shape, lambda: random.standard_normal(shape, np.float32))

    save_checkpoint(folder, LARGE, {row.name: drawn(row.shape) for row in parameters(LARGE, "image-classification")})


def copy_and_pass(source: Path, destination: Path) -> None:
    """Copy a file to the disk, and look at each of its bytes."""
    shutil.copyfile(source, destination)
    with open(destination, "r+b") as file:
        os.fsync(file.fileno())
    content = np.memmap(source, np.uint8, "r")
    content[: content.size // 8 * 8].view(np.uint64).sum()


def run_once(task: str, folder: Path) -> dict[str, float]:
    """Do one task in this process: its seconds, and the peak of this process's memory in bytes."""
    target = folder / "result"
    start = time.perf_counter()
    if task == COPY:
        copy_and_pass(folder / "source" / "model.safetensors", target)
    else:
        convert(folder / "source", target, task.split(",")[0], "bfloat16" if task == HALF else None, compare=False)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def run_in_process(task: str, folder: Path) -> dict[str, float]:
    """Do one task in a new process, and remove what it wrote."""
    command = [sys.executable, __file__, "--folder", str(folder), task]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    target = folder / "result"
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    return result


def main() -> None:
    """Compare, or with --folder do one task for the process that compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="FORMAT", help="formats to write (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is done (default 5)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(run_once(arguments.tasks[0], arguments.folder)))
        return
    tasks = arguments.tasks or [*WRITABLE_NAMES, HALF]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_large_model(folder / "source")
        size = (folder / "source" / "model.safetensors").stat().st_size
        print(f"ViT-L/16, {size / 1e6:.0f} MB, medians of {arguments.rounds} rounds")
        print(f"{'to':28}{'seconds':>9}{'copying':>9}{'ratio':>7}{'peak memory':>14}")
        for task in tasks:
            copies, runs = [], []
            for _ in range(arguments.rounds):
                copies.append(run_in_process(COPY, folder))
                runs.append(run_in_process(task, folder))
            copying, seconds = (statistics.median(each["seconds"] for each in part) for part in (copies, runs))
            memory = max(run["memory"] for run in runs)
            print(f"{task:28}{seconds:9.2f}{copying:9.2f}{seconds / copying:7.2f}{memory / 1e6:11.0f} MB", flush=True)


if __name__ == "__main__":
    main()
