"""A file of weights is written over, or cut short, while a model or checkpoint that was loaded from it lives."""

import shutil
import zipfile

import numpy as np
import pytest

from conversion import convert, load
from conversion.containers.weights_file import read_weights
from vit_core.file_bytes import file_bytes

#: A format for each kind of file that is written.
FORMATS = {
    "transformers": "model.safetensors",
    "timm": "vit.pth",
    "google": "vit.npz",
    "transformers-tf": "tf_model.h5",
    "transformers-flax": "flax_model.msgpack",
}


def write_over(path):
    """What `cp` does with another file, and a full disk or `truncate` afterwards."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(bytes(size))
        yield
        file.truncate(0)
        yield


@pytest.mark.parametrize("form", FORMATS)
def test_checkpoint_in_memory_keeps_its_values(tmp_path, form):
    path = tmp_path / FORMATS[form]
    source = load(convert("bundled/vit-digits", path, form).destination, num_attention_heads=4, mmap=False)
    expected = {name: tensor.numpy().copy() for name, tensor in source.tensors.items()}
    for _ in write_over(path):
        for name, tensor in source.tensors.items():
            np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_keras_file_in_memory_keeps_its_values(tmp_path):
    path = tmp_path / "model.keras"
    weights = convert("bundled/vit-digits", tmp_path / "tf_model.h5", "transformers-tf").destination
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, "model.weights.h5")
    tensors = read_weights(path, mmap=False)
    expected = {name: tensor.read().copy() for name, tensor in tensors.items()}
    for _ in write_over(path):
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor.read(), expected[name])


def test_new_file_in_the_place_of_the_old_one_changes_no_mapped_checkpoint(tmp_path):
    path = convert("bundled/vit-digits", tmp_path / "model.safetensors").destination
    mapped = load(path, num_attention_heads=4)
    expected = {name: tensor.numpy().copy() for name, tensor in mapped.tensors.items()}
    (tmp_path / "new").write_bytes(bytes(path.stat().st_size))
    shutil.move(tmp_path / "new", path)
    for name, tensor in mapped.tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_file_that_is_cut_short_while_it_is_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(bytes(100))
    with open(tmp_path / "weights", "rb") as file:
        empty = np.empty

        def cut(*arguments):
            (tmp_path / "weights").write_bytes(bytes(60))
            return empty(*arguments)

        monkeypatch.setattr(np, "empty", cut)
        with pytest.raises(OSError, match=r"weights ends 40 bytes earlier than when it was opened"):
            file_bytes(file, 10, mmap=False)
