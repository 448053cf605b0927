"""How long ViT-B/16 takes to load from safetensors, and how much memory once every weight was touched.

Where transformers is installed it loads the same folder in turn. Usage: python benchmarks/loading.py [--runs N]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import torch

import vit_torch


def resident_memory() -> int:
    """Bytes of memory that this process has in use (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS; this benchmark needs Linux.")


def load(package: str, folder: str) -> tuple[float, int]:
    """Seconds to load, and bytes of new memory after each weight was read."""
    model_class = importlib.import_module(package).ViTForImageClassification
    gc.collect()
    before, start = resident_memory(), time.perf_counter()
    model = model_class.from_pretrained(folder)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sum()
    return seconds, resident_memory() - before


def main() -> None:
    """Load alternately, so that a busy machine slows both alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="loads by each package (default 7)")
    runs = parser.parse_args().runs
    packages = [name for name in ("vit_torch", "transformers") if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        vit_torch.ViTForImageClassification(vit_torch.ViTConfig(num_labels=1000)).save_pretrained(folder)
        weights = (Path(folder) / "model.safetensors").stat().st_size
        for package in packages:  # the first load warms imports and the disk cache
            load(package, folder)
        results = {package: [] for package in packages}
        for _ in range(runs):
            for package in packages:
                results[package].append(load(package, folder))
    print(f"ViT-B/16, {weights / 1e6:.0f} MB of weights, {runs} loads each, medians")
    for package, loads in results.items():
        seconds, memory = (statistics.median(column) for column in zip(*loads, strict=True))
        print(f"{package:14}{seconds:8.3f} s{memory / weights:8.2f} times the weights in new memory")


if __name__ == "__main__":
    main()
