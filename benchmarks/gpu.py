"""Measures forward passes on a graphics card, in one call: `python -m benchmarks.gpu`.

PyTorch with eager attention, with scaled dot product attention, compiled, as a CUDA graph and both; JAX; transformers 5
and timm beside them where they are installed; and the card's own matrix products at the models' shapes. All of it in
float32, TF32, bfloat16 and float16. What a machine cannot do, such as CUDA graphs without a card, is listed as left
out. Everything runs in this Python: `pip install -c constraints.txt ".[torch,flax]" "transformers==5.*" timm`, with
the builds of PyTorch and JAX that know the card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.models import IMAGE, VITS
from benchmarks.processes import QUIET, ROOT
from benchmarks.run import conditions, run
from benchmarks.subjects.card import BATCHES, DTYPES, MODELS, SUBJECT, WAYS, rows
from benchmarks.tables import as_text

MINUTES = 9
OUTPUT = ROOT / "build" / "gpu.json"
#: Here the card is looked for, and what JAX takes of its memory is what it needs.
WITH_CARD = {name: value for name, value in QUIET.items() if name not in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")} | {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false"
}
CARD = "import json, torch; print(json.dumps(torch.cuda.get_device_name() if torch.cuda.is_available() else None))"


def main() -> None:
    """Measure all that is asked for, print it and write it."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=VITS, help="which (default: %(default)s)")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="images (default: %(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES, help="types (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", default=tuple(WAYS), choices=WAYS, help="in PyTorch (default: all)")
    parser.add_argument("--image", type=int, default=IMAGE, help="height and width of images (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long, more or less (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON to write (default: %(default)s)")
    options = parser.parse_args()
    card = card_name()
    device = "cuda" if card else "cpu"
    wanted = [
        (SUBJECT, list(rows(options.models, options.batches, options.dtypes, options.ways, device, options.image)))
    ]
    pythons = {"trivit": sys.executable}
    here = conditions(wanted, pythons)
    here["machine"] |= {"card": card}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for so_far in run(wanted, options.minutes, pythons, tell, variables=WITH_CARD if card else QUIET):
        results.write(options.output, {**here, **so_far})
    print(as_text(results.read(options.output)))


def tell(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def card_name() -> str | None:
    """What the card is called, by a process of its own, which leaves none of its memory taken; None without one."""
    return json.loads(subprocess.run([sys.executable, "-c", CARD], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
