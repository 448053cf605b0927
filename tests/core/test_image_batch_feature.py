import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from vit_core.batch_feature import BatchFeature


def test_items_are_attributes():
    batch = BatchFeature({"pixel_values": 3})
    assert batch.pixel_values == batch["pixel_values"] == batch.data["pixel_values"] == 3
    assert dict(**batch) == {"pixel_values": 3}
    with pytest.raises(AttributeError, match="no labels; it has pixel_values"):
        _ = batch.labels


def test_a_batch_survives_copying_and_pickling():
    batch = BatchFeature({"pixel_values": [1, 2]})
    for again in (copy.copy(batch), copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        assert isinstance(again, BatchFeature)
        assert again == batch


def test_lists_become_one_array():
    batch = BatchFeature({"pixel_values": [np.zeros((3, 2)), np.ones((3, 2))]}).convert_to_tensors("np")
    assert batch.pixel_values.shape == (2, 3, 2)
    assert BatchFeature({"labels": [1, 2]}, tensor_type="np").labels.tolist() == [1, 2]


def test_an_array_is_not_copied():
    array = np.zeros((2, 3))
    assert BatchFeature({"pixel_values": array}, tensor_type="np").pixel_values is array


def test_different_shapes_are_no_tensor():
    with pytest.raises(ValueError, match=r"pixel_values cannot be one tensor: images\[0\] .*\(2,\) and images\[1\]"):
        BatchFeature({"pixel_values": [np.zeros(2), np.zeros(3)]}, tensor_type="np")


def test_an_unknown_tensor_type_is_named():
    with pytest.raises(ValueError, match="return_tensors is 'mx'; it must be"):
        BatchFeature({}, tensor_type="mx")


@pytest.mark.parametrize(
    ("kind", "module", "package"), [("pt", "torch", "torch"), ("tf", "tensorflow", "tensorflow"), ("jax", "jax", "jax")]
)
def test_a_missing_framework_says_what_to_install(monkeypatch, kind, module, package):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f'return_tensors="{kind}" needs {package}.*pip install {package}'):
        BatchFeature({"pixel_values": np.zeros(3)}, tensor_type=kind)


def test_arrays_cannot_be_moved():
    with pytest.raises(TypeError, match='pixel_values is a ndarray.*return_tensors="pt"'):
        BatchFeature({"pixel_values": np.zeros(3)}).to("cpu")


def test_no_framework_is_loaded():
    code = (
        "import sys, numpy as np; from vit_core import ViTImageProcessor\n"
        "ViTImageProcessor(size=4)(np.zeros((4, 4, 3), 'uint8'), return_tensors='np')\n"
        "print({'torch', 'tensorflow', 'jax', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
