"""What is written is the same bytes in every process, whatever the seed of Python's hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conversion.format_names import WRITABLE_NAMES

SEEDS = ("0", "1", "2")
PROGRAM = """
import sys
import conversion
from conversion.format_names import WRITABLE_NAMES
from vit_core import ViTConfig, ViTImageProcessor

source, autoencoder, folder = sys.argv[1:]
for name in WRITABLE_NAMES:
    conversion.convert(autoencoder if name == "mae" else source, f"{folder}/{name}", to=name, compare=False)
config = ViTConfig.from_pretrained(source, problem_type="multi_label_classification", output_attentions=True)
config.save_pretrained(f"{folder}/config")
ViTImageProcessor.from_pretrained(source, do_resize=False).save_pretrained(f"{folder}/processor")
"""


@pytest.fixture(scope="module")
def written(fixture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The files that a process with each seed writes, by their names."""
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"seed{seed}")
        sources = [str(fixture_folder / name) for name in ("hf_vit_classifier", "hf_vit_mae")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", PROGRAM, *sources, str(folder)], env=environment, check=True)
        files = (path for path in folder.rglob("*") if path.is_file())
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    return found


@pytest.mark.parametrize("name", [*WRITABLE_NAMES, "config", "processor"])
def test_every_process_writes_the_same_bytes(written: list[dict[str, bytes]], name: str) -> None:
    first, *others = ({file: data for file, data in each.items() if Path(file).parts[0] == name} for each in written)
    assert first
    assert all(other == first for other in others)
