"""What is written is the same bytes in every process, whatever the seed of Python's hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conversion.format_names import WRITABLE_NAMES

SEEDS = ("0", "1", "2")
#: The checkpoint that is written; and, in formats that have no place for a ViT, another.
SOURCE = "hf_vit_classifier"
SOURCES = {
    "mae": "hf_vit_mae",
    "clip": "clip_original/clip.pt",
    "open-clip": "clip_original/clip.pt",
    "dinov2": "hf_dinov2",
    "dinov3": "hf_dinov3",
    "big-vision-siglip": "hf_siglip_vision",
}
PROGRAM = """
import json
import sys
import conversion
from vit_core import ViTConfig, ViTImageProcessor

fixtures, source, sources, folder = sys.argv[1:]
for name, each in json.loads(sources).items():
    fields = {"num_attention_heads": 4} if "clip" in each else {}  # which that file does not tell
    conversion.convert(f"{fixtures}/{each}", f"{folder}/{name}", to=name, compare=False, **fields)
source = f"{fixtures}/{source}"
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
        sources = json.dumps({name: SOURCES.get(name, SOURCE) for name in WRITABLE_NAMES})
        arguments = [str(fixture_folder), SOURCE, sources, str(folder)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment, check=True)
        files = (path for path in folder.rglob("*") if path.is_file())
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    return found


@pytest.mark.parametrize("name", [*WRITABLE_NAMES, "config", "processor"])
def test_every_process_writes_the_same_bytes(written: list[dict[str, bytes]], name: str) -> None:
    first, *others = ({file: data for file, data in each.items() if Path(file).parts[0] == name} for each in written)
    assert first
    assert all(other == first for other in others)
