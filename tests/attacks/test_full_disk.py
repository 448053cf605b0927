"""A disk is full, and each writer stops at another place: within its weights, or in what stands around them."""

import os
import re

import numpy as np
import pytest
from disks import largest_file

from conversion import convert
from conversion.containers.weights_file import CONTAINERS
from vit_cli.feature_files import WRITERS
from vit_cli.picture import new_figure, write_picture
from vit_cli.unfinished_features import unfinished_features
from vit_core import ViTConfig
from vit_core.checkpoint import save_checkpoint
from vit_core.stored_tensor import from_numpy

CONFIG = ViTConfig(hidden_size=8, num_attention_heads=2)
WEIGHTS = {f"layer/{number}/kernel": from_numpy(np.full((40, 50), number, "f4")) for number in range(5)}
SIZE = sum(tensor.nbytes for tensor in WEIGHTS.values())
WRITTEN = [name for name, container in CONTAINERS.items() if container.write]


@pytest.mark.parametrize("kind", WRITTEN)
def test_checkpoint_that_finds_no_place_is_one_sentence_and_leaves_the_old_one(tmp_path, kind):
    name, write = f"model{CONTAINERS[kind].suffixes[0]}", CONTAINERS[kind].write
    save_checkpoint(tmp_path, CONFIG, WEIGHTS, weights_name=name, write=write)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    whole = len(before[name])
    assert whole >= SIZE
    sentence = f"cannot save to {re.escape(str(tmp_path))}: File too large; what was there before is unchanged[.]"
    for limit in (0, 100, SIZE // 2, whole - 600, whole - 1):
        with largest_file(limit), pytest.raises(OSError, match=f"^{sentence}$"):
            save_checkpoint(tmp_path, CONFIG, WEIGHTS, weights_name=name, write=write)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert not open_files(tmp_path), "a file that is open keeps its space"


@pytest.mark.parametrize("suffix", WRITERS)
def test_features_that_find_no_place_are_one_sentence_and_are_kept(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / f"features{suffix}"
    values = np.random.default_rng(0).random((50, 30), np.float32)
    run = {}, (30,), None, False

    def write():
        with unfinished_features(output, *run) as features:
            features.add(50, values, [f"{number}.png" for number in range(50)], [])
            with largest_file(4000):
                features.finish(output, {})

    with pytest.raises(OSError, match="File too large") as error:
        write()
    assert (error.value.filename, error.value.strerror) == (str(output), "File too large")
    with unfinished_features(output, *run) as features:
        assert features.done == 50
        features.finish(output, {})
    assert output.stat().st_size > values.nbytes


def test_conversion_that_finds_no_place_is_one_sentence_and_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with (
        largest_file(1000),
        pytest.raises(OSError, match=f"^cannot save to {out}: File too large; .* unchanged[.]$"),
    ):
        convert("bundled/vit-digits", out)
    assert not list(tmp_path.iterdir())


def test_picture_that_finds_no_place_is_one_sentence_and_leaves_nothing(tmp_path):
    path = tmp_path / "picture.png"
    with (
        largest_file(100),
        pytest.raises(OSError, match=f"^cannot save to {path}: File too large; .* unchanged[.]$"),
    ):
        write_picture(new_figure(1, 1, 10), path)
    assert not list(tmp_path.iterdir())


def open_files(folder):
    """What this process has open in a folder, removed or not (Linux)."""
    found = []
    for descriptor in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return [path for path in found if path.startswith(str(folder))]
